import { AlambicError } from '../errors.js'

/** The error for a state dict that does not fit. */
export function stateError(message: string): AlambicError {
  return new AlambicError('ERR_STATE_DICT', `loadStateDict: ${message}`)
}
