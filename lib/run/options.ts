/** What a run is made of. */
import type { TeacherCacheMode, TeacherCacheOptions } from '../cache/options.js'
import type { Classifier, Teachers } from '../distill/train.js'
import type { Dataset } from '../data/dataset.js'
import type { DataLoaderOptions } from '../data/loader.js'
import type { EpochReport } from '../distill/fit.js'
import type { ModelInput } from '../distill/model-input.js'
import type { Objective, ObjectiveTerm } from '../distill/objective.js'
import type { Schedule } from '../distill/schedule.js'
import type { Speed } from '../distill/speed.js'
import type { Term } from '../distill/term.js'
import type { Optimizer } from '../optim/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'

/** One part of a run: stages run one after the other. What a stage leaves out is the run's. */
export interface StageOptions {
  /** In logs and metrics. Default: `stage 1` and so on. */
  name?: string
  /** What is minimised: an {@link Objective}, or the list of its terms. */
  objective?: Objective | readonly (Term | ObjectiveTerm)[]
  /** Default: 50. */
  epochs?: number
  /** Makes the optimizer for the parameters that are trained. Default: Adam with learning rate 1e-3. */
  optimizer?: (parameters: Tensor[]) => Optimizer | Promise<Optimizer>
  /** Makes a learning rate schedule. Default: none. */
  schedule?: (optimizer: Optimizer) => Schedule
  /** When the schedule's `step()` is called. Default: `'epoch'`. */
  scheduleInterval?: 'epoch' | 'step'
  /** What a schedule that goes by a metric is given, see {@link FitOptions.schedulerMetric}. */
  scheduleMetric?: (report: EpochReport) => number | Promise<number>
  /** The parts of the student that are trained, by dotted path; all others are frozen. Default: the whole student. */
  trained?: readonly string[]
  /** Parts of the student that stay as they are, also in their batch norms' statistics. Default: none. */
  frozen?: readonly string[]
  /** Clip the gradients to this L2 norm; see {@link FitOptions.clipGradNorm}. */
  clipGradNorm?: number
  /** How many batches make one step. Default: 1. */
  accumulate?: number
}

/** When a run saves a checkpoint, and how many it keeps. Each is complete: a run can go on from any of them. */
export interface CheckpointOptions {
  /** After so many epochs. Default: 1. */
  everyEpochs?: number
  /** Also after so many steps. Default: not by steps. */
  everySteps?: number
  /** Also when the last is so many seconds old. Default: 600. */
  everySeconds?: number
  /** How many of the newest are kept. Default: 2. */
  keep?: number
  /** What happens when one cannot be written, for example because the disk is full. Default: `'continue'`. */
  onError?: 'continue' | 'stop'
}

/** What a {@link Distiller} trains, on what, and where it keeps it. */
export interface DistillerOptions extends Omit<StageOptions, 'name'> {
  student: Classifier
  /** One teacher, or several by name. Default: none. */
  teacher?: Teachers | null
  /** Converts a batch's images for a teacher, see {@link ObjectiveOptions.teacherInput}. */
  teacherInput?: ModelInput | Readonly<Record<string, ModelInput>>
  /**
   * Whether what teachers give for the training data is computed once, kept on disk, and used in every epoch and by later
   * runs with the same teacher and data; the teachers do not run then. Possible where samples come again as they were:
   * without augmentation, or with `augment.views`. Default: `'never'`.
   */
  teacherCache?: TeacherCacheMode | TeacherCacheOptions
  train: Dataset
  /** Data by which epochs are compared; a number: so many samples are held out of `train`. Default: none. */
  validation?: Dataset | number | null
  /** Data that is looked at once, after the last step. Default: none. */
  test?: Dataset | null
  /**
   * Evaluate on `test` after each epoch too, and choose by it where there is no validation data. All results then say
   * so. Default: false.
   */
  testEachEpoch?: boolean
  /** Default: 64. */
  batchSize?: number
  /** Of evaluation. Default: 256. */
  evaluationBatchSize?: number
  /** Changes each batch, see {@link DataLoaderOptions.transform}; `data.mixUp` is one. */
  transform?: DataLoaderOptions['transform']
  /** Leave out a last batch that is not full. Default: false. */
  dropLast?: boolean
  /** Without stages the run itself is the only one. */
  stages?: readonly StageOptions[]
  /** Keeps a moving average of the student's weights, with this decay. Default: none. */
  ema?: number
  /** Stop when so many epochs in a row brought no better accuracy on the validation data. Default: never. */
  patience?: number
  /**
   * Which weights the run is for, and `student.safetensors` has: those of the best epoch on the validation data (of the
   * moving average, where there is one and it was better), the last, or the last moving average. Default: `'best'`
   * with data to choose by, else `'last'`.
   */
  choose?: 'best' | 'last' | 'ema'
  /** See {@link FitOptions.speed}. What was chosen is kept with the run. */
  speed?: Speed
  /** See {@link FitOptions.compile}. */
  compile?: boolean
  /**
   * In what the models compute. `'float16'` scales the loss, so that small gradients are not lost, and is for GPUs.
   * Default: what the tensors are, or what `speed` chooses.
   */
  precision?: 'float32' | 'bfloat16' | 'float16'
  /** Where the models are trained. Default: where the student is. */
  device?: Device
  /** Seeds libtorch's generators, the order of the samples and the augmentation. Default: 0. */
  seed?: number
  /** Where the run is kept. Default: nowhere; it then cannot be resumed. */
  folder?: string
  checkpoint?: CheckpointOptions
  /** Called with each log line. Default: none. */
  log?: ((line: string) => unknown) | null
  /** What {@link Distiller} writes into `student.safetensors` about it: which network, classes and preprocessing. */
  about?: StudentDescription
}

/** What a student is and wants, as its file says it. */
export interface StudentDescription {
  /** Name among `models`, with the options that it was made with. */
  model?: string
  modelOptions?: Record<string, unknown>
  classes?: readonly string[]
  /** Of its input, in the unit 0 to 1, one per channel. */
  mean?: readonly number[]
  std?: readonly number[]
  /** `[channels, height, width]` */
  inputShape?: readonly number[]
}
