/**
 * What a recipe is: the one schema for YAML, JSON and objects. What has a name (data, networks, methods, optimizers,
 * schedules) takes further options, which `named.ts` holds against its registry.
 */
import { z } from 'zod'
import {
  boolean,
  either,
  finite,
  integer,
  listOf,
  notNegative,
  number,
  oneOf,
  positive,
  properFraction,
  text,
  type Kind,
} from '../../checks/options.js'
import type { Named } from './named.js'

// ---- Leaves --------------------------------------------------------------------------------------------------------------

/** A value of a kind: what does not fit is told in the words of the kind. */
function leaf<T>(kind: Kind, description: string) {
  return z
    .custom<T>(value => kind.fits(value), { error: `expected ${kind.expected}` })
    .meta({ ...kind.schema, description })
}

/** What has a name takes the options of the registry's entry beside these keys. */
function named<Shape extends z.core.$ZodLooseShape>(kind: Named, description: string, shape: Shape) {
  return z.looseObject(shape).meta({ id: kind, named: kind, description })
}

const filled: Kind = {
  expected: 'a string that is not empty',
  fits: value => typeof value === 'string' && value !== '',
  schema: { type: 'string', minLength: 1 },
}

const path: Kind = {
  ...filled,
  expected: 'a path',
  fits: value => filled.fits(value) && !(value as string).includes('\0'),
}

const runName: Kind = {
  expected: 'a name without slashes',
  // eslint-disable-next-line no-control-regex
  fits: value => typeof value === 'string' && /^[^/\\\x00-\x1f]+$/.test(value) && !/^\.+$/.test(value),
  schema: { type: 'string', minLength: 1 },
}

const seedNumber = integer(0, Number.MAX_SAFE_INTEGER)

const seeds: Kind = either(seedNumber, {
  ...listOf(seedNumber, 'a list of different ones'),
  fits: value =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(seedNumber.fits) &&
    new Set(value).size === value.length,
})

const layers = listOf(filled, 'a list of paths of layers')

const clip: Kind = {
  expected: 'a number above 0',
  fits: value => typeof value === 'number' && value > 0,
  schema: { type: 'number', exclusiveMinimum: 0 },
}

const twoEpochs: Kind = {
  expected: '[first, last]: two epochs, the first before the last',
  fits: value =>
    Array.isArray(value) && value.length === 2 && value.every(finite.fits) && value[0] < value[1],
  schema: { type: 'array', items: { type: 'number' }, minItems: 2, maxItems: 2 },
}

const range: Kind = {
  expected: 'two numbers, black below white',
  fits: twoEpochs.fits,
  schema: twoEpochs.schema,
}

const size: Kind = either(integer(1), {
  expected: 'a height and a width',
  fits: value => Array.isArray(value) && value.length === 2 && value.every(integer(1).fits),
  schema: { type: 'array', items: { type: 'integer', minimum: 1 }, minItems: 2, maxItems: 2 },
})

// ---- Parts ---------------------------------------------------------------------------------------------------------------

const options = z.record(z.string(), z.unknown()).meta({ description: 'Options of the network.' })

const weights = z
  .union([
    leaf<string>(path, 'A file of weights: safetensors, or of torch.save.'),
    z
      .strictObject({
        file: leaf<string>(path, 'A file of weights: safetensors, or of torch.save.'),
        entry: leaf<string>(text, 'Where in the file the weights are, such as state_dict.').optional(),
        prefix: leaf<string>(text, "What stands before the network's own keys, such as module.").optional(),
      })
      .meta({ description: 'A file of weights, and where in it they are.' }),
  ])
  .meta({ description: 'A file of weights to begin with, relative to this file.' })

const mix = (description: string, alpha: number) =>
  z
    .strictObject({
      alpha: leaf<number>(positive, 'Of the Beta(alpha, alpha) distribution of the shares.').default(alpha),
    })
    .meta({ description })

const data = named('data', 'What is learned from. Further keys are options of the data set.', {
  name: leaf<string>(filled, 'Which data set.'),
  batchSize: leaf<number>(integer(1), 'Samples in a batch.').default(64),
  evaluationBatchSize: leaf<number>(integer(1), 'Samples in a batch of evaluation.').default(256),
  dropLast: leaf<boolean>(boolean, 'Leave out a last batch that is not full.').default(false),
  samples: leaf<number>(
    integer(1),
    'Use only so many of the samples for training, drawn at random by the seed. Default: all.',
  ).optional(),
  validation: leaf<number>(
    integer(1),
    'So many samples are held out of those for training, to compare epochs by. Default: none.',
  ).optional(),
  mixUp: mix('Mixes each picture with another of its batch, and the labels likewise.', 0.2).optional(),
  cutMix: mix('Puts a rectangle of another picture into each, and mixes the labels.', 1).optional(),
})

const student = named('student', 'The network that is trained.', {
  model: leaf<string>(filled, 'Which network.'),
  options: options.optional(),
  weights: weights.optional(),
})

const format = z.strictObject({
  mean: leaf<number[]>(listOf(number, 'numbers'), 'What was subtracted from each channel.').optional(),
  std: leaf<number[]>(listOf(positive, 'numbers above 0'), 'What each channel was divided by.').optional(),
  range: leaf<[number, number]>(
    range,
    'The values of black and white before that: [0, 1], [0, 255].',
  ).optional(),
  order: leaf<'RGB' | 'BGR'>(oneOf('RGB', 'BGR'), 'Order of the channels.').optional(),
  layout: leaf<'NCHW' | 'NHWC'>(oneOf('NCHW', 'NHWC'), 'Order of the dimensions.').optional(),
  channels: leaf<number>(integer(1), 'Number of channels; 1 is grey.').optional(),
  size: leaf<number | [number, number]>(size, 'Height and width, or both as one number.').optional(),
})

const cacheUse = oneOf('auto', 'always', 'never')

const teacher = named('teacher', 'The network that is learned from.', {
  model: leaf<string>(filled, 'Which network.').optional(),
  options: options.optional(),
  weights: weights.optional(),
  torchscript: leaf<string>(path, 'A TorchScript file, instead of a model and its weights.').optional(),
  input: z
    .strictObject({
      from: format
        .meta({ description: 'How the pictures are. Default: as the data set gives them.' })
        .optional(),
      to: format.meta({ description: 'How the teacher wants them.' }),
    })
    .meta({ description: 'Converts pictures for a teacher that wants others than the student.' })
    .optional(),
  cache: z
    .union([
      leaf<'auto' | 'always' | 'never'>(cacheUse, 'Whether it is used.'),
      z.strictObject({
        mode: leaf<'auto' | 'always' | 'never'>(cacheUse, 'Whether it is used.').default('auto'),
        folder: leaf<string>(path, "Where it is kept. Default: in the user's cache folder.").optional(),
        topK: leaf<number>(integer(1), 'Keep only so many of the largest logits. Default: all.').optional(),
        maxBytes: leaf<number>(integer(1), 'More is not kept. Default: 10e9.').optional(),
        dtype: leaf<'float32' | 'float16' | 'bfloat16'>(
          oneOf('float32', 'float16', 'bfloat16'),
          'In what it is kept. Default: as the outputs are.',
        ).optional(),
      }),
    ])
    .meta({ description: "Whether the teacher's outputs are computed once and kept on disk." })
    .default('never'),
})

const schedule = z
  .strictObject({
    value: leaf<number>(notNegative, 'What the rules are factors of.').optional(),
    warmUp: leaf<number>(integer(1), 'Linear, up to 1 in this epoch.').optional(),
    cosine: leaf<[number, number]>(twoEpochs, '[first, last]: 1 until the first, then down to 0.').optional(),
    from: leaf<number>(integer(1), '0 before this epoch.').optional(),
    to: leaf<number>(integer(1), '0 after this epoch.').optional(),
  })
  .meta({ description: 'A weight that follows the epochs.' })

const term = named('term', 'A term of the objective. Further keys are options of the method.', {
  method: leaf<string>(filled, 'Which method.'),
  weight: z
    .union([leaf<number>(notNegative, 'A factor.'), schedule])
    .meta({ description: 'What the term is multiplied by: a number, or rules by epoch.' })
    .default(1),
  name: leaf<string>(filled, "In logs and metrics. Default: the method's.").optional(),
  teacher: leaf<string>(
    filled,
    'Which of several teachers the term sees. Default: the mean of all.',
  ).optional(),
})

const objective = z.array(term).min(1).meta({ description: 'What is minimised: a weighted sum of terms.' })

const optimizer = named('optimizer', 'How weights are changed. Further keys are its options.', {
  name: leaf<string>(filled, 'Which optimizer.'),
})

const lrSchedule = named('schedule', 'How the learning rate changes. Further keys are its options.', {
  name: leaf<string>(filled, 'Which schedule.'),
  interval: leaf<'epoch' | 'step'>(
    oneOf('epoch', 'step'),
    'When it is stepped; what it counts is counted in these. Default: epoch, but for oneCycle.',
  ).optional(),
  warmUp: leaf<number>(
    integer(0),
    'So many epochs raise the learning rate in equal parts before the schedule begins.',
  ).default(0),
})

/** What stages have too. */
const training = {
  objective: objective.optional(),
  optimizer: optimizer.optional(),
  schedule: lrSchedule.optional(),
  trained: leaf<string[]>(
    layers,
    'The parts of the student that are trained; all others are frozen.',
  ).optional(),
  frozen: leaf<string[]>(layers, 'Parts of the student that stay as they are.').optional(),
  clipGradNorm: leaf<number>(clip, 'Clip the gradients to this L2 norm.').optional(),
}

const stage = z
  .strictObject({
    name: leaf<string>(filled, 'In logs and metrics.').optional(),
    epochs: leaf<number>(integer(1), 'Default: those of the run.').optional(),
    accumulate: leaf<number>(integer(1), 'How many batches make one step.').optional(),
    ...training,
  })
  .meta({ description: 'A part of the run. What it leaves out is the run’s.' })

const checkpoint = z
  .strictObject({
    everyEpochs: leaf<number>(integer(1), 'After so many epochs.').default(1),
    everySteps: leaf<number>(integer(1), 'Also after so many steps. Default: not by steps.').optional(),
    everySeconds: leaf<number>(positive, 'Also when the last is so many seconds old.').default(600),
    keep: leaf<number>(integer(1), 'How many of the newest are kept.').default(2),
    onError: leaf<'continue' | 'stop'>(
      oneOf('continue', 'stop'),
      'What happens when one cannot be written.',
    ).default('continue'),
  })
  .meta({ description: 'When the run is saved, so that it can go on from there.' })

const speed = z.union([
  leaf<'auto' | 'exact'>(oneOf('auto', 'exact'), "Tries what it chooses; 'exact' without bfloat16."),
  z.strictObject({
    precision: leaf<'float32' | 'bfloat16'>(
      oneOf('float32', 'bfloat16'),
      'What layers compute in.',
    ).optional(),
    memoryFormat: leaf<'contiguous' | 'channelsLast'>(
      oneOf('contiguous', 'channelsLast'),
      'Memory format of the weights.',
    ).optional(),
    prepareTeacher: leaf<boolean>(
      boolean,
      'Fold batch norms of the teacher into its convolutions.',
    ).optional(),
    threads: leaf<number>(integer(1), "Number of libtorch's threads.").optional(),
    prefetch: leaf<boolean>(boolean, 'Load the next batch while a step runs.').optional(),
  }),
])

export const recipeStructure = z
  .strictObject({
    $schema: leaf<string>(text, 'For editors.').optional(),
    name: leaf<string>(runName, "Of the run. Default: the file's.").optional(),
    extends: leaf<string>(
      path,
      'Another recipe, of which this one changes some keys; relative to this file.',
    ).optional(),
    import: leaf<string | string[]>(
      either(path, listOf(path, 'a list of paths')),
      'Modules that register methods, networks, data sets … of your own; relative to this file.',
    ).optional(),
    seed: leaf<number | number[]>(
      seeds,
      'Of weights, order and augmentation; several make several runs.',
    ).default(0),
    data,
    teacher: teacher.optional(),
    teachers: z
      .record(z.string().min(1), teacher)
      .meta({ description: 'Several teachers by name, instead of `teacher`.' })
      .optional(),
    student,
    ...training,
    stages: z
      .array(stage)
      .min(1)
      .meta({ description: 'Parts that run one after the other. Default: the run is the only one.' })
      .optional(),
    epochs: leaf<number>(integer(1), 'How often all samples are seen.').default(50),
    accumulate: leaf<number>(integer(1), 'How many batches make one step.').default(1),
    precision: leaf<'auto' | 'float32' | 'bfloat16' | 'float16'>(
      oneOf('auto', 'float32', 'bfloat16', 'float16'),
      'In what the models compute. auto: as the weights are, or as speed chooses.',
    ).default('auto'),
    speed: speed.meta({ description: 'What makes training faster. Default: the plain loop.' }).optional(),
    compile: leaf<boolean>(boolean, 'Record a step and run it without JavaScript.').optional(),
    ema: leaf<number>(properFraction, 'Decay of a moving average of the weights. Default: none.').optional(),
    patience: leaf<number>(
      integer(1),
      'Stop after so many epochs without a better accuracy. Default: never.',
    ).optional(),
    choose: leaf<'best' | 'last' | 'ema'>(
      oneOf('best', 'last', 'ema'),
      'Which weights the run is for. Default: best, with data to choose by.',
    ).optional(),
    testEachEpoch: leaf<boolean>(boolean, 'Look at the test data after each epoch, and say so.').default(
      false,
    ),
    checkpoint: checkpoint.prefault({}),
    device: leaf<string>(filled, 'Where it is computed: cpu, cuda, cuda:0. Default: cpu.').optional(),
  })
  .meta({ title: 'Alambic recipe', description: 'A run of knowledge distillation.' })

/** A recipe as it is written: what has a default may be left out. */
export type Recipe = z.input<typeof recipeStructure>

/** A recipe with all defaults, absolute paths, and what it extends. */
export type ResolvedRecipe = z.output<typeof recipeStructure>

export type ResolvedStage = NonNullable<ResolvedRecipe['stages']>[number]
export type ResolvedTeacher = NonNullable<ResolvedRecipe['teacher']>
export type ResolvedTerm = NonNullable<ResolvedRecipe['objective']>[number]
