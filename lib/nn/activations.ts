import type { Tensor } from '../tensor.js'
import { torch } from '../torch/index.js'
import { refuseUnknownOptions } from './layer.js'
import { Module } from './module.js'

export interface InplaceOption {
  /** Write the result into the input. Default: false. */
  inplace?: boolean
}

/** An activation that can write into its input. Any shape. */
abstract class InplaceActivation extends Module<[Tensor], Tensor> {
  readonly inplace: boolean

  constructor({ inplace = false, ...unknown }: InplaceOption = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['inplace'])
    this.inplace = inplace
  }

  protected override describe(): string {
    return this.inplace ? 'inplace=true' : ''
  }
}

/** max(x, 0). As `torch.nn.ReLU`. */
export class ReLU extends InplaceActivation {
  override forward(x: Tensor): Tensor {
    return this.inplace ? torch.relu_(x) : torch.relu(x)
  }
}

/** min(max(x, 0), 6). As `torch.nn.ReLU6`. */
export class ReLU6 extends InplaceActivation {
  override forward(x: Tensor): Tensor {
    return this.inplace ? torch.relu6_(x) : torch.relu6(x)
  }
}

/** x · sigmoid(x). As `torch.nn.SiLU`. */
export class SiLU extends InplaceActivation {
  override forward(x: Tensor): Tensor {
    return this.inplace ? torch.silu_(x) : torch.silu(x)
  }
}

/** x · relu6(x + 3) / 6. As `torch.nn.Hardswish`. */
export class Hardswish extends InplaceActivation {
  override forward(x: Tensor): Tensor {
    return this.inplace ? torch.hardswish_(x) : torch.hardswish(x)
  }
}

/** relu6(x + 3) / 6. As `torch.nn.Hardsigmoid`. */
export class Hardsigmoid extends InplaceActivation {
  override forward(x: Tensor): Tensor {
    return this.inplace ? torch.hardsigmoid_(x) : torch.hardsigmoid(x)
  }
}

/** x where positive, `negativeSlope · x` elsewhere. As `torch.nn.LeakyReLU`. */
export class LeakyReLU extends Module<[Tensor], Tensor> {
  readonly negativeSlope: number
  readonly inplace: boolean

  /** @param options `negativeSlope`: default 0.01 */
  constructor({
    negativeSlope = 0.01,
    inplace = false,
    ...unknown
  }: InplaceOption & { negativeSlope?: number } = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['negativeSlope', 'inplace'])
    this.negativeSlope = negativeSlope
    this.inplace = inplace
  }

  override forward(x: Tensor): Tensor {
    const { negativeSlope } = this
    return this.inplace ? torch.leakyRelu_(x, { negativeSlope }) : torch.leakyRelu(x, { negativeSlope })
  }

  protected override describe(): string {
    return `negativeSlope=${this.negativeSlope}${this.inplace ? ', inplace=true' : ''}`
  }
}

/** x · Φ(x), with Φ the normal distribution function. As `torch.nn.GELU`. */
export class GELU extends Module<[Tensor], Tensor> {
  readonly approximate: 'none' | 'tanh'

  /** @param options `approximate: 'tanh'` for the faster approximation of Φ; default: `'none'` */
  constructor({ approximate = 'none', ...unknown }: { approximate?: 'none' | 'tanh' } = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['approximate'])
    this.approximate = approximate
  }

  override forward(x: Tensor): Tensor {
    return torch.gelu(x, { approximate: this.approximate })
  }

  protected override describe(): string {
    return `approximate='${this.approximate}'`
  }
}

/** 1 / (1 + e⁻ˣ). As `torch.nn.Sigmoid`. */
export class Sigmoid extends Module<[Tensor], Tensor> {
  override forward(x: Tensor): Tensor {
    return torch.sigmoid(x)
  }
}

/** Hyperbolic tangent. As `torch.nn.Tanh`. */
export class Tanh extends Module<[Tensor], Tensor> {
  override forward(x: Tensor): Tensor {
    return torch.tanh(x)
  }
}

/** Exponentials that sum to 1 along a dimension. As `torch.nn.Softmax`. */
export class Softmax extends Module<[Tensor], Tensor> {
  /** @param dim along which the results sum to 1; negative counts from the last */
  constructor(readonly dim: number) {
    super()
  }

  override forward(x: Tensor): Tensor {
    return torch.softmax(x, this.dim)
  }

  protected override describe(): string {
    return `dim=${this.dim}`
  }
}
