import { AlambicError, argumentError } from '../../errors.js'
import { withJson } from '../json.js'
import type { Optimizer } from '../optimizer.js'
import { stateError } from '../stateError.js'
import { checkIndex, checkLastLrs, checkList } from './checks.js'
import { checkOptimizer, LRScheduler } from './scheduler.js'
import { checkState, readState, writeState, type SchedulerStateDict, type StateFields } from './state.js'

/**
 * One schedule after the other: the schedule `i + 1` takes over at epoch `milestones[i]`, from its own beginning.
 *
 * @example new SequentialLR(optimizer, [warmUp, new CosineAnnealingLR(optimizer, 95)], [5])
 * @throws AlambicError `ERR_LENGTH_MISMATCH` unless there is one schedule more than milestones, `ERR_ARGUMENT` for
 *   schedules of another optimizer, and milestones that are not integers of at least 0 or that fall
 */
export class SequentialLR {
  /** Number of the epoch that the learning rates are for. */
  lastEpoch = 0
  private lastLr: number[]

  constructor(
    readonly optimizer: Optimizer,
    private readonly schedulers: readonly LRScheduler[],
    private readonly milestones: readonly number[],
  ) {
    checkOptimizer(optimizer)
    checkList(() => {})('schedulers', schedulers)
    checkMilestones('milestones', milestones)
    schedulers.forEach((each, i) => checkSchedule(each, i, optimizer))
    if (schedulers.length === 0 || milestones.length !== schedulers.length - 1)
      throw new AlambicError(
        'ERR_LENGTH_MISMATCH',
        `milestones: expected one less than schedulers (${schedulers.length}), got ${milestones.length}`,
      )
    // Each of them has set the learning rates of its own first epoch.
    for (const group of optimizer.paramGroups) group.lr = group.initialLr!
    for (const each of schedulers) each.undo()
    this.current().restart()
    this.lastLr = this.current().getLastLr()
  }

  step(): void {
    this.lastEpoch++
    if (this.milestones.includes(this.lastEpoch)) this.current().setEpoch(0)
    else this.current().step()
    this.lastLr = this.current().getLastLr()
  }

  /** Learning rates as last set, one per group. */
  getLastLr(): number[] {
    return [...this.lastLr]
  }

  /** The state, with that of the schedules. `JSON.stringify` keeps all of it. */
  stateDict(): SchedulerStateDict {
    const schedulers = this.schedulers.map(each => each.stateDict())
    return withJson({ ...readState(this, this.fields), _schedulers: schedulers })
  }

  /**
   * @throws AlambicError `ERR_STATE_DICT` as the schedules do, and for another number of schedules; then nothing was
   *   changed
   */
  loadStateDict(dict: SchedulerStateDict): void {
    const { _schedulers: saved, ...own } = (dict ?? {}) as Partial<SchedulerStateDict>
    if (!Array.isArray(saved) || saved.length !== this.schedulers.length)
      throw stateError(
        `expected the state of ${this.schedulers.length} schedules, got ${Array.isArray(saved) ? saved.length : 'none'}`,
      )
    checkState(this, this.fields, own)
    this.schedulers.forEach((each, i) => {
      each.checkStateDict(saved[i] as SchedulerStateDict)
    })
    writeState(this, this.fields, own)
    this.schedulers.forEach((each, i) => {
      each.loadStateDict(saved[i] as SchedulerStateDict)
    })
  }

  private get fields(): StateFields {
    return {
      _milestones: { field: 'milestones', check: checkMilestones },
      last_epoch: { field: 'lastEpoch', check: checkIndex },
      _last_lr: {
        field: 'lastLr',
        check: checkLastLrs(this.optimizer.paramGroups.map(group => group.initialLr ?? 0)),
      },
    }
  }

  private current(): LRScheduler {
    return this.schedulers[this.milestones.filter(epoch => epoch <= this.lastEpoch).length]!
  }
}

function checkMilestones(name: string, value: unknown): void {
  checkList(checkIndex)(name, value)
  const milestones = value as number[]
  if (milestones.some((epoch, i) => epoch < milestones[i - 1]!))
    throw argumentError(name, 'integers of at least 0, none less than the one before', value)
}

function checkSchedule(scheduler: unknown, index: number, optimizer: Optimizer): void {
  const what = `schedulers[${index}]`
  if (!(scheduler instanceof LRScheduler))
    throw argumentError(what, 'a schedule that goes by the epoch alone', scheduler)
  if (scheduler.optimizer !== optimizer)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${what}: expected a schedule of the same optimizer, got one of another`,
    )
}
