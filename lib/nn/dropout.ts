import type { NativeLayers } from '../native/contract.js'
import { native } from '../native/loader.js'
import { boolean, readOptions, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import { inputHandle } from './layer.js'
import { Module } from './module.js'

export interface DropoutOptions {
  /** Write the result into the input. Default: false. */
  inplace?: boolean
}

const dropoutOptions: Kinds<DropoutOptions> = { inplace: boolean }

abstract class DropoutLayer extends Module<[Tensor], Tensor> {
  readonly p: number
  readonly inplace: boolean
  readonly #layer: InstanceType<NativeLayers['Dropout']>

  protected constructor(wholeChannels: boolean, p: number, options: DropoutOptions) {
    super()
    const { inplace = false } = readOptions(this.constructor.name, options, dropoutOptions)
    this.p = p
    this.inplace = inplace
    this.#layer = new native.Dropout({ name: this.constructor.name, p, wholeChannels, inplace })
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(this.training, inputHandle(this, x)))
  }

  protected override describe(): string {
    return `p=${this.p}, inplace=${this.inplace}`
  }
}

/**
 * In training sets each element to zero with probability `p` and multiplies the others by 1 / (1 − p); in eval mode
 * changes nothing. Any shape. As `torch.nn.Dropout`; Srivastava et al., "Dropout" (2014).
 *
 * @throws AlambicError `ERR_ARGUMENT` for a probability outside of 0 to 1
 */
export class Dropout extends DropoutLayer {
  /** @param p default: 0.5 */
  constructor(p = 0.5, options: DropoutOptions = {}) {
    super(false, p, options)
  }
}

/**
 * {@link Dropout} of whole channels: (N, C, H, W), or as in PyTorch (N, C, L). As `torch.nn.Dropout2d`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a probability outside of 0 to 1, `ERR_SHAPE_MISMATCH` for another rank
 */
export class Dropout2d extends DropoutLayer {
  /** @param p default: 0.5 */
  constructor(p = 0.5, options: DropoutOptions = {}) {
    super(true, p, options)
  }
}
