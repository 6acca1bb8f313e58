/** Hooks of tensors: functions that see, and may replace, a gradient on its way. */
import { callback, requireKind } from '../checks/options.js'
import { AlambicError, argumentError } from '../errors.js'
import { refusePromise } from '../memory/memory.js'
import type { Handle } from '../native/contract.js'
import { native } from '../native/loader.js'
import { Tensor } from './tensor.js'

/** Returns the gradient to go on with, of the same shape, or nothing to leave it as it is. */
export type TensorHook = (gradient: Tensor) => Tensor | null | undefined | void

/** What {@link Tensor.registerHook} returns. */
export interface HookHandle {
  /** The hook runs no more. May be called again. */
  remove(): void
  [Symbol.dispose](): void
}

const hooks = new Map<number, TensorHook>()
let lastNumber = 0

/** What a hook threw, while libtorch takes its own error to the caller. */
const thrown: { errors: unknown[] } = { errors: [] }

export function registerHook(tensor: Tensor, hook: TensorHook): HookHandle {
  requireKind('registerHook: hook', callback, hook)
  for (const number of native.forgottenHooks()) hooks.delete(number)
  const number = ++lastNumber
  const position = native.registerHook(tensor.handle, number, runHook)
  hooks.set(number, hook)
  const remove = () => {
    if (hooks.delete(number) && !tensor.isDisposed) native.removeHook(tensor.handle, position)
  }
  return { remove, [Symbol.dispose]: remove }
}

/** Called by native code; nothing may be thrown there. */
function runHook(number: number, handle: Handle): Handle {
  const gradient = new Tensor(handle)
  const hook = hooks.get(number)
  if (hook === undefined) {
    gradient.dispose()
    return 0
  }
  try {
    return replacement(hook(gradient))
  } catch (error) {
    thrown.errors.push(error)
    return -1
  }
}

function replacement(result: unknown): Handle {
  refusePromise(
    'registerHook',
    result,
    "a gradient cannot wait: compute the hook's result synchronously, and start what is asynchronous without returning it",
  )
  if (result === undefined || result === null) return 0
  if (!(result instanceof Tensor))
    throw argumentError('registerHook: result of the hook', 'a tensor or nothing', result)
  if (result.isDisposed)
    throw new AlambicError(
      'ERR_TENSOR_RELEASED',
      'registerHook: the hook returned a tensor that was released',
    )
  return result.handle
}

/** Runs what computes gradients. What a hook throws there is thrown as it is. */
export function withHooks<T>(compute: () => T): T {
  const outer = thrown.errors
  thrown.errors = []
  try {
    return compute()
  } catch (error) {
    throw thrown.errors.length > 0 ? thrown.errors[0] : error
  } finally {
    thrown.errors = outer
  }
}
