/** The learning-rate schedule of a training: when it is stepped, and with which metric. */
import { AlambicError, argumentError, show } from '../errors.js'
import { lrScheduler, type Optimizer } from '../optim/index.js'
import type { EpochReport, FitOptions } from './fit.js'

/** What {@link FitOptions.scheduler} makes: the schedules of `optim.lrScheduler`, or anything with a `step()`. */
export interface Schedule {
  step(metric: number): void
  /** These two are for runs that are kept, and go on later. */
  stateDict?(): object
  loadStateDict?(state: object): void
}

/** A schedule that the loop drives; without one nothing happens. */
export class ScheduleOfTraining {
  private readonly schedule: Schedule | undefined
  private readonly interval: 'epoch' | 'step'
  private readonly metric: FitOptions['schedulerMetric']

  /**
   * @param schedule what the option `scheduler` made
   * @param optimizer what it was made for
   * @throws AlambicError `ERR_ARGUMENT` for what is no schedule, for one of another optimizer, for one that needs a metric
   *   which this training does not have, and for a metric that nothing goes by
   */
  constructor(
    schedule: Schedule | undefined,
    optimizer: Optimizer,
    { scheduler, schedulerInterval = 'epoch', schedulerMetric }: FitOptions,
    hasValidation: boolean,
  ) {
    if (!['epoch', 'step'].includes(schedulerInterval))
      throw argumentError('schedulerInterval', "'epoch' or 'step'", schedulerInterval)
    this.interval = schedulerInterval
    if (scheduler === undefined) {
      if (schedulerMetric !== undefined)
        throw argumentError('schedulerMetric', 'a scheduler that goes by it', undefined)
      return
    }
    if (typeof (schedule as Partial<Schedule> | undefined)?.step !== 'function')
      throw argumentError('scheduler', 'a function that returns a schedule', schedule)
    this.schedule = schedule!
    checkSchedule(schedule!, optimizer, schedulerMetric)
    this.metric = schedulerMetric ?? metricOf(this.schedule, hasValidation)
    if (this.metric !== undefined && this.interval === 'step')
      throw argumentError(
        'schedulerInterval',
        "'epoch' for a schedule that goes by the metric of an epoch",
        schedulerInterval,
      )
  }

  /** null where there is no schedule. */
  stateDict(): object | null {
    const { schedule } = this
    if (schedule === undefined) return null
    if (typeof schedule.stateDict === 'function') return schedule.stateDict()
    throw argumentError(
      'scheduler: a training that is kept',
      'a schedule with stateDict() and loadStateDict()',
      schedule,
    )
  }

  loadStateDict(state: object): void {
    this.schedule?.loadStateDict?.(state)
  }

  afterStep(): void {
    if (this.interval === 'step') this.stepWithoutMetric()
  }

  async afterEpoch(report: EpochReport): Promise<void> {
    if (this.interval !== 'epoch') return
    if (this.metric === undefined) return this.stepWithoutMetric()
    const metric = await this.metric(report)
    if (typeof metric !== 'number')
      throw new AlambicError('ERR_ARGUMENT', `schedulerMetric: expected a number, got ${show(metric)}`)
    this.schedule?.step(metric)
  }

  private stepWithoutMetric(): void {
    ;(this.schedule as { step(): void } | undefined)?.step()
  }
}

/** A schedule that would do nothing, and a metric that nobody reads. */
function checkSchedule(
  schedule: Schedule,
  optimizer: Optimizer,
  metric: FitOptions['schedulerMetric'],
): void {
  const { LRScheduler, ReduceLROnPlateau, SequentialLR } = lrScheduler
  const isCounting = schedule instanceof LRScheduler || schedule instanceof SequentialLR
  if (!isCounting && !(schedule instanceof ReduceLROnPlateau)) return // one's own
  if (schedule.optimizer !== optimizer)
    throw new AlambicError(
      'ERR_ARGUMENT',
      'scheduler: expected a schedule of the optimizer that the function is given, got one of another, which ' +
        'would change nothing here',
    )
  if (isCounting && metric !== undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `schedulerMetric: expected a schedule that goes by it, such as ReduceLROnPlateau, got ${schedule.constructor.name}, ` +
        'which counts its steps',
    )
}

/** Which number of an epoch a plateau is looked for in. */
function metricOf(schedule: Schedule, hasValidation: boolean): ((report: EpochReport) => number) | undefined {
  if (!(schedule instanceof lrScheduler.ReduceLROnPlateau)) return undefined
  if (schedule.mode === 'min') return ({ loss }) => loss
  if (hasValidation) return ({ accuracy }) => accuracy!
  throw new AlambicError(
    'ERR_ARGUMENT',
    "scheduler: expected validation data for a ReduceLROnPlateau with mode 'max', which goes by the accuracy on it; give " +
      "a valLoader, mode 'min' for the mean loss of the epoch, or schedulerMetric",
  )
}
