import { AlambicError, argumentError } from '../../errors.js'
import { integer, type Kinds } from '../../options.js'
import { Optimizer, type OptimizerOptions, type ParamGroup } from '../optimizer.js'

export interface SchedulerOptions {
  /**
   * The number of the last epoch when training is taken up again: the groups then need their `initialLr`, which an
   * optimizer's state dict brings. Default: -1, from the beginning.
   */
  lastEpoch?: number
}

export const schedulerOptions: Kinds<SchedulerOptions> = { lastEpoch: integer(-1) }

/** Plain values under PyTorch's names. */
export type SchedulerStateDict = Record<string, unknown>

export type Group = ParamGroup<OptimizerOptions>

/**
 * Base of the schedules that count their steps, with PyTorch's chainable rules: the next learning rate follows from
 * the current one, so that several schedules may work on one optimizer, and changes by hand are kept.
 *
 * Call {@link step} after the optimizer's step, once an epoch (or once a batch: the unit is yours).
 */
export abstract class LRScheduler {
  /** Number of the epoch that the learning rates are for; 0 after construction. */
  lastEpoch: number
  protected stepCount = 0
  protected baseLrs: number[]
  protected lastLr: number[] = []
  /** The step that the constructor does is under way. */
  protected isInitial = false

  constructor(
    readonly optimizer: Optimizer,
    { lastEpoch = -1 }: SchedulerOptions = {},
  ) {
    checkOptimizer(optimizer)
    this.lastEpoch = lastEpoch
    this.baseLrs = this.groups.map((group, i) => initialLr(group, i, lastEpoch))
  }

  /** The learning rates for {@link lastEpoch}. */
  protected abstract getLr(): number[]

  /** The same without regard to the current ones, where there is a formula. */
  protected getClosedFormLr(): number[] {
    return this.getLr()
  }

  /** The names of the fields of {@link stateDict}, by PyTorch's. */
  protected abstract readonly stateFields: Readonly<Record<string, string>>

  protected get groups(): readonly Group[] {
    return this.optimizer.paramGroups
  }

  protected currentLrs(): number[] {
    return this.groups.map(group => group.lr)
  }

  /** Sets the learning rates of the next epoch. */
  step(): void {
    this.stepCount++
    this.lastEpoch++
    this.setLrs(this.getLr())
  }

  /** Learning rates as last set, one per group. */
  getLastLr(): number[] {
    return [...this.lastLr]
  }

  /** Everything but the optimizer, and functions. */
  stateDict(): SchedulerStateDict {
    return pick(this, { ...baseFields, ...this.stateFields })
  }

  /**
   * Load this before the optimizer's, which knows the learning rates.
   *
   * @throws AlambicError `ERR_STATE_DICT` for a missing field; then nothing was changed
   */
  loadStateDict(dict: SchedulerStateDict): void {
    assign(this, { ...baseFields, ...this.stateFields }, dict)
  }

  /** Sets the learning rates of the first epoch; the last thing that a constructor does. */
  protected start(): void {
    this.stepCount = 0
    this.isInitial = true
    try {
      this.step()
    } finally {
      this.isInitial = false
    }
  }

  protected setLrs(lrs: readonly number[]): void {
    this.groups.forEach((group, i) => (group.lr = lrs[i]!))
    this.lastLr = this.currentLrs()
  }

  // What SequentialLR needs of the schedules that it leads.

  /** @internal */
  restart(): void {
    this.start()
  }

  /** Takes back the count of the constructor's step. @internal */
  undo(): void {
    this.lastEpoch--
  }

  /** @internal */
  setEpoch(epoch: number): void {
    this.lastEpoch = epoch
    this.setLrs(this.getClosedFormLr())
  }
}

const baseFields = {
  base_lrs: 'baseLrs',
  last_epoch: 'lastEpoch',
  _step_count: 'stepCount',
  _last_lr: 'lastLr',
}

export function checkOptimizer(optimizer: unknown): void {
  if (!(optimizer instanceof Optimizer)) throw argumentError('optimizer', 'an optimizer', optimizer)
}

function initialLr(group: Group, index: number, lastEpoch: number): number {
  if (lastEpoch === -1) return (group.initialLr ??= group.lr)
  if (group.initialLr !== undefined) return group.initialLr
  throw new AlambicError(
    'ERR_ARGUMENT',
    `lastEpoch: expected paramGroups[${index}].initialLr, which a schedule goes on from; load the optimizer's state ` +
      'dict first, or leave lastEpoch out to start anew',
  )
}

export function pick(from: object, fields: Readonly<Record<string, string>>): SchedulerStateDict {
  const values = from as Record<string, unknown>
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, structuredClone(values[field])]),
  )
}

export function assign(to: object, fields: Readonly<Record<string, string>>, dict: SchedulerStateDict): void {
  const missing = Object.keys(fields).filter(name => dict[name] === undefined)
  if (missing.length > 0)
    throw new AlambicError(
      'ERR_STATE_DICT',
      `loadStateDict: ${to.constructor.name} needs ${missing.join(', ')}, which the state dict lacks`,
    )
  for (const [name, field] of Object.entries(fields))
    (to as Record<string, unknown>)[field] = structuredClone(dict[name])
}

export function checkCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) throw argumentError(name, 'a whole number of at least 1', value)
}

/** One value for each group. */
export function perGroup(name: string, value: number | readonly number[], groups: number): readonly number[] {
  if (typeof value === 'number') return Array<number>(groups).fill(value)
  if (value.length !== groups) throw argumentError(name, `one number, or ${groups} (one per group)`, value)
  return value
}
