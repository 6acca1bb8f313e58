import { argumentError } from '../errors.js'
import type { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import { boolean, finite, integer, oneOf, readOptions, type Kinds } from '../checks/options.js'
import { Module } from './module.js'

export interface InplaceOption {
  /** Write the result into the input. Default: false. */
  inplace?: boolean
}

const inplaceOption: Kinds<InplaceOption> = { inplace: boolean }

/** An activation that can write into its input. Any shape. */
abstract class InplaceActivation extends Module<[Tensor], Tensor> {
  readonly inplace: boolean

  constructor(options: InplaceOption = {}) {
    super()
    const { inplace = false } = readOptions(this.constructor.name, options, inplaceOption)
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

type LeakyOptions = InplaceOption & { negativeSlope?: number }

const leakyOptions: Kinds<LeakyOptions> = { ...inplaceOption, negativeSlope: finite }

/** x where positive, `negativeSlope · x` elsewhere. As `torch.nn.LeakyReLU`. */
export class LeakyReLU extends Module<[Tensor], Tensor> {
  readonly negativeSlope: number
  readonly inplace: boolean

  /** @param options `negativeSlope`: default 0.01 */
  constructor(options: LeakyOptions = {}) {
    super()
    const { negativeSlope = 0.01, inplace = false } = readOptions(
      this.constructor.name,
      options,
      leakyOptions,
    )
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

interface GeluOptions {
  approximate?: 'none' | 'tanh'
}

const geluOptions: Kinds<GeluOptions> = { approximate: oneOf('none', 'tanh') }

/** x · Φ(x), with Φ the normal distribution function. As `torch.nn.GELU`. */
export class GELU extends Module<[Tensor], Tensor> {
  readonly approximate: 'none' | 'tanh'

  /** @param options `approximate: 'tanh'` for the faster approximation of Φ; default: `'none'` */
  constructor(options: GeluOptions = {}) {
    super()
    const { approximate = 'none' } = readOptions(this.constructor.name, options, geluOptions)
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
  /**
   * @param dim along which the results sum to 1; negative counts from the last
   * @throws AlambicError `ERR_ARGUMENT` unless it is an integer
   */
  constructor(readonly dim: number) {
    super()
    const kind = integer()
    if (!kind.fits(dim)) throw argumentError(`${this.constructor.name}: dim`, kind.expected, dim)
  }

  override forward(x: Tensor): Tensor {
    return torch.softmax(x, this.dim)
  }

  protected override describe(): string {
    return `dim=${this.dim}`
  }
}
