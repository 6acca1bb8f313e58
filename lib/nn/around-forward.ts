import type { Module } from './module.js'

type Forward = (...inputs: unknown[]) => unknown

/** What was the object's own forward before, by what was put around it. */
const wrapped = new WeakMap<object, unknown>()

/**
 * Puts `around` in the place of a module's forward, which it is given to call, until the returned function is called.
 * Several may be put around each other, and around hooks; they are taken off in the opposite order. A network that can
 * do without the call of a layer, because it does the layer's work in another way, may pass it by.
 */
export function aroundForward(
  module: Module,
  around: (forward: Forward, inputs: unknown[]) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(module, 'forward')
  const forward = module.forward.bind(module) as Forward
  const value: Forward = (...inputs) => around(forward, inputs)
  wrapped.set(value, before?.value)
  Object.defineProperty(module, 'forward', { configurable: true, enumerable: false, writable: true, value })
  return () => {
    if (before) Object.defineProperty(module, 'forward', before)
    else delete (module as { forward?: unknown }).forward
  }
}

/** Whether the module has a forward that its class has not: it must be called. */
export function hasOwnForward(module: Module): boolean {
  let own: unknown = Object.getOwnPropertyDescriptor(module, 'forward')?.value
  while (typeof own === 'function' && wrapped.has(own)) own = wrapped.get(own)
  return own !== undefined
}
