import { AlambicError, argumentError } from '../../errors.js'
import type { Optimizer } from '../optimizer.js'
import { checkOptimizer, LRScheduler, pick, assign, type SchedulerStateDict } from './scheduler.js'

/**
 * One schedule after the other: the schedule `i + 1` takes over at epoch `milestones[i]`, from its own beginning.
 *
 * @example new SequentialLR(optimizer, [warmUp, new CosineAnnealingLR(optimizer, 95)], [5])
 * @throws AlambicError `ERR_LENGTH_MISMATCH` unless there is one schedule more than milestones, `ERR_ARGUMENT` for
 *   schedules of another optimizer
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

  stateDict(): SchedulerStateDict {
    return { ...pick(this, fields), _schedulers: this.schedulers.map(each => each.stateDict()) }
  }

  /** @throws AlambicError `ERR_STATE_DICT` when a field is missing or the schedules are not as many */
  loadStateDict(dict: SchedulerStateDict): void {
    const saved = dict['_schedulers'] as SchedulerStateDict[] | undefined
    if (saved?.length !== this.schedulers.length)
      throw new AlambicError(
        'ERR_STATE_DICT',
        `loadStateDict: expected the state of ${this.schedulers.length} schedules, got ${saved?.length ?? 'none'}`,
      )
    assign(this, fields, dict)
    this.schedulers.forEach((each, i) => each.loadStateDict(saved[i]!))
  }

  private current(): LRScheduler {
    return this.schedulers[this.milestones.filter(epoch => epoch <= this.lastEpoch).length]!
  }
}

const fields = { _milestones: 'milestones', last_epoch: 'lastEpoch', _last_lr: 'lastLr' }

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
