import { AlambicError, argumentError } from '../../errors.js'
import { integer, type Kinds } from '../../checks/options.js'
import { Optimizer, type OptimizerOptions, type ParamGroup } from '../optimizer.js'
import { roundingOf } from '../rounding.js'
import { checkIndex, checkLastLrs, checkList, checkMagnitude, checkNumber } from './checks.js'
import { checkState, readState, writeState, type SchedulerStateDict, type StateFields } from './state.js'

export interface SchedulerOptions {
  /**
   * The number of the last epoch when a training is resumed: the groups then need their `initialLr`, which is in an
   * optimizer's state dict. Default: -1, from the beginning.
   */
  lastEpoch?: number
}

export const schedulerOptions: Kinds<SchedulerOptions> = { lastEpoch: integer(-1) }

export type Group = ParamGroup<OptimizerOptions>

/**
 * Base class of the schedules that count their steps, with PyTorch's chainable rules: the next learning rate is
 * computed from the current one, so several schedules may act on one optimizer, and changes by hand are kept.
 *
 * Call {@link step} after the optimizer's step, once per epoch or once per batch.
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
    options: SchedulerOptions = {},
  ) {
    checkOptimizer(optimizer)
    if (typeof options !== 'object' || options === null)
      throw argumentError('LRScheduler: options', 'an object', options)
    const { lastEpoch = -1 } = options
    checkEpoch('lastEpoch', lastEpoch)
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
  protected abstract readonly stateFields: StateFields

  private get allFields(): StateFields {
    const rates = checkList(checkMagnitude, this.groups.length)
    return {
      base_lrs: { field: 'baseLrs', check: rates },
      last_epoch: { field: 'lastEpoch', check: checkEpoch },
      _step_count: { field: 'stepCount', check: checkIndex },
      _last_lr: { field: 'lastLr', check: checkLastLrs(this.baseLrs) },
      ...this.stateFields,
    }
  }

  protected get groups(): readonly Group[] {
    return this.optimizer.paramGroups
  }

  protected currentLrs(): number[] {
    return readLrs(this.constructor.name, this.groups)
  }

  /**
   * Sets the learning rates of the next epoch.
   *
   * @throws AlambicError `ERR_ARGUMENT` when one of them would not be a finite number of at least 0; then nothing was
   *   changed
   */
  step(): void {
    const { stepCount, lastEpoch } = this
    this.stepCount++
    this.lastEpoch++
    try {
      this.currentLrs() // they may have been set by hand
      this.setLrs(this.getLr())
    } catch (error) {
      Object.assign(this, { stepCount, lastEpoch })
      throw error
    }
  }

  /** Learning rates as last set, one per group. */
  getLastLr(): number[] {
    return [...this.lastLr]
  }

  /** Everything but the optimizer and functions. `JSON.stringify` keeps all of it. */
  stateDict(): SchedulerStateDict {
    return readState(this, this.allFields)
  }

  /**
   * Load this before the optimizer's, which knows the learning rates.
   *
   * @throws AlambicError `ERR_STATE_DICT` for a missing field, a value that an option could not have, and the state of
   *   another schedule; then nothing was changed
   */
  loadStateDict(dict: SchedulerStateDict): void {
    writeState(this, this.allFields, dict)
  }

  /** Throws what {@link loadStateDict} would. @internal */
  checkStateDict(dict: SchedulerStateDict): void {
    checkState(this, this.allFields, dict)
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
    if (lrs.length !== this.groups.length)
      throw new AlambicError(
        'ERR_LENGTH_MISMATCH',
        `${this.constructor.name}: made for ${lrs.length} groups, and the optimizer has ${this.groups.length}; make it ` +
          'after addParamGroup()',
      )
    const rounded = lrs.map((lr, i) => (lr <= 0 && lr >= -this.roundingOf(i) ? 0 : lr))
    rounded.forEach((lr, i) => {
      checkMagnitude(`${this.constructor.name}: learning rate of group ${i} at epoch ${this.lastEpoch}`, lr)
    })
    this.groups.forEach((group, i) => (group.lr = rounded[i]!))
    this.lastLr = this.currentLrs()
  }

  /** A schedule that ends at 0 may come so far below it by rounding, where PyTorch goes on with a negative number. */
  protected roundingOf(group: number): number {
    return roundingOf(Math.max(this.baseLrs[group]!, this.groups[group]!.lr))
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

/**
 * The learning rates of the groups.
 *
 * @param who the schedule, for messages
 * @throws AlambicError `ERR_ARGUMENT` for one that is no number
 */
export function readLrs(who: string, groups: readonly Group[]): number[] {
  return groups.map(({ lr }, i) => {
    checkNumber(`${who}: paramGroups[${i}].lr`, lr)
    return lr
  })
}

/** -1 is before the first. */
function checkEpoch(name: string, value: unknown): void {
  if (value !== -1) checkIndex(name, value)
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
