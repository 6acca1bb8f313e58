import { described, integer, listOf, number, oneOf, readOptions, type Kinds } from '../checks/options.js'
import { adapted, appendAdaptation, type AdaptationLayer, type AdaptedSide } from '../distill/adaptation.js'
import { checkWeights } from '../distill/losses.js'
import {
  featureLayers,
  observedFeatures,
  Term,
  toPairs,
  type FeatureLayer,
  type LayerPair,
  type View,
} from '../distill/term.js'
import { native } from '../native/loader.js'
import { ModuleList } from '../nn/index.js'
import { Tensor } from '../tensors/tensor.js'

export interface FeaturesOptions {
  /** Where the features are taken, one pair per level. */
  layers?: readonly FeatureLayer[]
  /** `'mse'`: mean squared error; `'cosine'`: mean of 1 − cosine of the flattened samples. Default: `'mse'`. */
  criterion?: 'mse' | 'cosine'
  /** One number of at least 0 per level, with a sum above 0: the mean over levels is a weighted mean. Default: 1 each. */
  weights?: readonly number[]
  /**
   * Which side's features an {@link AdaptationLayer} brings to the other's channels: `'teacher'`; `'student'`, as the
   * regressors of FitNets; `'none'`. Default: `'teacher'`.
   */
  adapt?: AdaptedSide
  /** Kernel size of the adaptation layers. Default: 1. */
  adaptKernelSize?: number
}

export const featuresOptions: Kinds<FeaturesOptions> = {
  layers: featureLayers,
  criterion: described(
    oneOf('mse', 'cosine'),
    "'mse': mean squared error; 'cosine': mean of 1 − cosine of the flattened samples.",
    { default: 'mse' },
  ),
  weights: described(
    listOf(number, 'an array of numbers, one per level'),
    'One number per level; the mean over levels is a weighted mean. Default: 1 each.',
  ),
  adapt: described(
    oneOf('teacher', 'student', 'none'),
    "Which side's features a trained convolution brings to the other's channels.",
    { default: 'teacher' },
  ),
  adaptKernelSize: described(integer(1), 'Kernel size of these convolutions.', { default: 1 }),
}

/**
 * The distance of the student's features from the teacher's, mean over levels: what `FeatureDistillationLoss` calls
 * `feature`. Of two 4-D features with different spatial sizes the larger is average-pooled to the smaller.
 *
 * Romero et al., "FitNets: Hints for Thin Deep Nets", 2015; here with one distance per level and their mean.
 */
export class Features extends Term {
  declare readonly layers?: readonly FeatureLayer[]
  readonly criterion: 'mse' | 'cosine'
  readonly weights: readonly number[] | undefined
  readonly adapt: AdaptedSide
  readonly adaptKernelSize: number
  /** One per level, made with the first batch; empty without adaptation. */
  readonly adaptation = new ModuleList<AdaptationLayer>()

  constructor(options: FeaturesOptions = {}) {
    super()
    const { layers, criterion, weights, adapt, adaptKernelSize } = readOptions(
      'Features',
      options,
      featuresOptions,
    )
    if (layers !== undefined) this.layers = toPairs('Features: layers', layers)
    this.criterion = criterion ?? 'mse'
    this.weights = checkWeights('Features', weights)
    this.adapt = adapt ?? 'teacher'
    this.adaptKernelSize = adaptKernelSize ?? 1
  }

  override prepare(observation: { student: Pick<View, 'features'>; teacher: Pick<View, 'features'> }): void {
    if (this.adapt === 'none' || this.adaptation.length > 0) return
    const features = observedFeatures('Features', observation)
    appendAdaptation(
      this.adaptation,
      this.adapt,
      features,
      this.adaptKernelSize,
      this.levels(features[0].length),
    )
  }

  /**
   * @param observation the features of both, one tensor per level: (N, C, H, W), or any shape that is equal on both
   *   sides
   * @throws AlambicError `ERR_LENGTH_MISMATCH`, `ERR_CHANNEL_MISMATCH`, `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`, `ERR_DEVICE`
   */
  override forward(observation: {
    student: Pick<View, 'features'>
    teacher: Pick<View, 'features'>
  }): Tensor {
    const features = observedFeatures('Features', observation)
    // By hand, a term that was not prepared computes without.
    const side = this.adaptation.length === 0 ? 'none' : this.adapt
    const [student, teacher] = adapted(this.adaptation, side, features)
    const handles = (features: readonly Tensor[]) => features.map(({ handle }) => handle)
    return new Tensor(
      native.featureDistance(handles(student), handles(teacher), this.criterion, this.weights),
    )
  }

  private levels(count: number): readonly LayerPair[] {
    if (this.layers !== undefined) return this.layers as readonly LayerPair[]
    return Array.from({ length: count }, (_, i) => ({ student: `level ${i}`, teacher: `level ${i}` }))
  }
}
