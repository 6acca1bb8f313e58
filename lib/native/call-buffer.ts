import { native } from './loader.js'

/** Where calls lie for native code; see {@link NativeAddon.callBuffer}. Another one after {@link reserve}. */
export let callBuffer: Float64Array<ArrayBuffer> = new Float64Array(0)

/**
 * How often the buffer was begun anew. A program's own code may run while a call is being written (a getter, a proxy)
 * and make calls itself, in the same buffer: who finds another number than at its beginning has to write again.
 */
export let claims = 0

/** Begins anew, with place for `length` numbers. Returns the number of this claim. */
export function claim(length: number): number {
  reserve(length)
  return ++claims
}

/** Makes place for `length` numbers; what is in the buffer stays. */
export function reserve(length: number): void {
  if (length <= callBuffer.length) return
  const bigger = native.callBuffer(Math.max(2 * length, 1024))
  bigger.set(callBuffer)
  callBuffer = bigger
}
