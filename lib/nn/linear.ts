import type { NativeLayers } from '../native/contract.js'
import { native } from '../native/loader.js'
import { boolean, readOptions, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import { resetLinearMap } from './conv.js'
import { emptyParameter, inputHandle, placement, type Placement } from './layer.js'
import { Module } from './module.js'
import type { Parameter } from './parameter.js'

export interface LinearOptions extends Placement {
  /** Whether there is a bias. Default: true. */
  bias?: boolean
}

const linearOptions: Kinds<LinearOptions> = { bias: boolean, ...placement }

/**
 * x · weightᵀ + bias: (…, inFeatures) → (…, outFeatures). As `torch.nn.Linear`.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` or `ERR_DTYPE` from forward
 */
export class Linear extends Module<[Tensor], Tensor> {
  /** (outFeatures, inFeatures) */
  weight: Parameter
  /** (outFeatures) */
  bias: Parameter | null

  readonly #layer: InstanceType<NativeLayers['Linear']>

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super()
    const { bias = true, device, dtype } = readOptions(this.constructor.name, options, linearOptions)
    this.#layer = new native.Linear({ name: this.constructor.name, inFeatures, outFeatures })
    this.weight = emptyParameter([outFeatures, inFeatures], { device, dtype })
    this.bias = bias ? emptyParameter([outFeatures], { device, dtype }) : null
    this.resetParameters()
  }

  /** New random values, as PyTorch draws them. */
  resetParameters(): void {
    resetLinearMap(this.weight, this.bias)
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x), this.weight.handle, this.bias?.handle))
  }

  protected override describe(): string {
    return `inFeatures=${this.inFeatures}, outFeatures=${this.outFeatures}, bias=${this.bias !== null}`
  }
}
