import { argumentError } from '../errors.js'
import { ones, zeros } from '../tensors/factories.js'
import { Activation, type Handle, type NativeLayers } from '../native/contract.js'
import { native } from '../native/loader.js'
import { between, boolean, notNegative, orNull, readOptions, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import * as init from './init.js'
import {
  emptyParameter,
  inputHandle,
  perDimension,
  pythonFloat,
  placement,
  tuple,
  type Placement,
  type Size,
} from './layer.js'
import { Module } from './module.js'
import type { Parameter } from './parameter.js'

export interface BatchNormOptions extends Placement {
  /** Added to the variance, at least 0. Default: 1e-5. */
  eps?: number
  /** Weight of a batch in the running statistics, 0 to 1; null for the mean over all batches. Default: 0.1. */
  momentum?: number | null
  /** Whether there are a weight and a bias per channel. Default: true. */
  affine?: boolean
  /** Whether there is a bias beside the weight. Default: true. */
  bias?: boolean
  /** Whether there are running statistics; without them the batch's are used in eval mode too. Default: true. */
  trackRunningStats?: boolean
}

const batchNormOptions: Kinds<BatchNormOptions> = {
  eps: notNegative,
  momentum: orNull(between(0, 1)),
  affine: boolean,
  bias: boolean,
  trackRunningStats: boolean,
  ...placement,
}

export abstract class BatchNorm extends Module<[Tensor], Tensor> {
  readonly numFeatures: number
  readonly eps: number
  readonly momentum: number | null
  /** (numFeatures) */
  weight: Parameter | null
  /** (numFeatures) */
  bias: Parameter | null
  /** (numFeatures). Under PyTorch's name, as it is the key in state dicts. */
  running_mean: Tensor | null = null
  /** (numFeatures): unbiased variances. */
  running_var: Tensor | null = null
  /** Batches seen in training: int64, a scalar. */
  num_batches_tracked: Tensor | null = null

  /** While the convolution before this layer does its work as well. @internal */
  isFolded = false

  readonly #layer: InstanceType<NativeLayers['BatchNorm']>

  protected constructor(spatialDims: number, numFeatures: number, options: BatchNormOptions) {
    super()
    const {
      eps = 1e-5,
      momentum = 0.1,
      affine = true,
      bias = true,
      trackRunningStats = true,
      device,
      dtype,
    } = readOptions(this.constructor.name, options, batchNormOptions)
    this.numFeatures = numFeatures
    this.eps = eps
    this.momentum = momentum
    this.#layer = new native.BatchNorm({
      name: this.constructor.name,
      numFeatures,
      spatialDims,
      eps,
      momentum,
    })
    this.weight = affine ? emptyParameter([numFeatures], { device, dtype }) : null
    this.bias = affine && bias ? emptyParameter([numFeatures], { device, dtype }) : null
    if (trackRunningStats) {
      this.registerBuffer('running_mean', zeros([numFeatures], { device, dtype }))
      this.registerBuffer('running_var', ones([numFeatures], { device, dtype }))
      // Files written before PyTorch 0.4.1 have no such key.
      this.registerBuffer('num_batches_tracked', zeros([], { device, dtype: 'int64' }), { optional: true })
    }
    this.resetAffine()
  }

  get affine(): boolean {
    return this.weight !== null
  }

  get trackRunningStats(): boolean {
    return this.running_mean !== null
  }

  /** Sets the running statistics to their initial values. */
  resetRunningStats(): void {
    this.running_mean?.zero_()
    this.running_var?.fill_(1)
    this.num_batches_tracked?.zero_()
  }

  /** Sets the weight to 1, the bias to 0, and the running statistics to their initial values. */
  resetParameters(): void {
    this.resetRunningStats()
    this.resetAffine()
  }

  private resetAffine(): void {
    if (this.weight !== null) init.ones_(this.weight)
    if (this.bias !== null) init.zeros_(this.bias)
  }

  override forward(x: Tensor): Tensor {
    return this.isFolded ? x : this.normalize(x, undefined, Activation.none)
  }

  /**
   * activation(forward(x) + added) in fewer passes over memory. Where this layer is folded, it is written into x.
   *
   * @param added of the output's shape @internal
   */
  forwardActivated(x: Tensor, added: Tensor | null, activation: Activation): Tensor {
    if (!this.isFolded) return this.normalize(x, added?.handle, activation)
    native.activate(inputHandle(this, x), added?.handle, activation)
    return x
  }

  private normalize(x: Tensor, added: Handle | undefined, activation: Activation): Tensor {
    return new Tensor(
      this.#layer.forward(
        this.training,
        inputHandle(this, x),
        this.weight?.handle,
        this.bias?.handle,
        this.running_mean?.handle,
        this.running_var?.handle,
        this.num_batches_tracked?.handle,
        added,
        activation,
      ),
    )
  }

  protected override describe(): string {
    return (
      `${this.numFeatures}, eps=${pythonFloat(this.eps)}, momentum=${this.momentum}, ` +
      `affine=${this.affine}, bias=${this.bias !== null}, trackRunningStats=${this.trackRunningStats}`
    )
  }
}

/**
 * Normalises each channel by its mean and variance over the batch (N, C) or (N, C, L); in eval mode by the running
 * statistics. As `torch.nn.BatchNorm1d`; Ioffe & Szegedy, "Batch normalization" (2015).
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH`; `ERR_SHAPE_MISMATCH` for another rank, or in training for a single value
 *   per channel
 */
export class BatchNorm1d extends BatchNorm {
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(1, numFeatures, options)
  }
}

/** {@link BatchNorm1d} for images (N, C, H, W). As `torch.nn.BatchNorm2d`. */
export class BatchNorm2d extends BatchNorm {
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(2, numFeatures, options)
  }
}

export interface GroupNormOptions extends Placement {
  /** Added to the variance, at least 0. Default: 1e-5. */
  eps?: number
  /** Whether there are a weight and a bias per channel. Default: true. */
  affine?: boolean
  /** Whether there is a bias beside the weight. Default: true. */
  bias?: boolean
}

const groupNormOptions: Kinds<GroupNormOptions> = {
  eps: notNegative,
  affine: boolean,
  bias: boolean,
  ...placement,
}

/**
 * Normalises each sample over each of `numGroups` groups of channels: (N, numChannels, …). As `torch.nn.GroupNorm`; Wu
 * & He, "Group normalization" (2018).
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH` or `ERR_SHAPE_MISMATCH` from forward
 */
export class GroupNorm extends Module<[Tensor], Tensor> {
  readonly eps: number
  /** (numChannels) */
  weight: Parameter | null
  /** (numChannels) */
  bias: Parameter | null

  readonly #layer: InstanceType<NativeLayers['GroupNorm']>

  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options: GroupNormOptions = {},
  ) {
    super()
    const {
      eps = 1e-5,
      affine = true,
      bias = true,
      device,
      dtype,
    } = readOptions(this.constructor.name, options, groupNormOptions)
    this.eps = eps
    this.#layer = new native.GroupNorm({ name: this.constructor.name, numGroups, numChannels, eps })
    this.weight = affine ? emptyParameter([numChannels], { device, dtype }) : null
    this.bias = affine && bias ? emptyParameter([numChannels], { device, dtype }) : null
    this.resetParameters()
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones_(this.weight)
    if (this.bias !== null) init.zeros_(this.bias)
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x), this.weight?.handle, this.bias?.handle))
  }

  protected override describe(): string {
    return (
      `${this.numGroups}, ${this.numChannels}, eps=${pythonFloat(this.eps)}, ` +
      `affine=${this.weight !== null}, bias=${this.bias !== null}`
    )
  }
}

export interface LayerNormOptions extends Placement {
  /** Added to the variance, at least 0. Default: 1e-5. */
  eps?: number
  /** Whether there are a weight and a bias per element. Default: true. */
  elementwiseAffine?: boolean
  /** Whether there is a bias beside the weight. Default: true. */
  bias?: boolean
}

const layerNormOptions: Kinds<LayerNormOptions> = {
  eps: notNegative,
  elementwiseAffine: boolean,
  bias: boolean,
  ...placement,
}

/**
 * Normalises over the last dimensions: (…, ...normalizedShape). As `torch.nn.LayerNorm`; Ba et al., "Layer
 * normalization" (2016).
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` from forward
 */
export class LayerNorm extends Module<[Tensor], Tensor> {
  readonly normalizedShape: readonly number[]
  readonly eps: number
  /** (...normalizedShape) */
  weight: Parameter | null
  /** (...normalizedShape) */
  bias: Parameter | null

  readonly #layer: InstanceType<NativeLayers['LayerNorm']>

  constructor(normalizedShape: Size, options: LayerNormOptions = {}) {
    super()
    const {
      eps = 1e-5,
      elementwiseAffine = true,
      bias = true,
      device,
      dtype,
    } = readOptions(this.constructor.name, options, layerNormOptions)
    this.normalizedShape = perDimension(`${this.constructor.name}: normalizedShape`, normalizedShape, 1)
    if (this.normalizedShape.some(each => each < 0))
      throw argumentError(
        `${this.constructor.name}: normalizedShape`,
        'integers of at least 0',
        this.normalizedShape,
      )
    this.eps = eps
    this.#layer = new native.LayerNorm({
      name: this.constructor.name,
      normalizedShape: this.normalizedShape,
      eps,
    })
    this.weight = elementwiseAffine ? emptyParameter(this.normalizedShape, { device, dtype }) : null
    this.bias = elementwiseAffine && bias ? emptyParameter(this.normalizedShape, { device, dtype }) : null
    this.resetParameters()
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones_(this.weight)
    if (this.bias !== null) init.zeros_(this.bias)
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x), this.weight?.handle, this.bias?.handle))
  }

  protected override describe(): string {
    return (
      `${tuple(this.normalizedShape)}, eps=${pythonFloat(this.eps)}, ` +
      `elementwiseAffine=${this.weight !== null}, bias=${this.bias !== null}`
    )
  }
}
