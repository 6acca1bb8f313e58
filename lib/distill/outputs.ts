/** What the modules of a training gave: another thing than promised is said of the one that gave it. */
import { AlambicError, argumentError } from '../errors.js'
import { isPromise } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import type { LossParts } from './fit.js'

/**
 * The logits that a model's forward gave.
 *
 * @param who `the student`
 * @throws AlambicError `ERR_ASYNC_CALLBACK` for a promise, `ERR_ARGUMENT` for anything else but a tensor
 */
export function requireLogits(who: string, output: unknown): Tensor {
  if (output instanceof Tensor) return output
  refuseAsync(who, output)
  throw argumentError(`${who}: forward`, 'a tensor of logits (N, classes)', output)
}

/** @throws AlambicError `ERR_ASYNC_CALLBACK` for a promise */
export function refuseAsync(who: string, output: unknown): void {
  if (output instanceof Tensor || !isPromise(output)) return
  if (output instanceof Promise) output.catch(() => undefined) // nobody waits for it
  throw new AlambicError(
    'ERR_ASYNC_CALLBACK',
    `${who}: expected a synchronous forward, got one that returns a promise; a step is computed in one go`,
  )
}

/**
 * What a loss gave.
 *
 * @throws AlambicError `ERR_ASYNC_CALLBACK` for a promise, `ERR_ARGUMENT` for anything but an object of tensors with
 *   `total` among them
 */
export function checkParts(parts: LossParts): LossParts {
  const given: unknown = parts
  if (typeof given !== 'object' || given === null || !('total' in given)) {
    refuseAsync('the loss', given)
    throw argumentError('the loss: forward', '{ total, … } of tensors with one element', given)
  }
  for (const [name, part] of Object.entries(given))
    if (!(part instanceof Tensor)) throw argumentError(`the loss: ${name}`, 'a tensor with one element', part)
  return parts
}
