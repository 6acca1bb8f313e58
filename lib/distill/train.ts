import {
  anything,
  integer,
  module,
  oneOf,
  readOptions,
  unknownOption,
  type Kinds,
} from '../checks/options.js'
import { isPlainObject } from '../checks/realms.js'
import { AlambicError } from '../errors.js'
import { ModuleList } from '../nn/index.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import { adapted, appendAdaptation, type AdaptationLayer, type AdaptedSide } from './adaptation.js'
import { classification } from './classification.js'
import { checkLoader, checkModel, type Batches } from './batches.js'
import { fit, fitOptions, planOf, type FitOptions, type LossParts, type TrainingResult } from './fit.js'
import { AttentionTransfer, FeatureDistillationLoss, LogitsDistillationLoss } from './losses.js'
import type { Keeper } from './keeper.js'
import { toInputFunction, type ModelInput } from './model-input.js'
import { Objective, type ObjectiveTerm } from './objective.js'
import { observing, type Loss, type Seen, type Teacher } from './observe.js'
import { toPairs, type FeatureLayer, type LayerPair, type Term } from './term.js'

/** A model from images to logits `(N, classes)`. */
export type Classifier = Module<[Tensor], Tensor>

/** A loss over features, such as {@link FeatureDistillationLoss} and {@link AttentionTransfer}, or your own. */
export type FeatureCriterion = Module<
  [studentFeatures: Tensor[], teacherFeatures: Tensor[], studentLogits: Tensor, labels: Tensor],
  LossParts
>

export interface FeatureDistillationOptions extends FitOptions {
  /** Where the features are taken, one pair per level. */
  featureLayers: readonly FeatureLayer[]
  /** Default: `new FeatureDistillationLoss()`, that is alpha 0.5 and mean squared error. */
  loss?: FeatureCriterion
  /**
   * Which side's features an {@link AdaptationLayer} brings to the other's channels: `'teacher'`;
   * `'student'`, the regressors of FitNets; `'none'`. Default: `'teacher'`; `'none'` for {@link AttentionTransfer}.
   */
  adapt?: AdaptedSide
  /** Kernel size of the adaptation layers. Default: 1. */
  adaptKernelSize?: number
  /**
   * Converts a batch's images for a teacher that needs others than the student: another normalisation, range, size,
   * order of channels or layout. A function, or the two formats, see {@link ModelInput}. Default: the same images.
   */
  teacherInput?: ModelInput
}

/** What {@link trainWithFeatureDistillation} returns. */
export interface FeatureDistillationResult extends TrainingResult {
  /** The adaptation layers that were trained, one per level; empty without adaptation. */
  adaptation: ModuleList<AdaptationLayer>
}

const featureOptions: Kinds<FeatureDistillationOptions> = {
  ...fitOptions,
  featureLayers: anything, // toPairs() looks at them
  loss: module,
  adapt: oneOf('teacher', 'student', 'none'),
  adaptKernelSize: integer(1),
  teacherInput: anything, // toInputFunction() looks at it
}

/**
 * Trains `student` to classify and to reproduce the features of `teacher`, which runs in eval mode without gradients.
 * The channels of the adaptation layers are taken from the first batch. The event loop runs after every step.
 *
 * @param valLoader data on which the student is evaluated after each epoch; null for no evaluation
 * @throws AlambicError `ERR_UNKNOWN_LAYER`, `ERR_NAN_LOSS`, and the errors of the loss
 * @example await trainWithFeatureDistillation(teacher, student, train, val, { featureLayers: ['layer1'], epochs: 20 })
 */
export async function trainWithFeatureDistillation(
  teacher: Classifier,
  student: Classifier,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FeatureDistillationOptions,
): Promise<FeatureDistillationResult> {
  const who = 'trainWithFeatureDistillation'
  const {
    loss = new FeatureDistillationLoss(),
    adapt = defaultAdaptation(loss),
    adaptKernelSize = 1,
    epochs,
    featureLayers,
    teacherInput,
  } = readOptions(who, options, featureOptions)
  checkArguments(who, { teacher, student }, trainLoader, valLoader, epochs)
  const layers = toPairs('featureLayers', featureLayers)
  const adaptation = new ModuleList<AdaptationLayer>()
  const minimised = featureLoss(loss, layers, adapt, adaptation, adaptKernelSize)
  const toInput = toInputFunction('teacherInput', teacherInput)
  const teachers = { teacher: { model: teacher, toInput } }
  return { ...(await minimise(minimised, student, teachers, trainLoader, valLoader, options)), adaptation }
}

function featureLoss(
  loss: FeatureCriterion,
  layers: readonly LayerPair[],
  adapt: AdaptedSide,
  adaptation: ModuleList<AdaptationLayer>,
  kernelSize: number,
): Loss {
  // A loss of one's own may take what else a student gives.
  const logits = loss instanceof FeatureDistillationLoss || loss instanceof AttentionTransfer
  const featuresOf = ({ student, teachers }: Seen): [student: Tensor[], teacher: Tensor[]] => [
    layers.map(layer => student.features[layer.student]!),
    layers.map(layer => teachers['teacher']!.features[layer.teacher]!),
  ]
  return {
    student: { logits, layers: layers.map(({ student }) => student), embedding: false },
    teachers: { teacher: { logits: false, layers: layers.map(({ teacher }) => teacher), embedding: false } },
    modules: { trained: [adaptation], used: [loss] },
    key: JSON.stringify([layers, adapt]),
    ...(adapt !== 'none' && {
      prepare: seen => {
        appendAdaptation(adaptation, adapt, featuresOf(seen), kernelSize, layers)
      },
    }),
    forward(seen) {
      const [student, teacher] = adapted(adaptation, adapt, featuresOf(seen))
      return loss.forward(student, teacher, seen.student.output, seen.labels)
    },
  }
}

function defaultAdaptation(loss: FeatureCriterion): 'teacher' | 'none' {
  return loss instanceof AttentionTransfer ? 'none' : 'teacher' // attention maps have one channel
}

export interface LogitsDistillationOptions extends FitOptions {
  /** Default: `new LogitsDistillationLoss()`, that is alpha 0.5 and temperature 4. */
  loss?: LogitsDistillationLoss
  /**
   * Converts a batch's images for a teacher that needs others than the student: another normalisation, range, size,
   * order of channels or layout. A function, or the two formats, see {@link ModelInput}. Default: the same images.
   */
  teacherInput?: ModelInput
}

const logitsOptions: Kinds<LogitsDistillationOptions> = {
  ...fitOptions,
  loss: module,
  teacherInput: anything,
}

/**
 * Trains `student` on the labels and on the softened outputs of `teacher`: distillation without features.
 *
 * @param valLoader data on which the student is evaluated after each epoch; null for no evaluation
 * @throws AlambicError `ERR_NAN_LOSS`, and the errors of the loss
 */
export async function trainWithLogitsDistillation(
  teacher: Classifier,
  student: Classifier,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: LogitsDistillationOptions = {},
): Promise<TrainingResult> {
  const who = 'trainWithLogitsDistillation'
  const {
    loss = new LogitsDistillationLoss(),
    epochs,
    teacherInput,
  } = readOptions(who, options, logitsOptions)
  checkArguments(who, { teacher, student }, trainLoader, valLoader, epochs)
  const minimised: Loss = {
    student: outputOnly,
    teachers: { teacher: outputOnly },
    modules: { trained: [], used: [loss] },
    key: 'logits',
    forward: ({ student, teachers, labels }) =>
      loss.forward(student.output, teachers['teacher']!.output, labels),
  }
  const toInput = toInputFunction('teacherInput', teacherInput)
  const teachers = { teacher: { model: teacher, toInput } }
  return minimise(minimised, student, teachers, trainLoader, valLoader, options)
}

/**
 * Trains `model` on the labels only, with cross-entropy: for teachers, and for students without a teacher.
 *
 * @param valLoader data on which the model is evaluated after each epoch; null for no evaluation
 * @throws AlambicError `ERR_NAN_LOSS`; `ERR_LABEL_RANGE` for a label that is no class
 */
export async function trainClassifier(
  model: Classifier,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions = {},
): Promise<TrainingResult> {
  const { epochs } = readOptions('trainClassifier', options, fitOptions)
  checkArguments('trainClassifier', { model }, trainLoader, valLoader, epochs)
  const minimised: Loss = {
    student: outputOnly,
    teachers: {},
    modules: { trained: [], used: [] },
    key: 'labels',
    takesTargets: true,
    forward: ({ student, labels, targets }) => ({
      total: classification(student.output, labels, targets),
    }),
  }
  return minimise(minimised, model, {}, trainLoader, valLoader, options, 'the model')
}

/** @param whose how messages call the student */
function minimise(
  loss: Loss,
  student: Classifier,
  teachers: Readonly<Record<string, Teacher>>,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions,
  whose = 'the student',
  keeper?: Keeper,
): Promise<TrainingResult> {
  const plan = planOf(student, options, keeper?.resume)
  return observing(student, teachers, loss, plan, whose, method =>
    fit(method, trainLoader, valLoader, options, plan, keeper),
  )
}

/** One teacher, or several by name. */
export type Teachers = Classifier | Readonly<Record<string, Classifier>>

export interface ObjectiveOptions extends FitOptions {
  /** What is minimised: an {@link Objective}, or the list of its terms. */
  objective: Objective | readonly (Term | ObjectiveTerm)[]
  /**
   * Converts a batch's images for a teacher that needs others than the student, see {@link ModelInput}: for all
   * teachers, or by their names. Default: the same images.
   */
  teacherInput?: ModelInput | Readonly<Record<string, ModelInput>>
}

/** What {@link trainWithObjective} returns. */
export interface ObjectiveResult extends TrainingResult {
  /** With the parts of its terms, which were trained: connectors, memory banks. */
  objective: Objective
}

const objectiveOptions: Kinds<ObjectiveOptions> = {
  ...fitOptions,
  objective: anything, // Objective looks at it
  teacherInput: anything,
}

/**
 * Trains `student` on a weighted sum of terms. Each model runs once per step, whatever the number of terms; a teacher
 * that no term needs in an epoch does not run. `parts` of the progress are the values of the terms, not weighted.
 *
 * @param teachers one model, or several by name: a term sees the one that it names, or the mean of all; null where no
 *   term needs one
 * @param valLoader data on which the student is evaluated after each epoch; null for no evaluation
 * @throws AlambicError `ERR_UNKNOWN_LAYER`, `ERR_NAN_LOSS`, and the errors of the terms
 * @example
 * await trainWithObjective(teacher, student, train, val, {
 *   objective: [
 *     { term: new methods.CrossEntropy(), weight: 0.1 },
 *     { term: new methods.KD(), weight: 0.9 },
 *     { term: new methods.Attention({ layers: ['layer1', 'layer2'], variant: 'code' }), weight: 1000 },
 *   ],
 * })
 */
export async function trainWithObjective(
  teachers: Teachers | null,
  student: Classifier,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: ObjectiveOptions,
): Promise<ObjectiveResult> {
  return trainObjective('trainWithObjective', teachers, student, trainLoader, valLoader, options)
}

/**
 * {@link trainWithObjective}, for others that train so.
 *
 * @param who for messages
 * @param keeper saves the training between its steps, and says where it goes on
 * @internal
 */
export async function trainObjective(
  who: string,
  teachers: Teachers | null,
  student: Classifier,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: ObjectiveOptions,
  keeper?: Keeper,
): Promise<ObjectiveResult> {
  const {
    objective: given,
    teacherInput,
    epochs,
    accumulate = 1,
  } = readOptions(who, options, objectiveOptions)
  const models = teachersByName(who, teachers)
  const objective = given instanceof Objective ? given : new Objective(given)
  if (accumulate > 1) objective.refuseParts()
  const names = Object.keys(models)
  const labelled: Record<string, unknown> = {}
  for (const name of names) labelled[names.length === 1 ? 'teacher' : `teachers: ${name}`] = models[name]
  labelled['student'] = student
  checkArguments(who, labelled, trainLoader, valLoader, epochs)
  const inputs = inputsByTeacher(teacherInput, names)
  const observed = Object.fromEntries(
    Object.entries(models).map(([name, model]) => [name, { model, toInput: inputs(name).toInput }]),
  )
  const loss = objective.toLoss(names)
  const parameter = student.parameters()[0]
  if (parameter !== undefined) objective.to(parameter.device)
  const result = await minimise(
    loss,
    student,
    observed,
    trainLoader,
    valLoader,
    options,
    'the student',
    keeper,
  )
  return { ...result, objective }
}

/**
 * `teacher` is the name of a single one.
 *
 * @internal
 */
export function teachersByName(who: string, teachers: Teachers | null): Record<string, Classifier> {
  if (teachers === null) return {}
  if (isPlainObject(teachers)) return { ...(teachers as Record<string, Classifier>) }
  checkModel(`${who}: teachers`, teachers)
  return { teacher: teachers }
}

interface InputOfTeacher {
  given: ModelInput | undefined
  toInput: (images: Tensor) => Tensor
}

/**
 * What is given to each teacher.
 *
 * @internal
 */
export function inputsByTeacher(
  given: ObjectiveOptions['teacherInput'],
  names: readonly string[],
): (name: string) => InputOfTeacher {
  const isByName = isPlainObject(given) && !('from' in given && 'to' in given)
  if (!isByName) {
    const all = given as ModelInput | undefined
    const toInput = toInputFunction('teacherInput', all)
    return () => ({ given: all, toInput })
  }
  const unknown = Object.keys(given).find(name => !names.includes(name))
  if (unknown !== undefined) throw unknownOption('teacherInput', unknown, names)
  return name => {
    const own = (given as Record<string, ModelInput | undefined>)[name]
    return { given: own, toInput: toInputFunction(`teacherInput: ${name}`, own) }
  }
}

const outputOnly = { logits: true, layers: [], embedding: false } as const

/** What is wrong with the arguments is said before anything is changed. */
function checkArguments(
  who: string,
  models: Record<string, unknown>,
  trainLoader: unknown,
  valLoader: unknown,
  epochs?: number,
): void {
  for (const [name, model] of Object.entries(models)) checkModel(`${who}: ${name}`, model)
  const { student, ...teachers } = models
  if (student !== undefined && Object.values(teachers).includes(student))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${who}: student: expected another module than the teacher, got the same one, whose weights the training ` +
        'changes; a second one with its stateDict() can learn from it',
    )
  checkLoader(`${who}: trainLoader`, trainLoader, { epochs })
  if (valLoader !== null && valLoader !== undefined) checkLoader(`${who}: valLoader`, valLoader, { epochs })
}
