import { refusePromise } from '../memory/memory.js'
import { native } from '../native/loader.js'
import { boolean, callback, device, oneOf, readOptions, requireKind, type Kinds } from '../checks/options.js'
import type { Device } from '../tensors/types.js'

export interface AutocastOptions {
  /** `'cpu'` or `'cuda'`; a single CUDA device means all of them. Default: `'cpu'`. */
  device?: Device
  /** Default: `'bfloat16'` on the CPU, `'float16'` on CUDA. */
  dtype?: 'bfloat16' | 'float16'
  /** false switches it off inside another `autocast`. Default: true. */
  enabled?: boolean
}

const autocastOptions: Kinds<AutocastOptions> = {
  device,
  dtype: oneOf('bfloat16', 'float16'),
  enabled: boolean,
}

/**
 * Runs `body` in mixed precision, and returns its result: convolutions and matrix products compute in `dtype`,
 * operators that need precision (losses, softmax) in float32, all others in the dtype of their arguments. Parameters
 * stay float32. As `torch.autocast`: put the forward and the loss inside, `backward()` and the optimizer outside.
 *
 * @throws AlambicError `ERR_DEVICE` for a device without it; `ERR_ARGUMENT` for another dtype;
 *   `ERR_ASYNC_CALLBACK` when `body` returns a promise: the mode belongs to the thread
 * @example const loss = autocast({ device: 'cpu' }, () => nn.functional.crossEntropy(model.forward(x), labels))
 */
export function autocast<T>(options: AutocastOptions, body: () => T): T {
  const given = readOptions('autocast', options, autocastOptions)
  requireKind('autocast: body', callback, body)
  const { device = 'cpu', enabled = true } = given
  const { dtype = device.startsWith('cuda') ? 'float16' : 'bfloat16' } = given
  const before = native.setAutocast(device, enabled ? dtype : null)
  try {
    const result = body()
    refusePromise('autocast', result)
    return result
  } finally {
    native.setAutocast(device, before)
  }
}
