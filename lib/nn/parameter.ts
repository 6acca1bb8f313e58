import type { Handle } from '../native/contract.js'
import { native } from '../native/loader.js'
import { boolean, readOptions } from '../checks/options.js'
import { requireTensor, Tensor } from '../tensors/tensor.js'

const parameterOptions = { requiresGrad: boolean }

/**
 * A tensor that is trained as part of a {@link Module}: `parameters()` lists it. No `scope` releases it; it is alive
 * until nothing refers to it. As `torch.nn.Parameter`.
 */
export class Parameter extends Tensor {
  /** Shares the memory of `data`, without its autograd history. */
  constructor(data: Tensor, options: { requiresGrad?: boolean } = {}) {
    const { requiresGrad = true } = readOptions('Parameter', options, parameterOptions)
    requireTensor('Parameter: data', data)
    const detached = data.detach()
    super(native.alias(detached.handle), false)
    detached.dispose()
    if (requiresGrad) this.requiresGrad = true
  }

  /** Takes over a handle: the parameter is that very tensor, not another one with its data. @internal */
  static adopt(handle: Handle): Parameter {
    const parameter: unknown = Reflect.construct(Tensor, [handle, false], Parameter)
    return parameter as Parameter
  }
}
