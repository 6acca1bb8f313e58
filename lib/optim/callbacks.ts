import { AlambicError } from '../errors.js'
import { isPromise } from '../checks/realms.js'

/**
 * For functions whose result is needed at once.
 *
 * @param expected what has to be returned, for the message
 * @throws AlambicError `ERR_ASYNC_CALLBACK` for a promise, and for what `async function*` returns
 */
export function refuseAsync(what: string, expected: string, result: unknown): void {
  if (!isPromise(result) && Object.prototype.toString.call(result) !== '[object AsyncGenerator]') return
  // Nobody waits for it: its rejection would end the process.
  if (isPromise(result)) result.then(undefined, () => undefined)
  throw new AlambicError(
    'ERR_ASYNC_CALLBACK',
    `${what}: expected a function that returns ${expected}, got one that returns a promise; make it a plain function, ` +
      'and await beforehand what it needs',
  )
}
