import type { Tensor } from '../tensor.js'
import { torch } from '../torch/index.js'
import { interpolate, type InterpolateOptions } from './functional.js'
import { refuseUnknownOptions, tuple } from './layer.js'
import { Module } from './module.js'

/** Passes its input on. As `torch.nn.Identity`. */
export class Identity extends Module<[Tensor], Tensor> {
  override forward(x: Tensor): Tensor {
    return x
  }
}

/** Joins dimensions `startDim` to `endDim`: (N, C, H, W) → (N, C · H · W). As `torch.nn.Flatten`. */
export class Flatten extends Module<[Tensor], Tensor> {
  readonly startDim: number
  readonly endDim: number

  /** @param options `startDim`: default 1; `endDim`: default −1, the last */
  constructor({ startDim = 1, endDim = -1, ...unknown }: { startDim?: number; endDim?: number } = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['startDim', 'endDim'])
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

/** Resizes (N, C, …) features, see {@link interpolate}. As `torch.nn.Upsample`. */
export class Upsample extends Module<[Tensor], Tensor> {
  constructor(readonly options: InterpolateOptions) {
    super()
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
