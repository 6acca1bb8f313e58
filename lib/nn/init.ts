/**
 * Initial values of parameters, as `torch.nn.init`: each fills a tensor in place, records no gradient and returns the
 * tensor. With the same seed and libtorch the numbers are PyTorch's.
 */
import { noGrad } from '../tensors/grad-mode.js'
import { AlambicError, argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import { generator, number, oneOf, readOptions, type Kinds } from '../checks/options.js'
import type { Generator } from '../calls/generator.js'
import { requireTensor, tensor as makeTensor, type Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'

export interface InitOptions {
  /** Default: the device's default generator, seeded by `manualSeed`. */
  generator?: Generator
}

export type Nonlinearity =
  | 'linear'
  | 'conv1d'
  | 'conv2d'
  | 'conv3d'
  | 'convTranspose1d'
  | 'convTranspose2d'
  | 'convTranspose3d'
  | 'sigmoid'
  | 'tanh'
  | 'relu'
  | 'leakyRelu'
  | 'selu'

/** Whether the variance is kept in the forward pass (of activations) or in the backward pass (of gradients). */
export type FanMode = 'fanIn' | 'fanOut'

export interface KaimingOptions extends InitOptions {
  /** Negative slope of the leaky ReLU that follows. Default: 0. */
  a?: number
  /** Default: `'fanIn'`. */
  mode?: FanMode
  /** The activation after the layer. Default: `'leakyRelu'`. */
  nonlinearity?: Nonlinearity
}

const gains: Record<Exclude<Nonlinearity, 'leakyRelu'>, number> = {
  linear: 1,
  conv1d: 1,
  conv2d: 1,
  conv3d: 1,
  convTranspose1d: 1,
  convTranspose2d: 1,
  convTranspose3d: 1,
  sigmoid: 1,
  tanh: 5 / 3,
  relu: Math.sqrt(2),
  selu: 3 / 4,
}

/**
 * The recommended factor of the weights for a nonlinearity, as `torch.nn.init.calculate_gain`.
 *
 * @param negativeSlope of `'leakyRelu'`; default: 0.01
 * @throws AlambicError `ERR_ARGUMENT` for an unknown nonlinearity, and for a slope that is no number
 */
export function calculateGain(nonlinearity: Nonlinearity, negativeSlope = 0.01): number {
  if (!number.fits(negativeSlope))
    throw argumentError('calculateGain: negativeSlope', number.expected, negativeSlope)
  if (nonlinearity === 'leakyRelu') return Math.sqrt(2 / (1 + negativeSlope ** 2))
  if (typeof nonlinearity !== 'string' || !Object.hasOwn(gains, nonlinearity))
    throw argumentError('nonlinearity', `one of ${Object.keys(gains).join(', ')}, leakyRelu`, nonlinearity)
  return gains[nonlinearity]
}

interface UniformOptions extends InitOptions {
  a?: number
  b?: number
}

interface NormalOptions extends InitOptions {
  mean?: number
  std?: number
}

interface GainOptions extends InitOptions {
  gain?: number
}

const initOptions: Kinds<InitOptions> = { generator }
const uniformOptions: Kinds<UniformOptions> = { a: number, b: number, ...initOptions }
const normalOptions: Kinds<NormalOptions> = { mean: number, std: number, ...initOptions }
const truncatedOptions: Kinds<UniformOptions & NormalOptions> = { ...uniformOptions, ...normalOptions }
const gainOptions: Kinds<GainOptions> = { gain: number, ...initOptions }
const kaimingOptions: Kinds<KaimingOptions> = {
  a: number,
  mode: oneOf('fanIn', 'fanOut'),
  nonlinearity: oneOf(...Object.keys(gains), 'leakyRelu'),
  ...initOptions,
}

/** Inputs that a unit sees, and outputs that an input reaches: `(out, in, …kernel)`. */
function fans(what: string, tensor: Tensor): Record<FanMode, number> {
  requireTensor(`${what}: tensor`, tensor)
  const [outputs, inputs, ...kernel] = tensor.shape
  if (inputs === undefined || outputs === undefined)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `${what}: expected a tensor with at least 2 dimensions (out, in, …), got (${tensor.shape.join(', ')})`,
    )
  const area = kernel.reduce((product, size) => product * size, 1)
  return { fanIn: inputs * area, fanOut: outputs * area }
}

/** Uniform in [a, b). Default: [0, 1). */
export function uniform_<T extends Tensor>(tensor: T, options: UniformOptions = {}): T {
  const { a = 0, b = 1, generator } = readOptions('uniform_', options, uniformOptions)
  return noGrad(() => torch.uniform_(tensor, { from: a, to: b, generator }) as T)
}

/** Normal with the given mean (default: 0) and standard deviation (default: 1). */
export function normal_<T extends Tensor>(tensor: T, options: NormalOptions = {}): T {
  const { mean = 0, std = 1, generator } = readOptions('normal_', options, normalOptions)
  return noGrad(() => torch.normal_(tensor, { mean, std, generator }) as T)
}

/** All elements `value`. */
export function constant_<T extends Tensor>(tensor: T, value: number): T {
  return noGrad(() => torch.fill_(tensor, value) as T)
}

/** All elements 0. */
export function zeros_<T extends Tensor>(tensor: T): T {
  return constant_(tensor, 0)
}

/** All elements 1. */
export function ones_<T extends Tensor>(tensor: T): T {
  return constant_(tensor, 1)
}

/**
 * Uniform in ±gain · √(6 / (fanIn + fanOut)). Glorot & Bengio, "Understanding the difficulty of training deep
 * feedforward neural networks" (2010).
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for fewer than 2 dimensions
 */
export function xavierUniform_<T extends Tensor>(tensor: T, options: GainOptions = {}): T {
  const { gain = 1, generator } = readOptions('xavierUniform_', options, gainOptions)
  const bound = Math.sqrt(3) * xavierStd('xavierUniform_', tensor, gain)
  return uniform_(tensor, { a: -bound, b: bound, generator })
}

/** Normal with standard deviation gain · √(2 / (fanIn + fanOut)); see {@link xavierUniform_}. */
export function xavierNormal_<T extends Tensor>(tensor: T, options: GainOptions = {}): T {
  const { gain = 1, generator } = readOptions('xavierNormal_', options, gainOptions)
  return normal_(tensor, { std: xavierStd('xavierNormal_', tensor, gain), generator })
}

function xavierStd(what: string, tensor: Tensor, gain: number): number {
  const { fanIn, fanOut } = fans(what, tensor)
  return gain * Math.sqrt(2 / (fanIn + fanOut))
}

/**
 * Uniform in ±gain · √(3 / fan). He et al., "Delving deep into rectifiers" (2015).
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for fewer than 2 dimensions
 */
export function kaimingUniform_<T extends Tensor>(tensor: T, options: KaimingOptions = {}): T {
  const bound = Math.sqrt(3) * kaimingStd('kaimingUniform_', tensor, options)
  return uniform_(tensor, { a: -bound, b: bound, generator: options.generator })
}

/** Normal with standard deviation gain / √fan; see {@link kaimingUniform_}. */
export function kaimingNormal_<T extends Tensor>(tensor: T, options: KaimingOptions = {}): T {
  return normal_(tensor, {
    std: kaimingStd('kaimingNormal_', tensor, options),
    generator: options.generator,
  })
}

function kaimingStd(what: string, tensor: Tensor, options: KaimingOptions): number {
  const { a = 0, mode = 'fanIn', nonlinearity = 'leakyRelu' } = readOptions(what, options, kaimingOptions)
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(what, tensor)[mode])
}

/**
 * Normal; values outside [a, b] are drawn again. Defaults: mean 0, std 1, [−2, 2]. Bounds are values, not multiples
 * of `std`.
 */
export function truncNormal_<T extends Tensor>(tensor: T, options: UniformOptions & NormalOptions = {}): T {
  const {
    mean = 0,
    std = 1,
    a = -2,
    b = 2,
    generator,
  } = readOptions('truncNormal_', options, truncatedOptions)
  requireTensor('truncNormal_: tensor', tensor)
  if (!(std > 0) || !(a < b)) throw argumentError('truncNormal_', 'std above 0 and a below b', { std, a, b })
  const fill =
    normalCdf((b - mean) / std) - normalCdf((a - mean) / std) > likelyInside ? rejectOutliers : rejectUniform
  return noGrad(() => scope(() => fill(tensor, { mean, std, a, b, generator })))
}

/** Above this probability of a normal value to lie between the bounds, PyTorch draws normal values. */
const likelyInside = 0.3

interface TruncatedNormal extends InitOptions {
  mean: number
  std: number
  a: number
  b: number
}

function rejectOutliers<T extends Tensor>(tensor: T, { mean, std, a, b, generator }: TruncatedNormal): T {
  torch.normal_(tensor, { mean, std, generator })
  for (;;) {
    const outside = tensor.lt(a).logicalOr(tensor.gt(b))
    if (!outside.any().item<boolean>()) return tensor
    const redrawn = torch.normal_(torch.emptyLike(tensor), { mean, std, generator })
    tensor.copy_(torch.where(outside, redrawn, tensor))
  }
}

/** For bounds in the tail: uniform candidates, accepted with the probability density relative to its peak. */
function rejectUniform<T extends Tensor>(tensor: T, { mean, std, a, b, generator }: TruncatedNormal): T {
  const peak = Math.min(Math.max(mean, a), b)
  const logPeak = -0.5 * ((peak - mean) / std) ** 2
  let pending: Tensor | null = null
  for (;;) {
    const candidates = torch.uniform_(torch.emptyLike(tensor), { from: a, to: b, generator })
    tensor.copy_(pending === null ? candidates : torch.where(pending, candidates, tensor))
    const logDensity = candidates.sub(mean).div(std).pow(2).mul(-0.5).sub(logPeak)
    const refused = torch.uniform_(torch.emptyLike(tensor), { generator }).log().gt(logDensity)
    pending = pending === null ? refused : pending.logicalAnd(refused)
    if (!pending.any().item<boolean>()) return tensor
  }
}

function normalCdf(x: number): number {
  return scope(
    () =>
      (1 +
        makeTensor(x / Math.SQRT2, { dtype: 'float64' })
          .erf()
          .item()) /
      2,
  )
}

/**
 * An orthogonal matrix of `(rows, everything else)`, times `gain`. Saxe et al., "Exact solutions to the nonlinear
 * dynamics of learning in deep linear neural networks" (2013).
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for fewer than 2 dimensions
 */
export function orthogonal_<T extends Tensor>(tensor: T, options: GainOptions = {}): T {
  const { gain = 1, generator } = readOptions('orthogonal_', options, gainOptions)
  fans('orthogonal_', tensor)
  if (tensor.numel() === 0) return tensor
  return noGrad(() =>
    scope(() => {
      const rows = tensor.size(0)
      const columns = tensor.numel() / rows
      const drawn = torch.normal_(tensor.newEmpty([rows, columns]), { generator })
      const [q, r] = torch.linalgQr(rows < columns ? drawn.t() : drawn)
      // The signs make Q uniform among the orthogonal matrices: Mezzadri, arXiv:math-ph/0609050.
      const uniform = q.mul(r.diag().sign())
      tensor.copy_((rows < columns ? uniform.t() : uniform).reshape(tensor.shape))
      return torch.mul_(tensor, gain) as T
    }),
  )
}
