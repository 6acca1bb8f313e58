import type { Module } from './module.js'

/**
 * Puts `around` in the place of a module's forward, which it is given to call, until the returned function is called.
 * Several may be put around each other, and around hooks; they are taken off in the opposite order.
 */
export function aroundForward(
  module: Module,
  around: (forward: (...inputs: unknown[]) => unknown, inputs: unknown[]) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(module, 'forward')
  const forward = module.forward.bind(module) as (...inputs: unknown[]) => unknown
  Object.defineProperty(module, 'forward', {
    configurable: true,
    enumerable: false,
    writable: true,
    value: (...inputs: unknown[]) => around(forward, inputs),
  })
  return () => {
    if (before) Object.defineProperty(module, 'forward', before)
    else delete (module as { forward?: unknown }).forward
  }
}
