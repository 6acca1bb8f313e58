/** Terms: what an objective is a sum of. A method of distillation is a term. */
import { AlambicError, argumentError } from '../errors.js'
import { Module } from '../nn/module.js'
import { described, readOptions, text, type Kind, type Kinds } from '../checks/options.js'
import { requireTensor, type Tensor } from '../tensors/tensor.js'

/** A layer of both models by one dotted path, or one path for each. */
export type FeatureLayer = string | { student: string; teacher: string }

/** What one model gave. */
export interface View {
  /** `(N, classes)` */
  logits: Tensor
  /** The features at the term's layers, in their order. */
  features: Tensor[]
  /** `(N, D)`: what the classifier, the model's last linear layer, is given. Only for terms that ask for it. */
  embedding?: Tensor
}

/** What one step saw. A term is given this, with the features of its own layers. */
export interface Observation {
  student: View
  /** Of the teacher that the term names, or the mean of all. Computed without gradients. */
  teacher: View
  /** `(N)`, int64 */
  labels: Tensor
  /** `(N)`, int64: positions in the data set. Undefined where the batches do not say them. */
  indices?: Tensor | undefined
  /** `(N, classes)`: soft labels, where pictures were mixed, instead of `labels`. */
  targets?: Tensor | undefined
  /** Of the stage, from 1. */
  epoch: number
  /** Of the stage, from 1. */
  step: number
}

/**
 * A method of distillation: a module that makes one scalar from what a step observes. Its parameters (connectors,
 * regressors, critics) are trained with the student, its buffers (memory banks) are saved with the run.
 *
 * @example
 * class LogitsMse extends Term {
 *   forward({ student, teacher }: Observation) {
 *     return nn.functional.mseLoss(student.logits, teacher.logits)
 *   }
 * }
 */
export abstract class Term extends Module<[Observation], Tensor> {
  /** Where the term takes features. Default: nowhere. */
  readonly layers?: readonly FeatureLayer[]
  /** Whether it takes {@link View.embedding}. */
  readonly needsEmbedding: boolean = false
  /** Whether it takes what the teacher gives. A term of the labels alone does not. */
  readonly needsTeacher: boolean = true
  /** Whether it takes {@link Observation.indices}. */
  readonly needsIndices: boolean = false
  /**
   * Whether its value depends on which samples share a batch. Such a term is never computed on parts of a batch:
   * the objective would be another.
   */
  readonly relational: boolean = false

  /**
   * Called once, with the first batch, before its step: in eval mode, without gradients. A term whose parts depend on
   * shapes makes them here.
   */
  prepare(_observation: Observation): void {
    // Most terms know all that they need.
  }

  abstract override forward(observation: Observation): Tensor
}

/** One path for each model. */
export interface LayerPair {
  student: string
  teacher: string
}

/** Of the option `layers`, which {@link toPairs} reads. */
export const featureLayers: Kind = described(
  {
    expected: 'at least one layer path, or { student, teacher }',
    fits: value => Array.isArray(value) && value.length > 0,
    schema: {
      type: 'array',
      minItems: 1,
      items: {
        anyOf: [
          { type: 'string' },
          {
            type: 'object',
            properties: { student: { type: 'string' }, teacher: { type: 'string' } },
            required: ['student', 'teacher'],
            additionalProperties: false,
          },
        ],
      },
    },
  },
  'Where the features are taken, one per level: a path of both networks, or { student, teacher }.',
)

const pairOptions: Kinds<LayerPair> = { student: text, teacher: text }

/**
 * @param name of the option, for messages
 * @throws AlambicError `ERR_ARGUMENT` for anything but at least one path or pair of paths
 */
export function toPairs(name: string, layers: readonly FeatureLayer[] | undefined): LayerPair[] {
  if (!Array.isArray(layers) || layers.length === 0)
    throw argumentError(name, 'at least one layer path, or { student, teacher }', layers)
  return (layers as FeatureLayer[]).map(layer => {
    if (typeof layer === 'string') return { student: layer, teacher: layer }
    if (typeof layer?.student === 'string' && typeof layer.teacher === 'string')
      return readOptions(name, layer, pairOptions)
    throw argumentError(name, 'layer paths, or { student, teacher } with one each', layers)
  })
}

/**
 * The features that a term takes from an observation, which may have been made by hand: one of each model per level.
 *
 * @param who the term
 * @throws AlambicError `ERR_ARGUMENT`, `ERR_LENGTH_MISMATCH`
 */
export function observedFeatures(
  who: string,
  { student, teacher }: { student: Pick<View, 'features'>; teacher: Pick<View, 'features'> },
): [student: Tensor[], teacher: Tensor[]] {
  const [ours, theirs] = [student, teacher].map((view, side) => {
    const { features } = (view ?? {}) as Partial<View>
    const name = `${['student', 'teacher'][side]!}.features`
    if (!Array.isArray(features)) throw argumentError(`${who}: ${name}`, 'an array of tensors', features)
    features.forEach((each, i) => {
      requireTensor(`${who}: ${name}[${i}]`, each)
    })
    return features
  }) as [Tensor[], Tensor[]]
  if (ours.length !== theirs.length)
    throw new AlambicError(
      'ERR_LENGTH_MISMATCH',
      `${who}: expected as many features of the student as of the teacher, got ${ours.length} and ${theirs.length}`,
    )
  return [ours, theirs]
}
