import type { NativeLayers } from '../native/contract.js'
import { native } from '../native/loader.js'
import {
  boolean,
  integer,
  orNull,
  readOptions,
  requireKind,
  size,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import { inputHandle, perDimension, type Size } from './layer.js'
import { Module } from './module.js'

export interface PoolOptions {
  /** Default: `kernelSize`, so that windows do not overlap. */
  stride?: Size
  /** Added to both sides of each dimension, at most half of `kernelSize`. Default: 0. */
  padding?: Size
  /** Round the output's size up instead of down. Default: false. */
  ceilMode?: boolean
}

export interface MaxPool2dOptions extends PoolOptions {
  /** Distance between the elements of a window. Default: 1. */
  dilation?: Size
}

export interface AvgPool2dOptions extends PoolOptions {
  /** Include the zeros of the padding in the mean. Default: true. */
  countIncludePad?: boolean
  /** What sums are divided by, instead of the window's size. Default: null. */
  divisorOverride?: number | null
}

const poolOptions: Kinds<PoolOptions> = { stride: size, padding: size, ceilMode: boolean }

const maxPoolOptions: Kinds<MaxPool2dOptions> = { ...poolOptions, dilation: size }

const avgPoolOptions: Kinds<AvgPool2dOptions> = {
  ...poolOptions,
  countIncludePad: boolean,
  divisorOverride: orNull(integer()),
}

/** A size as it was given, for display. */
function show(size: Size): string {
  return typeof size === 'number' ? String(size) : `(${size.join(', ')})`
}

/**
 * The maximum of each window: (N, C, H, W) or (C, H, W) → the same with Hₒ, Wₒ. As `torch.nn.MaxPool2d`.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for another rank, `ERR_ARGUMENT` for options out of range
 */
export class MaxPool2d extends Module<[Tensor], Tensor> {
  readonly stride: Size
  readonly padding: Size
  readonly dilation: Size
  readonly ceilMode: boolean
  readonly #layer: InstanceType<NativeLayers['MaxPool2d']>

  constructor(
    readonly kernelSize: Size,
    options: MaxPool2dOptions = {},
  ) {
    super()
    const {
      stride = kernelSize,
      padding = 0,
      dilation = 1,
      ceilMode = false,
    } = readOptions(this.constructor.name, options, maxPoolOptions)
    this.stride = stride
    this.padding = padding
    this.dilation = dilation
    this.ceilMode = ceilMode
    this.#layer = new native.MaxPool2d({
      name: this.constructor.name,
      kernelSize: perDimension(`${this.constructor.name}: kernelSize`, kernelSize, 2),
      stride: perDimension(`${this.constructor.name}: stride`, stride, 2),
      padding: perDimension(`${this.constructor.name}: padding`, padding, 2),
      dilation: perDimension(`${this.constructor.name}: dilation`, dilation, 2),
      ceilMode,
    })
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x)))
  }

  protected override describe(): string {
    return (
      `kernelSize=${show(this.kernelSize)}, stride=${show(this.stride)}, padding=${show(this.padding)}, ` +
      `dilation=${show(this.dilation)}, ceilMode=${this.ceilMode}`
    )
  }
}

/**
 * The mean of each window: (N, C, H, W) or (C, H, W) → the same with Hₒ, Wₒ. As `torch.nn.AvgPool2d`.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for another rank, `ERR_ARGUMENT` for options out of range
 */
export class AvgPool2d extends Module<[Tensor], Tensor> {
  readonly stride: Size
  readonly padding: Size
  readonly #layer: InstanceType<NativeLayers['AvgPool2d']>

  constructor(
    readonly kernelSize: Size,
    options: AvgPool2dOptions = {},
  ) {
    super()
    const {
      stride = kernelSize,
      padding = 0,
      ceilMode = false,
      countIncludePad = true,
      divisorOverride = null,
    } = readOptions(this.constructor.name, options, avgPoolOptions)
    this.stride = stride
    this.padding = padding
    this.#layer = new native.AvgPool2d({
      name: this.constructor.name,
      kernelSize: perDimension(`${this.constructor.name}: kernelSize`, kernelSize, 2),
      stride: perDimension(`${this.constructor.name}: stride`, stride, 2),
      padding: perDimension(`${this.constructor.name}: padding`, padding, 2),
      ceilMode,
      countIncludePad,
      divisorOverride,
    })
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x)))
  }

  protected override describe(): string {
    return `kernelSize=${show(this.kernelSize)}, stride=${show(this.stride)}, padding=${show(this.padding)}`
  }
}

/** Height and width, or one number for both; null keeps the input's. */
export type OutputSize = number | null | readonly (number | null)[]

const extent = orNull(integer(0))

const wantedSize: Kind = {
  expected: 'an integer of at least 0, null, or two of these',
  fits: value =>
    Array.isArray(value) ? value.length === 2 && value.every(each => extent.fits(each)) : extent.fits(value),
}

abstract class AdaptivePool2d extends Module<[Tensor], Tensor> {
  readonly outputSize: OutputSize
  readonly #layer: InstanceType<NativeLayers['AdaptivePool2d']>

  protected constructor(maximum: boolean, outputSize: OutputSize) {
    super()
    requireKind(`${this.constructor.name}: outputSize`, wantedSize, outputSize)
    this.outputSize = outputSize
    const both = Array.isArray(outputSize) ? (outputSize as (number | null)[]) : [outputSize, outputSize]
    this.#layer = new native.AdaptivePool2d({
      name: this.constructor.name,
      maximum,
      outputSize: both.map(each => (each as number | null) ?? -1),
    })
  }

  override forward(x: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, x)))
  }

  protected override describe(): string {
    const { outputSize } = this
    return `outputSize=${Array.isArray(outputSize) ? `(${outputSize.map(String).join(', ')})` : String(outputSize)}`
  }
}

/**
 * Means over as many windows as give the wanted size: (N, C, H, W) or (C, H, W) → the same with `outputSize`. As
 * `torch.nn.AdaptiveAvgPool2d`.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for another rank, `ERR_ARGUMENT` for a negative size
 */
export class AdaptiveAvgPool2d extends AdaptivePool2d {
  constructor(outputSize: OutputSize) {
    super(false, outputSize)
  }
}

/**
 * Maxima over as many windows as give the wanted size, see {@link AdaptiveAvgPool2d}. As `torch.nn.AdaptiveMaxPool2d`.
 */
export class AdaptiveMaxPool2d extends AdaptivePool2d {
  constructor(outputSize: OutputSize) {
    super(true, outputSize)
  }
}
