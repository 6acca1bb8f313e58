import { native } from '../native/loader.js'
import { anything, boolean, integer, readOptions, size, type Kinds } from '../checks/options.js'
import type { NativeLayers } from '../native/contract.js'
import { Tensor } from '../tensors/tensor.js'
import * as init from './init.js'
import {
  emptyParameter,
  inputHandle,
  perDimension,
  placement,
  tuple,
  type Placement,
  type Size,
} from './layer.js'
import { Module } from './module.js'
import type { Parameter } from './parameter.js'

export type PaddingMode = 'zeros' | 'reflect' | 'replicate' | 'circular'

export interface ConvOptions extends Placement {
  /** Default: 1. */
  stride?: Size
  /**
   * Added to both sides of each dimension; `'same'` keeps the size (with stride 1), `'valid'` adds nothing.
   * Default: 0.
   */
  padding?: Size | 'same' | 'valid'
  /** Distance between the elements of the kernel. Default: 1. */
  dilation?: Size
  /** Number of independent groups into which the channels are divided. Default: 1. */
  groups?: number
  /** Whether there is a bias. Default: true. */
  bias?: boolean
  /** Values of the padding. Default: `'zeros'`. */
  paddingMode?: PaddingMode
}

export interface ConvTransposeOptions extends Omit<ConvOptions, 'padding' | 'paddingMode'> {
  /**
   * Removed from both sides of the output: `dilation · (kernelSize − 1) − padding` zeros are added to the input.
   * Default: 0.
   */
  padding?: Size
  /** Added to one side of the output's shape, for a stride above 1. Default: 0. */
  outputPadding?: Size
}

type AllOptions = ConvOptions & Pick<ConvTransposeOptions, 'outputPadding'>

const convOptions: Kinds<ConvOptions> = {
  stride: size,
  // Which strings there are, here and below, the native layer knows.
  padding: {
    expected: 'integers, "same" or "valid"',
    fits: value => typeof value === 'string' || size.fits(value),
  },
  dilation: size,
  groups: integer(),
  bias: boolean,
  paddingMode: anything,
  ...placement,
}

const { paddingMode: _, ...transposable } = convOptions
const convTransposeOptions: Kinds<ConvTransposeOptions> = {
  ...transposable,
  padding: size,
  outputPadding: size,
}

/** What all convolutions share. */
export abstract class Convolution extends Module<[Tensor], Tensor> {
  readonly inChannels: number
  readonly outChannels: number
  readonly kernelSize: readonly number[]
  readonly stride: readonly number[]
  readonly padding: readonly number[] | 'same' | 'valid'
  readonly dilation: readonly number[]
  readonly groups: number
  readonly paddingMode: PaddingMode
  readonly outputPadding: readonly number[]
  /** (outChannels, inChannels / groups, …kernelSize); transposed (inChannels, outChannels / groups, …kernelSize). */
  weight: Parameter
  /** (outChannels) */
  bias: Parameter | null

  readonly #layer: InstanceType<NativeLayers['Convolution']>

  protected constructor(
    spatialDims: number,
    transposed: boolean,
    inChannels: number,
    outChannels: number,
    kernelSize: Size,
    options: AllOptions,
  ) {
    super()
    const {
      stride = 1,
      padding = 0,
      dilation = 1,
      groups = 1,
      bias = true,
      paddingMode = 'zeros',
      outputPadding = 0,
      device,
      dtype,
    }: AllOptions = readOptions<object>(
      this.constructor.name,
      options,
      transposed ? convTransposeOptions : convOptions,
    )
    this.inChannels = inChannels
    this.outChannels = outChannels
    const each = (name: string, size: Size) =>
      perDimension(`${this.constructor.name}: ${name}`, size, spatialDims)
    this.kernelSize = each('kernelSize', kernelSize)
    this.stride = each('stride', stride)
    this.padding = typeof padding === 'string' ? padding : each('padding', padding)
    this.dilation = each('dilation', dilation)
    this.groups = groups
    this.paddingMode = paddingMode
    this.outputPadding = each('outputPadding', outputPadding)
    this.#layer = new native.Convolution({
      name: this.constructor.name,
      spatialDims,
      transposed,
      inChannels,
      outChannels,
      kernelSize: this.kernelSize,
      stride: this.stride,
      padding: this.padding,
      dilation: this.dilation,
      groups,
      paddingMode,
      outputPadding: this.outputPadding,
    })
    const channels = transposed ? [inChannels, outChannels / groups] : [outChannels, inChannels / groups]
    this.weight = emptyParameter([...channels, ...this.kernelSize], { device, dtype })
    this.bias = bias ? emptyParameter([outChannels], { device, dtype }) : null
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
    const { inChannels, outChannels, kernelSize, stride, padding, dilation, groups, paddingMode } = this
    const parts = [`${inChannels}, ${outChannels}, kernelSize=${tuple(kernelSize)}, stride=${tuple(stride)}`]
    if (typeof padding === 'string') parts.push(`padding=${padding}`)
    else if (padding.some(each => each !== 0)) parts.push(`padding=${tuple(padding)}`)
    if (dilation.some(each => each !== 1)) parts.push(`dilation=${tuple(dilation)}`)
    if (this.outputPadding.some(each => each !== 0)) parts.push(`outputPadding=${tuple(this.outputPadding)}`)
    if (groups !== 1) parts.push(`groups=${groups}`)
    if (this.bias === null) parts.push('bias=false')
    if (paddingMode !== 'zeros') parts.push(`paddingMode=${paddingMode}`)
    return parts.join(', ')
  }
}

/**
 * PyTorch's initial values of linear layers and convolutions: both uniform in ±1 / √fanIn.
 * @internal
 */
export function resetLinearMap(weight: Parameter, bias: Parameter | null): void {
  init.kaimingUniform_(weight, { a: Math.sqrt(5) })
  if (bias === null) return
  const bound = 1 / Math.sqrt(weight.numel() / weight.size(0))
  init.uniform_(bias, { a: -bound, b: bound })
}

/**
 * Convolution over sequences: (N, inChannels, L) or (inChannels, L) → (N, outChannels, Lₒ) or (outChannels, Lₒ). As
 * `torch.nn.Conv1d`.
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH` or `ERR_DTYPE` from forward, `ERR_ARGUMENT` for
 *   options out of range
 */
export class Conv1d extends Convolution {
  constructor(inChannels: number, outChannels: number, kernelSize: Size, options: ConvOptions = {}) {
    super(1, false, inChannels, outChannels, kernelSize, options)
  }
}

/**
 * Convolution over images: (N, inChannels, H, W) or (inChannels, H, W) → (N, outChannels, Hₒ, Wₒ) or without N, where
 * Hₒ = ⌊(H + 2 · padding − dilation · (kernelSize − 1) − 1) / stride⌋ + 1. As `torch.nn.Conv2d`.
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH` or `ERR_DTYPE` from forward, `ERR_ARGUMENT` for
 *   options out of range
 */
export class Conv2d extends Convolution {
  constructor(inChannels: number, outChannels: number, kernelSize: Size, options: ConvOptions = {}) {
    super(2, false, inChannels, outChannels, kernelSize, options)
  }
}

/**
 * Convolution over volumes: (N, inChannels, D, H, W) or (inChannels, D, H, W) → (N, outChannels, Dₒ, Hₒ, Wₒ) or
 * without N. As `torch.nn.Conv3d`.
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH` or `ERR_DTYPE` from forward, `ERR_ARGUMENT` for
 *   options out of range
 */
export class Conv3d extends Convolution {
  constructor(inChannels: number, outChannels: number, kernelSize: Size, options: ConvOptions = {}) {
    super(3, false, inChannels, outChannels, kernelSize, options)
  }
}

/**
 * The gradient of {@link Conv2d} as a layer: (N, inChannels, H, W) or (inChannels, H, W) → (N, outChannels, Hₒ, Wₒ) or
 * without N, where Hₒ = (H − 1) · stride − 2 · padding + dilation · (kernelSize − 1) + outputPadding + 1. As
 * `torch.nn.ConvTranspose2d`.
 *
 * @throws AlambicError `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH` or `ERR_DTYPE` from forward, `ERR_ARGUMENT` for
 *   options out of range
 */
export class ConvTranspose2d extends Convolution {
  constructor(inChannels: number, outChannels: number, kernelSize: Size, options: ConvTransposeOptions = {}) {
    super(2, true, inChannels, outChannels, kernelSize, options)
  }
}
