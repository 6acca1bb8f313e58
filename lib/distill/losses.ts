import { argumentError } from '../errors.js'
import type { LossParts } from '../native/contract.js'
import { native } from '../native/loader.js'
import { Module } from '../nn/module.js'
import { between, boolean, listOf, number, oneOf, readOptions, type Kinds } from '../checks/options.js'
import { handleOf, handlesOf, Tensor } from '../tensors/tensor.js'

/** The parts of a feature distillation loss; all scalars, `total` is the one to call `backward()` on. */
export interface FeatureLoss {
  /**
   * `alpha · feature + (1 − alpha) · classification`; a part with weight 0 is left out, even if it is NaN or infinite.
   */
  total: Tensor
  /** The (weighted) mean over levels. */
  feature: Tensor
  /** Cross-entropy of the student's logits. */
  classification: Tensor
}

export interface AttentionLoss {
  /**
   * `alpha · attention + (1 − alpha) · classification`; a part with weight 0 is left out, even if it is NaN or
   * infinite.
   */
  total: Tensor
  /** The (weighted) mean over levels. */
  attention: Tensor
  /** Cross-entropy of the student's logits. */
  classification: Tensor
}

export interface LogitsLoss {
  /**
   * `alpha · logits + (1 − alpha) · classification`; a part with weight 0 is left out, even if it is NaN or infinite.
   */
  total: Tensor
  /** `temperature² · KL(teacher ‖ student)` of the softened outputs. */
  logits: Tensor
  /** Cross-entropy of the student's logits. */
  classification: Tensor
}

export interface FeatureDistillationLossOptions {
  /** Share of the feature loss in the total, 0 to 1. Default: 0.5. */
  alpha?: number
  /** `'mse'`: mean squared error; `'cosine'`: mean of 1 − cosine of the flattened samples. Default: `'mse'`. */
  criterion?: 'mse' | 'cosine'
  /**
   * One number of at least 0 per level, with a sum above 0: the mean over levels is a weighted mean, so `alpha` keeps
   * its meaning. Default: 1 for each.
   */
  weights?: readonly number[]
}

/** Weights are checked together. */
const featureOptions: Kinds<FeatureDistillationLossOptions> = {
  alpha: between(0, 1),
  criterion: oneOf('mse', 'cosine'),
  weights: listOf(number, 'an array of numbers, one per level'),
}

/**
 * Distillation by features: the loss is the distance of the student's features from the teacher's, level by level. If
 * the spatial sizes of two 4-D features differ, the larger (comparing height, then width) is average-pooled to the
 * smaller. Half precision features are computed in float32, and the result is float32; two dtypes are converted to the
 * wider one.
 *
 * Romero et al., "FitNets: Hints for Thin Deep Nets", 2015; here with one distance per level and their mean.
 */
export class FeatureDistillationLoss extends Module {
  readonly alpha: number
  readonly criterion: 'mse' | 'cosine'
  readonly weights: readonly number[] | undefined

  constructor(options: FeatureDistillationLossOptions = {}) {
    super()
    const {
      alpha = 0.5,
      criterion = 'mse',
      weights,
    } = readOptions('FeatureDistillationLoss', options, featureOptions)
    this.alpha = alpha
    this.criterion = criterion
    this.weights = checkWeights('FeatureDistillationLoss', weights)
  }

  /**
   * @param studentFeatures one tensor per level, `(N, C, H, W)` or any shape that is equal to the teacher's
   * @param teacherFeatures one tensor per level, with the same channels; an {@link AdaptationLayer} makes them equal
   * @param studentLogits `(N, classes)`
   * @param labels `(N)`, int64
   * @throws AlambicError `ERR_LENGTH_MISMATCH`, `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`,
   *   `ERR_DEVICE`, `ERR_LABEL_RANGE`
   */
  override forward(
    studentFeatures: readonly Tensor[],
    teacherFeatures: readonly Tensor[],
    studentLogits: Tensor,
    labels: Tensor,
  ): FeatureLoss {
    const [total, feature, classification] = toTensors(
      native.featureDistillation(
        handlesOf('FeatureDistillationLoss: studentFeatures', studentFeatures),
        handlesOf('FeatureDistillationLoss: teacherFeatures', teacherFeatures),
        handleOf('FeatureDistillationLoss: studentLogits', studentLogits),
        handleOf('FeatureDistillationLoss: labels', labels),
        this.alpha,
        this.criterion,
        this.weights,
      ),
    )
    return { total, feature, classification }
  }
}

export interface AttentionTransferOptions {
  /** Share of the attention loss in the total, 0 to 1. Default: 0.5. */
  alpha?: number
  /**
   * One number of at least 0 per level, with a sum above 0: the mean over levels is a weighted mean, so `alpha` keeps
   * its meaning. Default: 1 for each.
   */
  weights?: readonly number[]
  /**
   * Pool the larger feature (comparing height, then width) to the smaller one's size before its map is computed, as
   * RepDistiller does. Default: false:
   * the teacher's map is resized bilinearly (`interpolate` with `mode="bilinear"`).
   */
  pool?: boolean
}

const attentionOptions: Kinds<AttentionTransferOptions> = {
  alpha: between(0, 1),
  weights: listOf(number, 'an array of numbers, one per level'),
  pool: boolean,
}

/**
 * Distillation by attention: the student learns where the teacher's activations are strong. Channels may differ.
 *
 * Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017. The paper sums over samples and levels and scales
 * by a factor; here the loss is averaged and weighted by `alpha`.
 */
export class AttentionTransfer extends Module {
  readonly alpha: number
  readonly weights: readonly number[] | undefined
  readonly pool: boolean

  constructor(options: AttentionTransferOptions = {}) {
    super()
    const { alpha = 0.5, weights, pool = false } = readOptions('AttentionTransfer', options, attentionOptions)
    this.alpha = alpha
    this.weights = checkWeights('AttentionTransfer', weights)
    this.pool = pool
  }

  /**
   * `(N, C, H, W)` → `(N, 1, H, W)`: the mean over channels of the squares, scaled to unit L2 norm per sample.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH`
   */
  attentionMap(features: Tensor): Tensor {
    return new Tensor(native.attentionMap(handleOf('attentionMap: features', features)))
  }

  /** Arguments and errors as for {@link FeatureDistillationLoss.forward}, but channels may differ. */
  override forward(
    studentFeatures: readonly Tensor[],
    teacherFeatures: readonly Tensor[],
    studentLogits: Tensor,
    labels: Tensor,
  ): AttentionLoss {
    const [total, attention, classification] = toTensors(
      native.attentionTransfer(
        handlesOf('AttentionTransfer: studentFeatures', studentFeatures),
        handlesOf('AttentionTransfer: teacherFeatures', teacherFeatures),
        handleOf('AttentionTransfer: studentLogits', studentLogits),
        handleOf('AttentionTransfer: labels', labels),
        this.alpha,
        this.pool,
        this.weights,
      ),
    )
    return { total, attention, classification }
  }
}

export interface LogitsDistillationLossOptions {
  /** Share of the logits loss in the total, 0 to 1. Default: 0.5. */
  alpha?: number
  /** Softens both outputs; from 1e-6 to 1e6. Default: 4. */
  temperature?: number
}

/** What both outputs may be divided by: so much that float32 still holds its square. */
export const temperature = between(1e-6, 1e6)

const logitsOptions: Kinds<LogitsDistillationLossOptions> = { alpha: between(0, 1), temperature }

/**
 * Distillation by outputs only. A class that the teacher excludes by a logit of −∞ adds nothing to the loss; if only
 * the student excludes a class, the loss is infinite.
 *
 * Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015.
 */
export class LogitsDistillationLoss extends Module {
  readonly alpha: number
  readonly temperature: number

  constructor(options: LogitsDistillationLossOptions = {}) {
    super()
    const { alpha = 0.5, temperature = 4 } = readOptions('LogitsDistillationLoss', options, logitsOptions)
    this.alpha = alpha
    this.temperature = temperature
  }

  /**
   * @param studentLogits `(N, classes)`
   * @param teacherLogits `(N, classes)`
   * @param labels `(N)`, int64
   * @throws AlambicError `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`, `ERR_LABEL_RANGE`
   */
  override forward(studentLogits: Tensor, teacherLogits: Tensor, labels: Tensor): LogitsLoss {
    const [total, logits, classification] = toTensors(
      native.logitsDistillation(
        handleOf('LogitsDistillationLoss: teacherLogits', teacherLogits),
        this.temperature,
        handleOf('LogitsDistillationLoss: studentLogits', studentLogits),
        handleOf('LogitsDistillationLoss: labels', labels),
        this.alpha,
      ),
    )
    return { total, logits, classification }
  }
}

function toTensors([total, distillation, classification]: LossParts): [Tensor, Tensor, Tensor] {
  return [new Tensor(total), new Tensor(distillation), new Tensor(classification)]
}

/** @throws AlambicError `ERR_ARGUMENT` for negative weights, and for those without a sum above 0 */
export function checkWeights(
  name: string,
  weights: readonly number[] | undefined,
): readonly number[] | undefined {
  if (weights === undefined) return undefined
  const sum = weights.reduce((total, weight) => total + weight, 0)
  if (!weights.every(weight => weight >= 0) || !(sum > 0 && Number.isFinite(sum)))
    throw argumentError(`${name}: weights`, 'numbers of at least 0 with a sum above 0', weights)
  return [...weights]
}
