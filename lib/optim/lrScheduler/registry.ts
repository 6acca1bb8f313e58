/** Schedules by the names that recipes use. */
import {
  between,
  boolean,
  described,
  either,
  integer,
  listOf,
  notNegative,
  number,
  oneOf,
  positive,
  readOptions,
  requireKind,
  type Kind,
  type Kinds,
} from '../../checks/options.js'
import { Registry, registerOptions, type OptionKinds, type RegisterOptions } from '../../checks/registry.js'
import { argumentError, show } from '../../errors.js'
import type { Optimizer } from '../optimizer.js'
import { CosineAnnealingLR, ExponentialLR, LinearLR, MultiStepLR, StepLR } from './decay.js'
import { OneCycleLR } from './oneCycleLR.js'
import { ReduceLROnPlateau } from './reduceLROnPlateau.js'
import { checkOptimizer, LRScheduler } from './scheduler.js'
import { SequentialLR } from './sequentialLR.js'

/** Anything that a training can step. */
export interface NamedSchedule {
  step(metric: number): void
}

/** What a schedule is for. Both are counted in calls of its `step`. */
export interface ScheduleContext {
  /** How long the training is. */
  length: number
  /** How much of it a warm-up takes, after which the schedule begins. Milestones count from before it. */
  start: number
}

/** Makes a schedule for an optimizer. */
export type ScheduleFactory = (
  optimizer: Optimizer,
  options: Record<string, unknown>,
  context: ScheduleContext,
) => NamedSchedule

/** @internal */
export const registry = new Registry<ScheduleFactory>('optim.lrScheduler', 'schedule', registerOptions)

/**
 * Makes a schedule known under a name, for {@link create} and for recipes.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example
 * optim.lrScheduler.register(
 *   'half',
 *   (optimizer, _options, { length }) => new optim.lrScheduler.StepLR(optimizer, Math.ceil(length / 2)),
 * )
 */
export function register(name: string, factory: ScheduleFactory, options?: RegisterOptions): void {
  registry.register(name, factory, options)
}

/** The names of all schedules, in alphabetical order. */
export function names(): string[] {
  return registry.names()
}

/** What a schedule is made for, besides its own options. */
export interface CreateScheduleOptions {
  /** How often its `step` will be called. */
  length: number
  /** So many of these steps raise the learning rate in equal parts to its full size, before the schedule begins. */
  warmUp?: number
}

const createOptions: Kinds<CreateScheduleOptions> = { length: integer(1), warmUp: integer(0) }

/**
 * Makes a schedule by its name in recipes.
 *
 * @param options those of the schedule's class, with its arguments as `milestones`, `stepSize`, `gamma`, `tMax`, `maxLr`;
 *   `tMax` is the whole training by default, and a cycle is as long as it
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest, and for a warm-up of a schedule that does not
 *   go by the epoch alone; the errors of the class
 * @example optim.lrScheduler.create('multiStep', optimizer, { milestones: [150, 180] }, { length: 240 })
 */
export function create(
  name: string,
  optimizer: Optimizer,
  options: Record<string, unknown>,
  training: CreateScheduleOptions,
): NamedSchedule {
  checkOptimizer(optimizer)
  const { length, warmUp = 0 } = readOptions('lrScheduler.create', training, createOptions)
  requireKind('lrScheduler.create: length', createOptions.length, length)
  const entry = registry.get(name)
  const given = registry.read(name, options)
  if (warmUp === 0) return checked(name, entry.make(optimizer, given, { length, start: 0 }))
  const first = new LinearLR(optimizer, { startFactor: 1 / warmUp, totalIters: Math.max(warmUp - 1, 1) })
  const then = checked(
    name,
    entry.make(optimizer, given, { length: Math.max(length - warmUp, 1), start: warmUp }),
  )
  if (then instanceof LRScheduler) return new SequentialLR(optimizer, [first, then], [warmUp])
  throw argumentError(`${name}: warmUp`, 'a schedule that goes by the epoch alone, such as cosine', then)
}

function checked(name: string, schedule: unknown): NamedSchedule {
  if (typeof (schedule as Partial<NamedSchedule> | null)?.step === 'function')
    return schedule as NamedSchedule
  throw argumentError(
    `optim.lrScheduler.create: what was registered as ${show(name)}`,
    'a function that returns a schedule',
    schedule,
  )
}

// ---- Ours ----------------------------------------------------------------------------------------------------------------

const gamma: Kind = described(notNegative, 'What the learning rate is multiplied by.', { default: 0.1 })
const perGroup = (kind: Kind): Kind => either(kind, listOf(kind, 'one for each group'))

const step: OptionKinds = {
  stepSize: described(integer(1), 'After how many epochs, each time.', { isRequired: true }),
  gamma,
}

registry.add('step', {
  make: (optimizer, { stepSize, ...rest }) => new StepLR(optimizer, stepSize as number, rest),
  options: step,
  description: 'Multiplies by gamma every stepSize epochs.',
})

const multiStep: OptionKinds = {
  milestones: described(listOf(integer(1), 'a list of epochs'), 'The epochs after which it multiplies.', {
    isRequired: true,
  }),
  gamma,
}

registry.add('multiStep', {
  make: (optimizer, { milestones, ...rest }, { start }) =>
    new MultiStepLR(
      optimizer,
      start === 0 ? (milestones as number[]) : (milestones as number[]).map(epoch => epoch - start),
      rest,
    ),
  options: multiStep,
  description: 'Multiplies by gamma at each milestone.',
})

registry.add('exponential', {
  make: (optimizer, { gamma }) => new ExponentialLR(optimizer, gamma as number),
  options: {
    gamma: described(notNegative, 'What the learning rate is multiplied by in each epoch.', {
      isRequired: true,
    }),
  },
  description: 'Multiplies by gamma every epoch.',
})

registry.add('cosine', {
  make: (optimizer, { tMax, ...rest }, { length }) =>
    new CosineAnnealingLR(optimizer, (tMax as number | undefined) ?? length, rest),
  options: {
    tMax: described(integer(1), 'Epochs of half the cosine. Default: all, but for those of the warm-up.'),
    etaMin: described(notNegative, 'The learning rate at the end.', { default: 0 }),
  },
  description: 'Half a cosine down to etaMin.',
})

registry.add('linear', {
  make: (optimizer, options) => new LinearLR(optimizer, options),
  options: {
    startFactor: described(between(0, 1), 'Of the learning rate, at the beginning; above 0.', {
      default: 1 / 3,
    }),
    endFactor: described(between(0, 1), 'Of the learning rate, at the end.', { default: 1 }),
    totalIters: described(integer(1), 'Epochs from one to the other.', { default: 5 }),
  },
  description: 'From startFactor to endFactor times the learning rate in equal steps.',
})

registry.add('oneCycle', {
  make: (optimizer, { maxLr, ...rest }, { length }) =>
    new OneCycleLR(optimizer, maxLr as number, { totalSteps: length, ...rest }),
  options: {
    maxLr: described(perGroup(notNegative), 'The highest learning rate.', { isRequired: true }),
    totalSteps: described(integer(1), 'Of the whole cycle. Default: all steps of the training.'),
    pctStart: described(between(0, 1), 'The part of the cycle in which the learning rate rises.', {
      default: 0.3,
    }),
    annealStrategy: described(oneOf('cos', 'linear'), 'The form of its way.', { default: 'cos' }),
    cycleMomentum: described(boolean, 'Lowers the momentum while the learning rate rises.', {
      default: true,
    }),
    baseMomentum: described(perGroup(number), 'The lowest momentum.', { default: 0.85 }),
    maxMomentum: described(perGroup(number), 'The highest momentum.', { default: 0.95 }),
    divFactor: described(positive, 'The first learning rate is maxLr divided by it.', { default: 25 }),
    finalDivFactor: described(positive, 'The last learning rate is the first divided by it.', {
      default: 1e4,
    }),
    threePhase: described(boolean, 'Two falling phases instead of one.', { default: false }),
  },
  description: 'Up to maxLr and down again, once; it is stepped after every batch.',
})

registry.add('plateau', {
  make: (optimizer, options) => new ReduceLROnPlateau(optimizer, options),
  options: {
    mode: described(
      oneOf('min', 'max'),
      "'min': the mean loss of the epoch; 'max': the accuracy on the validation data.",
      { default: 'min' },
    ),
    factor: described(between(0, 1), 'What the learning rate is multiplied by; below 1.', { default: 0.1 }),
    patience: described(integer(0), 'Epochs without improvement before a reduction.', { default: 10 }),
    threshold: described(number, 'Smaller improvements do not count.', { default: 1e-4 }),
    thresholdMode: described(
      oneOf('rel', 'abs'),
      'Whether threshold is a part of the metric or a difference.',
      {
        default: 'rel',
      },
    ),
    cooldown: described(integer(0), 'Epochs after a reduction that do not count.', { default: 0 }),
    minLr: described(perGroup(notNegative), 'Least learning rate.', { default: 0 }),
    eps: described(notNegative, 'Smaller changes are not made.', { default: 1e-8 }),
  },
  description: 'Lowers the learning rate when a metric has stopped improving.',
})
