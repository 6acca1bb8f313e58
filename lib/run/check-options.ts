/** What a run is given, held against what it takes. */
import {
  anything,
  boolean,
  callback,
  device,
  either,
  integer,
  listOf,
  module,
  number,
  oneOf,
  orNull,
  positive,
  readOptions,
  requireKind,
  text,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { cacheSettings, teacherCache } from '../cache/options.js'
import { dataSet } from '../data/dataset.js'
import { fitOptions, type FitOptions } from '../distill/fit.js'
import { Objective } from '../distill/objective.js'
import { AlambicError, argumentError } from '../errors.js'
import { Adam, type Optimizer } from '../optim/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { CheckpointOptions, DistillerOptions, StageOptions, StudentDescription } from './options.js'

/** A stage with all that it needs. */
export interface Stage extends Pick<
  FitOptions,
  'scheduler' | 'schedulerInterval' | 'schedulerMetric' | 'trained' | 'frozen' | 'clipGradNorm' | 'accumulate'
> {
  name: string
  objective: Objective
  epochs: number
  optimizer: (parameters: Tensor[]) => Optimizer | Promise<Optimizer>
}

const stageOptions: Kinds<StageOptions> = {
  name: text,
  objective: anything, // Objective looks at it
  epochs: fitOptions.epochs,
  optimizer: callback,
  schedule: callback,
  scheduleInterval: fitOptions.schedulerInterval,
  scheduleMetric: callback,
  trained: fitOptions.trained,
  frozen: fitOptions.frozen,
  clipGradNorm: fitOptions.clipGradNorm,
  accumulate: fitOptions.accumulate,
}

const checkpointOptions: Kinds<CheckpointOptions> = {
  everyEpochs: integer(1),
  everySteps: integer(1),
  everySeconds: positive,
  keep: integer(1),
  onError: oneOf('continue', 'stop'),
}

const descriptionKinds: Kinds<StudentDescription> = {
  model: text,
  modelOptions: anything,
  classes: listOf(text, 'an array of names'),
  mean: listOf(number, 'an array of numbers'),
  std: listOf(number, 'an array of numbers'),
  inputShape: listOf(integer(1), 'an array of sizes'),
}

const { name: _, ...ofEveryStage } = stageOptions

const distillerOptions: Kinds<DistillerOptions> = {
  ...ofEveryStage,
  student: module,
  teacher: anything, // the training looks at it
  teacherInput: anything,
  teacherCache,
  train: dataSet,
  validation: orNull(either(dataSet, integer(1))),
  test: orNull(dataSet),
  testEachEpoch: boolean,
  batchSize: integer(1),
  evaluationBatchSize: integer(1),
  transform: callback,
  dropLast: boolean,
  stages: listOf(anything, 'an array of stages'),
  ema: fitOptions.ema,
  patience: integer(1),
  choose: oneOf('best', 'last', 'ema'),
  speed: anything,
  compile: boolean,
  precision: fitOptions.precision,
  device,
  seed: integer(0, Number.MAX_SAFE_INTEGER),
  folder: text,
  checkpoint: anything,
  log: orNull(callback),
  about: anything,
}

/** @throws AlambicError `ERR_ARGUMENT` */
export function checkOptions(options: DistillerOptions): void {
  const given = readOptions('Distiller', options, distillerOptions)
  const { student, checkpoint, about, train, validation, test, testEachEpoch, choose, ema, patience } = given
  requireKind('Distiller: student', module, student)
  requireKind('Distiller: train', dataSet, train)
  readOptions('Distiller: checkpoint', checkpoint, checkpointOptions)
  cacheSettings('Distiller: teacherCache', options.teacherCache ?? 'never')
  readOptions('Distiller: about', about, descriptionKinds)
  if (given.folder === '') throw argumentError('Distiller: folder', 'a path', '')
  if (typeof validation === 'number' && validation >= train.length)
    throw argumentError('Distiller: validation', `fewer samples than train has (${train.length})`, validation)
  const refuse = (name: string, expected: string, value: unknown) =>
    argumentError(`Distiller: ${name}`, expected, value)
  if (testEachEpoch === true && (test ?? null) === null) throw refuse('testEachEpoch', 'test data', test)
  if (choose === 'ema' && ema === undefined) throw refuse('choose', "ema, for 'ema'", choose)
  const isCompared = (validation ?? null) !== null || testEachEpoch === true
  if (choose === 'best' && !isCompared) throw refuse('choose', "validation data, for 'best'", choose)
  if (patience !== undefined && !isCompared)
    throw refuse('patience', 'validation data, by which epochs are compared', patience)
}

const aList: Kind = listOf(anything, 'at least one stage')

/** The stages; without any the run is the only one. */
export function stagesOf(options: DistillerOptions): Stage[] {
  const given = options.stages ?? [{}]
  if (given.length === 0) throw argumentError('Distiller: stages', aList.expected, given)
  // The same list of terms makes the same objective: its parts go on from stage to stage.
  const objectives = new Map<unknown, Objective>()
  return Array.from(given, (each, i) => {
    const who = options.stages === undefined ? 'Distiller' : `Distiller: stages[${i}]`
    const stage = readOptions(who, each, stageOptions)
    const objective = stage.objective ?? options.objective
    if (objective === undefined)
      throw new AlambicError('ERR_ARGUMENT', `${who}: objective: expected a list of terms, and it is missing`)
    if (!objectives.has(objective))
      objectives.set(objective, objective instanceof Objective ? objective : new Objective(objective))
    return stageOf(stage, options, objectives.get(objective)!, i)
  })
}

function stageOf(
  stage: StageOptions,
  options: DistillerOptions,
  objective: Objective,
  position: number,
): Stage {
  const pick = <Name extends keyof StageOptions & keyof DistillerOptions>(name: Name) =>
    stage[name] ?? options[name]
  const rest = {
    scheduler: pick('schedule'),
    schedulerInterval: pick('scheduleInterval'),
    schedulerMetric: pick('scheduleMetric'),
    trained: pick('trained'),
    frozen: pick('frozen'),
    clipGradNorm: pick('clipGradNorm'),
    accumulate: pick('accumulate'),
  }
  return {
    ...(Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as typeof rest),
    name: stage.name ?? `stage ${position + 1}`,
    objective,
    epochs: pick('epochs') ?? 50,
    optimizer: pick('optimizer') ?? (parameters => new Adam(parameters, { lr: 1e-3 })),
  }
}
