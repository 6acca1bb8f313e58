import { native } from '../native/loader.js'
import { Tensor } from '../tensors/tensor.js'
import { boolean, number, readOptions, type Kinds } from '../checks/options.js'
import { handlesOf, toList } from './params.js'

export interface ClipGradNormOptions {
  /** The p of the p-norm; `Infinity` for the largest absolute value. Default: 2. */
  normType?: number
  /** An error for a norm that is infinite or NaN; waits for the device. Default: false. */
  errorIfNonfinite?: boolean
}

const clipOptions: Kinds<ClipGradNormOptions> = { normType: number, errorIfNonfinite: boolean }

/**
 * Scales the gradients in place so that the norm of all of them, as one vector, is at most `maxNorm`, as
 * `torch.nn.utils.clip_grad_norm_`. One native call; a GPU is not waited for.
 *
 * @returns the norm before, a tensor with one element; 0 where there are no gradients
 * @throws AlambicError `ERR_NAN_LOSS` for a norm that is not finite, with `errorIfNonfinite`; `ERR_NOT_IMPLEMENTED` for
 *   sparse gradients
 */
export function clipGradNorm_(
  params: Tensor | readonly Tensor[],
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  const { normType = 2, errorIfNonfinite = false } = readOptions('clipGradNorm_', options, clipOptions)
  return new Tensor(native.clipGradNorm(handlesOf(toList(params)), maxNorm, normType, errorIfNonfinite))
}

/**
 * Clamps every element of the gradients in place to [-clipValue, clipValue], as `torch.nn.utils.clip_grad_value_`.
 *
 * @throws AlambicError `ERR_NOT_IMPLEMENTED` for sparse gradients
 */
export function clipGradValue_(params: Tensor | readonly Tensor[], clipValue: number): void {
  native.clipGradValue(handlesOf(toList(params)), clipValue)
}
