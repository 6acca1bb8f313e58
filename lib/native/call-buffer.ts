import { native } from './loader.js'

/** Where calls lie for native code; see {@link NativeAddon.callBuffer}. Another one after {@link reserve}. */
export let callBuffer: Float64Array<ArrayBuffer> = new Float64Array(0)

/** Makes place for `length` numbers; what is in the buffer stays. */
export function reserve(length: number): void {
  if (length <= callBuffer.length) return
  const bigger = native.callBuffer(Math.max(2 * length, 1024))
  bigger.set(callBuffer)
  callBuffer = bigger
}
