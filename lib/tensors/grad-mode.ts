/** Whether operations are recorded for gradients, in this thread. */
import { callback, requireKind } from '../checks/options.js'
import { refusePromise } from '../memory/memory.js'
import { native } from '../native/loader.js'

/**
 * Runs `body` without recording operations, and returns its result.
 *
 * @throws AlambicError `ERR_ASYNC_CALLBACK` when `body` returns a promise: the mode belongs to the thread
 */
export function noGrad<T>(body: () => T): T {
  return withGradMode('noGrad', false, body)
}

/**
 * Runs `body` with recording of operations, also inside {@link noGrad}, and returns its result. As `torch.enable_grad`.
 */
export function enableGrad<T>(body: () => T): T {
  return withGradMode('enableGrad', true, body)
}

/** Whether operations are being recorded in this thread. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled()
}

function withGradMode<T>(what: string, enabled: boolean, body: () => T): T {
  requireKind(`${what}: body`, callback, body)
  const before = native.setGradEnabled(enabled)
  try {
    const result = body()
    refusePromise(what, result)
    return result
  } finally {
    native.setGradEnabled(before)
  }
}
