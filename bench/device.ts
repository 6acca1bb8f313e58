/** Where a benchmark runs, and how it waits for what it started there. */
import { scope, zeros, type Device } from '../lib/index.js'

export function isGpu(device: Device): boolean {
  return device !== 'cpu'
}

/**
 * Calls on a GPU return before it is done, and clocks must not be read before. Reading a value waits for all that was
 * started before it on the current stream.
 */
export function synchronize(device: Device): void {
  if (isGpu(device)) scope(() => zeros([1], { device }).item())
}
