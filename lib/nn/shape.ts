import type { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import { integer, readOptions, type Kinds } from '../checks/options.js'
import { interpolate, type InterpolateOptions } from './functional.js'
import { tuple } from './layer.js'
import { checkResize, interpolateOptions } from './option-kinds.js'
import { Module } from './module.js'

/** Passes its input on. As `torch.nn.Identity`. */
export class Identity extends Module<[Tensor], Tensor> {
  override forward(x: Tensor): Tensor {
    return x
  }
}

interface FlattenOptions {
  startDim?: number
  endDim?: number
}

const flattenOptions: Kinds<FlattenOptions> = { startDim: integer(), endDim: integer() }

/** Joins dimensions `startDim` to `endDim`: (N, C, H, W) → (N, C · H · W). As `torch.nn.Flatten`. */
export class Flatten extends Module<[Tensor], Tensor> {
  readonly startDim: number
  readonly endDim: number

  /** @param options `startDim`: default 1; `endDim`: default −1, the last */
  constructor(options: FlattenOptions = {}) {
    super()
    const { startDim = 1, endDim = -1 } = readOptions(this.constructor.name, options, flattenOptions)
    this.startDim = startDim
    this.endDim = endDim
  }

  override forward(x: Tensor): Tensor {
    return torch.flatten(x, { startDim: this.startDim, endDim: this.endDim })
  }

  protected override describe(): string {
    return `startDim=${this.startDim}, endDim=${this.endDim}`
  }
}

/**
 * Resizes (N, C, …) features, see {@link interpolate}. As `torch.nn.Upsample`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for options that {@link interpolate} refuses whatever the input
 */
export class Upsample extends Module<[Tensor], Tensor> {
  constructor(readonly options: InterpolateOptions) {
    super()
    const given: InterpolateOptions = readOptions(this.constructor.name, options, interpolateOptions)
    checkResize(this.constructor.name, given)
  }

  override forward(x: Tensor): Tensor {
    return interpolate(x, this.options)
  }

  protected override describe(): string {
    const { size = null, scaleFactor = null, mode = 'nearest' } = this.options
    const [name, value] = size === null ? ['scaleFactor', scaleFactor] : ['size', size]
    return `${name}=${Array.isArray(value) ? tuple(value as number[]) : String(value)}, mode='${mode}'`
  }
}
