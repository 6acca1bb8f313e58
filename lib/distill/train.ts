import { noGrad } from '../tensors/grad-mode.js'
import { attachFeatures, type FeatureProbe } from '../features/capture.js'
import type { Batch } from '../data/dataset.js'
import { AlambicError, argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import { functional, ModuleList } from '../nn/index.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import { inMode } from '../nn/modes.js'
import { anything, integer, module, oneOf, readOptions, text, type Kinds } from '../checks/options.js'
import { besideTheRest } from '../trace/side-part.js'
import { AdaptationLayer } from './adaptation.js'
import { checkLoader, checkModel, type Batches } from './batches.js'
import { releasingEarly } from './early-release.js'
import { fit, fitOptions, planOf, type FitOptions, type LossParts, type TrainingResult } from './fit.js'
import { toInputFunction, type ModelInput } from './model-input.js'
import { checkParts, refuseAsync, requireLogits } from './outputs.js'
import type { InParts } from './step.js'
import { PreparedTeacher } from './teacher.js'
import { AttentionTransfer, FeatureDistillationLoss, LogitsDistillationLoss } from './losses.js'

/** A model from images to logits `(N, classes)`. */
export type Classifier = Module<[Tensor], Tensor>

/** A layer of both models by one dotted path, or one path for each. */
export type FeatureLayer = string | { student: string; teacher: string }

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
  adapt?: 'teacher' | 'student' | 'none'
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
  } = readOptions(who, options, featureOptions)
  checkArguments(who, { teacher, student }, trainLoader, valLoader, epochs)
  const layers = toPairs(featureLayers)
  const adaptation = new ModuleList<AdaptationLayer>()
  // A loss of one's own may take what else a student gives.
  const takesLogits = loss instanceof FeatureDistillationLoss || loss instanceof AttentionTransfer

  const toTeacher = toInputFunction('teacherInput', options.teacherInput)
  const plan = planOf(student, options)
  const fastTeacher = new PreparedTeacher(teacher, plan)

  return withProbes(teacher, student, layers, async (teacherProbe, studentProbe) => {
    const teach = ({ data }: Batch) =>
      noGrad(() => {
        const images = toTeacher(data)
        const taught = releasingEarly('the teacher', teacher, () => teacherProbe.forward(images))
        refuseAsync('the teacher', taught.output)
        return taught
      })
    const observe = (batch: Batch, taught = teach(batch)) => {
      const { output: logits, features } = studentProbe.forward(batch.data)
      refuseAsync('the student', logits)
      return {
        logits,
        studentFeatures: layers.map(layer => features[layer.student]!),
        teacherFeatures: layers.map(layer => taught.features[layer.teacher]!),
      }
    }
    const method = {
      student,
      teacher: fastTeacher,
      key: JSON.stringify([layers, adapt]),
      modules: { trained: [student, adaptation], used: [teacher, loss] },
      prepare(batch: Batch): Tensor[] {
        fastTeacher.prepare(() => {
          const { output, features } = teach(batch)
          return [output, ...Object.values(features)]
        })
        if (adapt !== 'none') {
          const { studentFeatures, teacherFeatures } = inMode(student, false, () =>
            noGrad(() => observe(batch)),
          )
          const [from, to] =
            adapt === 'teacher' ? [teacherFeatures, studentFeatures] : [studentFeatures, teacherFeatures]
          from.forEach((feature, i) =>
            adaptation.append(makeAdaptation(feature, to[i]!, adaptKernelSize, layers[i]!)),
          )
        }
        return [...student.parameters(), ...adaptation.parameters()]
      },
      *loss(batch: Batch): InParts<LossParts> {
        // Its other tensors need not wait for the backward.
        const taught = besideTheRest(() => fastTeacher.run(() => scope(() => teach(batch))))
        yield
        const { logits, studentFeatures, teacherFeatures } = observe(batch, taught)
        if (takesLogits) requireLogits('the student', logits)
        return checkParts(
          loss.forward(
            adapt === 'student' ? adaptAll(adaptation, studentFeatures) : studentFeatures,
            adapt === 'teacher' ? adaptAll(adaptation, teacherFeatures) : teacherFeatures,
            logits,
            batch.labels,
          ),
        )
      },
    }
    const result = await fit(method, trainLoader, valLoader, options, plan)
    return { ...result, adaptation }
  }).finally(() => {
    fastTeacher.dispose()
  })
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
  const toTeacher = toInputFunction('teacherInput', teacherInput)
  const plan = planOf(student, options)
  teacher.eval()
  const fastTeacher = new PreparedTeacher(teacher, plan)
  const teach = ({ data }: Batch) =>
    noGrad(() => {
      const images = toTeacher(data)
      return releasingEarly('the teacher', teacher, () =>
        requireLogits('the teacher', teacher.forward(images)),
      )
    })
  const method = {
    student,
    modules: { trained: [student], used: [teacher, loss] },
    teacher: fastTeacher,
    key: 'logits',
    prepare(batch: Batch) {
      fastTeacher.prepare(() => [teach(batch)])
      return student.parameters()
    },
    *loss(batch: Batch): InParts<LossParts> {
      const teacherLogits = besideTheRest(() => fastTeacher.run(() => scope(() => teach(batch))))
      yield
      const studentLogits = requireLogits('the student', student.forward(batch.data))
      return checkParts(loss.forward(studentLogits, teacherLogits, batch.labels))
    },
  }
  return fit(method, trainLoader, valLoader, options, plan).finally(() => {
    fastTeacher.dispose()
  })
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
  const method = {
    student: model,
    key: 'labels',
    modules: { trained: [model], used: [] },
    prepare: () => model.parameters(),
    // eslint-disable-next-line require-yield -- one part
    *loss({ data, labels }: Batch): InParts<LossParts> {
      return { total: functional.crossEntropy(requireLogits('the model', model.forward(data)), labels) }
    },
  }
  return fit(method, trainLoader, valLoader, options)
}

/** What is wrong with the arguments is said before anything is changed. */
function checkArguments(
  who: string,
  models: Record<string, unknown>,
  trainLoader: unknown,
  valLoader: unknown,
  epochs?: number,
): void {
  for (const [name, model] of Object.entries(models)) checkModel(`${who}: ${name}`, model)
  const { teacher, student } = models
  if (teacher !== undefined && teacher === student)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${who}: student: expected another module than the teacher, got the same one, whose weights the training ` +
        'changes; a second one with its stateDict() can learn from it',
    )
  checkLoader(`${who}: trainLoader`, trainLoader, { epochs })
  if (valLoader !== null && valLoader !== undefined) checkLoader(`${who}: valLoader`, valLoader, { epochs })
}

function defaultAdaptation(loss: FeatureCriterion): 'teacher' | 'none' {
  return loss instanceof AttentionTransfer ? 'none' : 'teacher' // attention maps have one channel
}

const pairOptions: Kinds<{ student: string; teacher: string }> = { student: text, teacher: text }

function toPairs(layers: readonly FeatureLayer[] | undefined): { student: string; teacher: string }[] {
  if (!Array.isArray(layers) || layers.length === 0)
    throw argumentError('featureLayers', 'at least one layer path, or { student, teacher }', layers)
  return (layers as FeatureLayer[]).map(layer => {
    if (typeof layer === 'string') return { student: layer, teacher: layer }
    if (typeof layer?.student === 'string' && typeof layer.teacher === 'string')
      return readOptions('featureLayers', layer, pairOptions)
    throw argumentError('featureLayers', 'layer paths, or { student, teacher } with one each', layers)
  })
}

/** Hooks both models while `body` runs; the teacher in eval mode. */
async function withProbes<T>(
  teacher: Classifier,
  student: Classifier,
  layers: { student: string; teacher: string }[],
  body: (teacher: FeatureProbe<Tensor>, student: FeatureProbe<Tensor>) => Promise<T>,
): Promise<T> {
  const teacherProbe = attachFeatures(
    teacher,
    layers.map(layer => layer.teacher),
  )
  try {
    const studentProbe = attachFeatures(
      student,
      layers.map(layer => layer.student),
    )
    try {
      teacher.eval()
      return await body(teacherProbe, studentProbe)
    } finally {
      studentProbe.detach()
    }
  } finally {
    teacherProbe.detach()
  }
}

function makeAdaptation(
  from: Tensor,
  to: Tensor,
  kernelSize: number,
  layer: { student: string; teacher: string },
): AdaptationLayer {
  const [fromChannels, toChannels] = [from.shape[1], to.shape[1]]
  if (fromChannels === undefined || toChannels === undefined)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `featureLayers: expected features (N, C, …) at ${layer.student} and ${layer.teacher}, ` +
        `got (${to.shape.join(', ')}) and (${from.shape.join(', ')})`,
    )
  return new AdaptationLayer(fromChannels, toChannels, kernelSize).to({ device: to.device, dtype: to.dtype })
}

function adaptAll(adaptation: ModuleList<AdaptationLayer>, features: Tensor[]): Tensor[] {
  return features.map((feature, i) => adaptation.at(i).forward(feature))
}
