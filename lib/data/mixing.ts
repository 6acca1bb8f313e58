/** Mixing pictures and their labels: mixup and cutmix, as transforms of a loader. */
import { integer, positive, readOptions, type Kinds } from '../checks/options.js'
import { argumentError } from '../errors.js'
import { torch } from '../calls/index.js'
import { fromTypedArray } from '../tensors/tensor.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Batch } from './dataset.js'
import { Random } from './random.js'

export interface MixOptions {
  /** Number of classes: the width of the soft labels. */
  classes: number
  /** Of the Beta(alpha, alpha) distribution that the share of the first picture is drawn from. */
  alpha?: number
}

const mixOptions: Kinds<MixOptions> = { classes: integer(1), alpha: positive }

/** A transform of a `DataLoader`, which gives it the random numbers of the batch. */
export type BatchTransform = (batch: Batch, random: Random) => Batch

/**
 * Mixes each picture with another of its batch, `λ · picture + (1 − λ) · other`, and the labels likewise, as `targets`.
 * λ is drawn once per batch. For `transform` of a `DataLoader`, whose seed decides.
 *
 * Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.
 *
 * @param options `alpha`: default 0.2
 * @example new data.DataLoader(train, { batchSize: 64, transform: data.mixUp({ classes: 10 }) })
 */
export function mixUp(options: MixOptions): BatchTransform {
  const { classes, alpha } = checked('mixUp', options, 0.2)
  return ({ data, labels, ...others }, random) => {
    const share = beta(alpha, random)
    const order = orderOf(labels, random)
    const mixed = data.mul(share).add(data.indexSelect(0, order), { alpha: 1 - share })
    return { ...others, data: mixed, labels, targets: softLabels(labels, order, share, classes, data) }
  }
}

/**
 * Puts a rectangle of another picture of the batch into each, and mixes the labels by the areas, as `targets`. The
 * rectangle is drawn once per batch. For `transform` of a `DataLoader`, whose seed decides.
 *
 * Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019.
 *
 * @param options `alpha`: default 1
 */
export function cutMix(options: MixOptions): BatchTransform {
  const { classes, alpha } = checked('cutMix', options, 1)
  return ({ data, labels, ...others }, random) => {
    const [, , height, width] = data.shape
    if (data.ndim !== 4) throw argumentError('cutMix: data', 'pictures (N, C, H, W)', data)
    const side = Math.sqrt(1 - beta(alpha, random))
    const [top, bottom] = span(height!, side, random)
    const [left, right] = span(width!, side, random)
    const order = orderOf(labels, random)
    const mixed = data.clone()
    const window = (x: Tensor) => x.narrow(2, top, bottom - top).narrow(3, left, right - left)
    window(mixed).copy_(window(data.indexSelect(0, order)))
    const share = 1 - ((bottom - top) * (right - left)) / (height! * width!)
    return { ...others, data: mixed, labels, targets: softLabels(labels, order, share, classes, data) }
  }
}

function checked(who: string, options: MixOptions, alpha: number): Required<MixOptions> {
  const { classes, ...rest } = readOptions(who, options, mixOptions)
  if (classes === undefined) throw argumentError(`${who}: classes`, mixOptions.classes.expected, classes)
  return { alpha, ...rest, classes }
}

/** From one edge of the rectangle to the other, where its middle is drawn; it ends at the picture's border. */
function span(size: number, side: number, random: Random): [from: number, to: number] {
  const half = Math.floor((size * side) / 2)
  const middle = random.below(size)
  return [Math.max(middle - half, 0), Math.min(middle + half, size)]
}

function orderOf(labels: Tensor, random: Random): Tensor {
  const order = random.shuffle(Int32Array.from({ length: labels.size(0) }, (_, i) => i))
  return fromTypedArray(order, [order.length], { device: labels.device })
}

/** `(N, classes)`, in the pictures' dtype. */
function softLabels(labels: Tensor, order: Tensor, share: number, classes: number, like: Tensor): Tensor {
  const hot = torch.oneHot(labels, { numClasses: classes }).to(like.dtype)
  return hot.mul(share).add(hot.indexSelect(0, order), { alpha: 1 - share })
}

// ---- Distributions -----------------------------------------------------------------------------------------------------

/** Beta(alpha, alpha), as a quotient of Gamma variables. */
function beta(alpha: number, random: Random): number {
  const [first, second] = [gamma(alpha, random), gamma(alpha, random)]
  const sum = first + second
  return sum > 0 ? first / sum : random.below(2) // both are too small for a number: one of the ends
}

/**
 * Marsaglia & Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26(3), 2000; below 1 by their remark on
 * powers of a uniform variable.
 */
function gamma(shape: number, random: Random): number {
  if (shape < 1) return gamma(shape + 1, random) * (1 - random.uniform()) ** (1 / shape)
  const d = shape - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  for (;;) {
    const x = normal(random)
    const v = (1 + c * x) ** 3
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v
  }
}

/** Box & Muller. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform())
}
