/**
 * Functions without state, as `torch.nn.functional`: operators of `torch.*` with the defaults and checks that training
 * code needs.
 */
import { AlambicError, argumentError } from '../errors.js'
import { native } from '../native/loader.js'
import {
  anything,
  boolean,
  dtype as dtypeKind,
  integer,
  number,
  oneOf,
  orNull,
  readOptions,
  requireKind,
  tensor,
  type Kinds,
} from '../checks/options.js'
import { requireTensor, type Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import type { DType } from '../tensors/types.js'
import type { Size } from './layer.js'
import { checkResize, interpolateOptions, outputSizes } from './option-kinds.js'
import type { OutputSize } from './pooling.js'

/** How a loss per element or sample is reduced. */
export type Reduction = 'none' | 'mean' | 'sum'

/** By libtorch's number. */
const reductions: Record<Reduction, number> = { none: 0, mean: 1, sum: 2 }

const anyReduction = oneOf('none', 'mean', 'sum')

/** Of functions that take none. */
const noOptions: Kinds<object> = {}

function refuseOtherShape(what: string, input: Tensor, target: Tensor): void {
  requireTensor(`${what}: input`, input)
  requireTensor(`${what}: target`, target)
  const expected = input.shape.join(', ')
  const actual = target.shape.join(', ')
  if (expected !== actual)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `${what}: expected a target with the input's shape (${expected}), got (${actual})`,
    )
}

// ---- Losses ----------------------------------------------------------------------------------------------------------

export interface CrossEntropyOptions {
  /** A weight per class, (C). */
  weight?: Tensor | null
  /** A label that is ignored. Default: −100. */
  ignoreIndex?: number
  /** Default: `'mean'`: over the samples that count, by their weights. */
  reduction?: Reduction
  /** Part of the target, 0 to 1, that is spread evenly over all classes. Default: 0. */
  labelSmoothing?: number
}

const crossEntropyOptions: Kinds<CrossEntropyOptions> = {
  weight: orNull(tensor),
  ignoreIndex: integer(),
  reduction: anyReduction,
  labelSmoothing: number,
}

/**
 * −log softmax(logits) at the labels.
 *
 * @param logits (N, C), (N, C, d₁, …) or (C)
 * @param target int64 classes (N), (N, d₁, …) or (), or probabilities of the logits' shape and a floating dtype
 * @returns a scalar, or with reduction `'none'` the shape of the classes
 * @throws AlambicError `ERR_LABEL_RANGE` for a label that is no class, `ERR_DTYPE` for labels of another dtype,
 *   `ERR_SHAPE_MISMATCH`
 */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const {
    weight,
    ignoreIndex = -100,
    reduction = 'mean',
    labelSmoothing = 0,
  } = readOptions('crossEntropy', options, crossEntropyOptions)
  requireTensor('crossEntropy: logits', logits)
  requireTensor('crossEntropy: target', target)
  const areProbabilities = target.dtype === logits.dtype && String(target.shape) === String(logits.shape)
  if (!areProbabilities) native.checkLabels('crossEntropy', logits.handle, target.handle, ignoreIndex)
  return torch.crossEntropyLoss(logits, target, {
    weight,
    ignoreIndex,
    reduction: reductions[reduction],
    labelSmoothing,
  })
}

export interface ReductionOption {
  /** Default: `'mean'`. */
  reduction?: Reduction
}

const reductionOption: Kinds<ReductionOption> = { reduction: anyReduction }

/**
 * (input − target)², by default the mean.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for different shapes: nothing is broadcast
 */
export function mseLoss(input: Tensor, target: Tensor, options: ReductionOption = {}): Tensor {
  const { reduction = 'mean' } = readOptions('mseLoss', options, reductionOption)
  refuseOtherShape('mseLoss', input, target)
  return torch.mseLoss(input, target, { reduction: reductions[reduction] })
}

export interface KlDivOptions {
  /**
   * `'batchmean'` divides the sum by the first dimension, which is the Kullback–Leibler divergence; `'mean'` divides by
   * the number of elements. Default, as in PyTorch: `'mean'`.
   */
  reduction?: Reduction | 'batchmean'
  /** Whether the target holds logarithms too. Default: false. */
  logTarget?: boolean
}

const klDivOptions: Kinds<KlDivOptions> = {
  reduction: oneOf('none', 'mean', 'sum', 'batchmean'),
  logTarget: boolean,
}

/**
 * target · (log target − input).
 *
 * @param input log-probabilities
 * @param target probabilities, of the same shape
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for different shapes: nothing is broadcast
 */
export function klDiv(input: Tensor, target: Tensor, options: KlDivOptions = {}): Tensor {
  const { reduction = 'mean', logTarget = false } = readOptions('klDiv', options, klDivOptions)
  refuseOtherShape('klDiv', input, target)
  const perElement = reduction === 'batchmean' ? 'sum' : reduction
  const loss = torch.klDiv(input, target, { reduction: reductions[perElement], logTarget })
  return reduction === 'batchmean' && input.ndim > 0 ? loss.div(input.size(0)) : loss
}

// ---- Activations -------------------------------------------------------------------------------------------------------

export interface InplaceOption {
  /** Write the result into `x`. Default: false. */
  inplace?: boolean
}

const inplaceOption: Kinds<InplaceOption> = { inplace: boolean }

/** max(x, 0). As `torch.nn.functional.relu`; any shape. */
export function relu(x: Tensor, options: InplaceOption = {}): Tensor {
  const { inplace = false } = readOptions('relu', options, inplaceOption)
  return inplace ? torch.relu_(x) : torch.relu(x)
}

export interface LeakyReluOptions extends InplaceOption {
  /** Default: 0.01. */
  negativeSlope?: number
}

const leakyReluOptions: Kinds<LeakyReluOptions> = { ...inplaceOption, negativeSlope: number }

/** x where positive, `negativeSlope · x` elsewhere. */
export function leakyRelu(x: Tensor, options: LeakyReluOptions = {}): Tensor {
  const { negativeSlope = 0.01, inplace = false } = readOptions('leakyRelu', options, leakyReluOptions)
  return inplace ? torch.leakyRelu_(x, { negativeSlope }) : torch.leakyRelu(x, { negativeSlope })
}

export interface GeluOptions {
  /** `'tanh'` for the faster approximation. Default: `'none'`. */
  approximate?: 'none' | 'tanh'
}

const geluOptions: Kinds<GeluOptions> = { approximate: oneOf('none', 'tanh') }

/** x · Φ(x). */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  const { approximate = 'none' } = readOptions('gelu', options, geluOptions)
  return torch.gelu(x, { approximate })
}

/** x · sigmoid(x). */
export function silu(x: Tensor, options: InplaceOption = {}): Tensor {
  const { inplace = false } = readOptions('silu', options, inplaceOption)
  return inplace ? torch.silu_(x) : torch.silu(x)
}

export interface SoftmaxOptions {
  /** The result's dtype, to which `x` is converted first. Default: that of `x`. */
  dtype?: DType | null
}

const softmaxOptions: Kinds<SoftmaxOptions> = { dtype: orNull(dtypeKind) }

/** Exponentials that sum to 1 along `dim`. */
export function softmax(x: Tensor, dim: number, options: SoftmaxOptions = {}): Tensor {
  const { dtype = null } = readOptions('softmax', options, softmaxOptions)
  return torch.softmax(x, dim, { dtype })
}

/** The logarithm of {@link softmax}, computed without overflow. */
export function logSoftmax(x: Tensor, dim: number, options: SoftmaxOptions = {}): Tensor {
  const { dtype = null } = readOptions('logSoftmax', options, softmaxOptions)
  return torch.logSoftmax(x, dim, { dtype })
}

export interface DropoutOptions extends InplaceOption {
  /** The probability of becoming zero. Default: 0.5. */
  p?: number
  /** With false nothing is changed. Default: true. */
  training?: boolean
}

const dropoutOptions: Kinds<DropoutOptions> = { ...inplaceOption, p: anything, training: boolean }

/** Sets elements to zero with probability `p` and scales the others by 1 / (1 − p), when `training`. */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  const { p = 0.5, training = true, inplace = false } = readOptions('dropout', options, dropoutOptions)
  if (!(p >= 0 && p <= 1)) throw argumentError('dropout: p', 'a probability from 0 to 1', p)
  return inplace ? torch.dropout_(x, p, training) : torch.dropout(x, p, training)
}

// ---- Distances ---------------------------------------------------------------------------------------------------------

export interface NormalizeOptions {
  /** The p of the p-norm. Default: 2. */
  p?: number
  /** Default: 1. */
  dim?: number
  /** The least divisor. Default: 1e-12. */
  eps?: number
}

const normalizeOptions: Kinds<NormalizeOptions> = { p: number, dim: integer(), eps: number }

/** x / max(‖x‖ₚ, eps) along a dimension. */
export function normalize(x: Tensor, options: NormalizeOptions = {}): Tensor {
  const { p = 2, dim = 1, eps = 1e-12 } = readOptions('normalize', options, normalizeOptions)
  requireTensor('normalize: x', x)
  const norm = torch.linalgVectorNorm(x, { ord: p, dim: [dim], keepdim: true })
  return x.div(norm.clampMin(eps).expandAs(x))
}

export interface CosineSimilarityOptions {
  /** Default: 1. */
  dim?: number
  /** Avoids division by zero. Default: 1e-8. */
  eps?: number
}

const cosineSimilarityOptions: Kinds<CosineSimilarityOptions> = { dim: integer(), eps: number }

/** The cosine of the angle between vectors along `dim`. */
export function cosineSimilarity(a: Tensor, b: Tensor, options: CosineSimilarityOptions = {}): Tensor {
  const { dim = 1, eps = 1e-8 } = readOptions('cosineSimilarity', options, cosineSimilarityOptions)
  return torch.cosineSimilarity(a, b, { dim, eps })
}

// ---- Sizes -------------------------------------------------------------------------------------------------------------

/** Means over as many windows as give `outputSize`: (N, C, H, W) or (C, H, W); null keeps the input's size. */
export function adaptiveAvgPool2d(x: Tensor, outputSize: OutputSize, options: object = {}): Tensor {
  readOptions('adaptiveAvgPool2d', options, noOptions)
  return torch.adaptiveAvgPool2d(x, wantedSize('adaptiveAvgPool2d', x, outputSize))
}

/** Maxima over as many windows as give `outputSize`, see {@link adaptiveAvgPool2d}. */
export function adaptiveMaxPool2d(x: Tensor, outputSize: OutputSize, options: object = {}): Tensor {
  readOptions('adaptiveMaxPool2d', options, noOptions)
  const [maxima, indices] = torch.adaptiveMaxPool2d(x, wantedSize('adaptiveMaxPool2d', x, outputSize))
  indices.dispose()
  return maxima
}

function wantedSize(what: string, x: Tensor, outputSize: OutputSize): number[] {
  requireTensor(`${what}: x`, x)
  requireKind(`${what}: outputSize`, outputSizes, outputSize)
  const both = Array.isArray(outputSize) ? (outputSize as (number | null)[]) : [outputSize, outputSize]
  return both.map((each, i) => (each as number | null) ?? x.size(i - 2))
}

export type InterpolationMode =
  'nearest' | 'nearest-exact' | 'linear' | 'bilinear' | 'bicubic' | 'trilinear' | 'area'

export interface InterpolateOptions {
  /** The spatial size of the result: one number for all dimensions, or one each. */
  size?: Size | null
  /** What the spatial size is multiplied by, instead of `size`. */
  scaleFactor?: Size | null
  /**
   * Default: `'nearest'`. `'linear'` is for (N, C, L), `'bilinear'` and `'bicubic'` for images, `'trilinear'` for
   * volumes.
   */
  mode?: InterpolationMode
  /** Keep the values at the corners, for the (bi-, tri-)linear and bicubic modes. Default: false. */
  alignCorners?: boolean
  /** Compute the scale anew from the rounded size, instead of using `scaleFactor` itself. Default: false. */
  recomputeScaleFactor?: boolean
  /** Filter when shrinking, for `'bilinear'` and `'bicubic'`. Default: false. */
  antialias?: boolean
}

type Resize = (
  x: Tensor,
  size: readonly number[] | null,
  alignCorners: boolean,
  scales: readonly number[] | null,
) => Tensor

/** By mode, and by the number of spatial dimensions. */
const resizers: Record<InterpolationMode, Partial<Record<number, Resize>>> = {
  nearest: {
    1: (x, size, _, scales) => torch.upsampleNearest1d(x, size, scales),
    2: (x, size, _, scales) => torch.upsampleNearest2d(x, size, scales),
    3: (x, size, _, scales) => torch.upsampleNearest3d(x, size, scales),
  },
  'nearest-exact': {
    1: (x, size, _, scales) => torch._upsampleNearestExact1d(x, size, scales),
    2: (x, size, _, scales) => torch._upsampleNearestExact2d(x, size, scales),
    3: (x, size, _, scales) => torch._upsampleNearestExact3d(x, size, scales),
  },
  linear: { 1: (x, size, align, scales) => torch.upsampleLinear1d(x, size, align, scales) },
  bilinear: { 2: (x, size, align, scales) => torch.upsampleBilinear2d(x, size, align, scales) },
  bicubic: { 2: (x, size, align, scales) => torch.upsampleBicubic2d(x, size, align, scales) },
  trilinear: { 3: (x, size, align, scales) => torch.upsampleTrilinear3d(x, size, align, scales) },
  area: {
    1: (x, size) => torch.adaptiveAvgPool1d(x, size!),
    2: (x, size) => torch.adaptiveAvgPool2d(x, size!),
    3: (x, size) => torch.adaptiveAvgPool3d(x, size!),
  },
}

const antialiased: Partial<Record<InterpolationMode, Resize>> = {
  bilinear: (x, size, align, scales) => torch._upsampleBilinear2dAa(x, size, align, scales),
  bicubic: (x, size, align, scales) => torch._upsampleBicubic2dAa(x, size, align, scales),
}

/**
 * Features in another spatial size: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
 *
 * @throws AlambicError `ERR_ARGUMENT` unless exactly one of `size` and `scaleFactor` is given and the mode suits the
 *   other options; `ERR_SHAPE_MISMATCH` where it does not suit the input's rank
 */
export function interpolate(x: Tensor, options: InterpolateOptions = {}): Tensor {
  const {
    size = null,
    scaleFactor = null,
    mode = 'nearest',
    alignCorners = false,
    recomputeScaleFactor = false,
    antialias = false,
  } = readOptions('interpolate', options, interpolateOptions)
  requireTensor('interpolate: x', x)
  if (!Object.hasOwn(resizers, mode))
    throw argumentError('interpolate: mode', `one of ${Object.keys(resizers).join(', ')}`, mode)
  checkResize('interpolate', options)
  const resize = chooseResizer(x, mode, antialias)
  const spatial = x.shape.slice(2)
  const scales = scaleFactor === null ? null : eachDimension('scaleFactor', scaleFactor, spatial)
  if (scales !== null && (recomputeScaleFactor || mode === 'area'))
    return resize(
      x,
      spatial.map((each, i) => Math.floor(each * scales[i]!)),
      alignCorners,
      null,
    )
  return resize(x, size === null ? null : eachDimension('size', size, spatial), alignCorners, scales)
}

function chooseResizer(x: Tensor, mode: InterpolationMode, antialias: boolean): Resize {
  const { ndim } = x
  const resize = resizers[mode][ndim - 2]
  if (resize === undefined)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `interpolate: mode '${mode}' expects ${Object.keys(resizers[mode])
        .map(dims => Number(dims) + 2)
        .join(', ')} ` + `dimensions (N, C, …), got (${x.shape.join(', ')})`,
    )
  return antialias ? antialiased[mode]! : resize
}

function eachDimension(name: string, value: Size, spatial: readonly number[]): readonly number[] {
  const values = typeof value === 'number' ? spatial.map(() => value) : value
  if (values.length !== spatial.length)
    throw argumentError(
      `interpolate: ${name}`,
      `${spatial.length} numbers, one per spatial dimension`,
      values,
    )
  return values
}
