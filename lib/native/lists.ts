import { native } from './loader.js'

/** Where lists of numbers and handles lie for native code; see {@link NativeAddon.listBuffer}. */
let buffer = new Float64Array(0)

/** A buffer for at least `length` numbers, with the content of the one before. */
export function listBuffer(length: number): Float64Array<ArrayBuffer> {
  if (length <= buffer.length) return buffer
  const bigger = native.listBuffer(Math.max(2 * length, 1024))
  bigger.set(buffer)
  buffer = bigger
  return buffer
}
