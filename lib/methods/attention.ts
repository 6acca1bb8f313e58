import { described, listOf, number, oneOf, readOptions, type Kinds } from '../checks/options.js'
import { AlambicError } from '../errors.js'
import { checkWeights } from '../distill/losses.js'
import {
  featureLayers,
  observedFeatures,
  Term,
  toPairs,
  type FeatureLayer,
  type View,
} from '../distill/term.js'
import { native } from '../native/loader.js'
import { functional } from '../nn/index.js'
import { Tensor } from '../tensors/tensor.js'

export interface AttentionOptions {
  /** Where the features are taken, one pair per level. */
  layers?: readonly FeatureLayer[]
  /**
   * How the levels' maps become one number. A map is the mean over channels of the squares, scaled to unit L2 norm.
   *
   * - `'seed'` (default): the mean over levels of the mean squares of the maps' differences; the teacher's map is resized
   *   bilinearly. What `AttentionTransfer` calls `attention`.
   * - `'code'`: the sum over levels of the mean squares; the larger feature is pooled before its map is made. As the
   *   authors' code and RepDistiller, which weight it by 1000.
   * - `'paper'`: the sum over levels of the L2 norms of the maps' differences, mean over samples; pooled likewise.
   */
  variant?: 'seed' | 'code' | 'paper'
  /** One number of at least 0 per level, with a sum above 0; of the mean or of the sum. Default: 1 each. */
  weights?: readonly number[]
}

export const attentionOptions: Kinds<AttentionOptions> = {
  layers: featureLayers,
  variant: described(
    oneOf('seed', 'code', 'paper'),
    "How the levels' maps become one number: the mean of the mean squares, their sum as in the authors' code, or the sum of the norms as in the paper.",
    { default: 'seed' },
  ),
  weights: described(
    listOf(number, 'an array of numbers, one per level'),
    'One number per level. Default: 1 each.',
  ),
}

/**
 * Distillation by attention: the student learns where the teacher's activations are strong. Channels may differ.
 *
 * Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017.
 */
export class Attention extends Term {
  declare readonly layers?: readonly FeatureLayer[]
  readonly variant: 'seed' | 'code' | 'paper'
  readonly weights: readonly number[] | undefined

  constructor(options: AttentionOptions = {}) {
    super()
    const { layers, variant = 'seed', weights } = readOptions('Attention', options, attentionOptions)
    if (layers !== undefined) this.layers = toPairs('Attention: layers', layers)
    this.variant = variant
    this.weights = checkWeights('Attention', weights)
  }

  /**
   * @param observation the features of both, one tensor (N, C, H, W) per level
   * @throws AlambicError `ERR_LENGTH_MISMATCH`, `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`, `ERR_DEVICE`
   */
  override forward(observation: {
    student: Pick<View, 'features'>
    teacher: Pick<View, 'features'>
  }): Tensor {
    const [student, teacher] = observedFeatures('Attention', observation)
    if (this.variant === 'paper') return this.sumOfNorms(student, teacher)
    const handles = (features: readonly Tensor[]) => features.map(({ handle }) => handle)
    const mean = new Tensor(
      native.attentionDistance(handles(student), handles(teacher), this.variant === 'code', this.weights),
    )
    return this.variant === 'seed' ? mean : mean.mul(this.totalWeight(student.length))
  }

  private sumOfNorms(student: readonly Tensor[], teacher: readonly Tensor[]): Tensor {
    const weights = this.weights ?? student.map(() => 1)
    if (weights.length !== student.length)
      throw new AlambicError(
        'ERR_LENGTH_MISMATCH',
        `Attention: weights: expected one per level, got ${weights.length} for ${student.length} levels`,
      )
    return student
      .map((ours, i) => [ours, teacher[i]!, weights[i]!] as const)
      .filter(([, , weight]) => weight > 0)
      .map(([ours, theirs, weight]) => {
        const [a, b] = pooledToTheSmaller(ours, theirs)
        return mapOf(a).sub(mapOf(b)).flatten({ startDim: 1 }).norm(2, [1]).mean().mul(weight)
      })
      .reduce((sum, level) => sum.add(level))
  }

  private totalWeight(levels: number): number {
    return this.weights?.reduce((sum, weight) => sum + weight, 0) ?? levels
  }
}

function mapOf(features: Tensor): Tensor {
  return new Tensor(native.attentionMap(features.handle))
}

/** By the height, and for equal heights by the width. */
function isLarger(one: Tensor, other: Tensor): boolean {
  const [height, width] = [2, 3].map(dim => one.size(dim) - other.size(dim)) as [number, number]
  return height === 0 ? width > 0 : height > 0
}

function pooledToTheSmaller(student: Tensor, teacher: Tensor): [student: Tensor, teacher: Tensor] {
  const sizes = [student, teacher].map(({ shape }) => shape.slice(2))
  if (String(sizes[0]) === String(sizes[1])) return [student, teacher]
  if (student.ndim !== 4 || teacher.ndim !== 4)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `Attention: expected features of equal size, or 4-D ones (N, C, H, W), got student (${student.shape.join(', ')}) ` +
        `and teacher (${teacher.shape.join(', ')})`,
    )
  const pooled = (feature: Tensor, like: Tensor) =>
    functional.adaptiveAvgPool2d(feature, [like.shape[2]!, like.shape[3]!])
  return isLarger(student, teacher)
    ? [pooled(student, teacher), teacher]
    : [student, pooled(teacher, student)]
}
