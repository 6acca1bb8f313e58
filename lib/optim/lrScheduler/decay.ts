/** Schedules that are a formula of the epoch. */
import { argumentError } from '../../errors.js'
import { isPlainObject } from '../../memory/memory.js'
import type { Optimizer } from '../optimizer.js'
import { callback, number, readOptions, type Kinds } from '../../checks/options.js'
import { refuseAsync } from '../callbacks.js'
import { checkBetween, checkCount, checkIndex, checkList, checkMagnitude, checkNumber } from './checks.js'
import { LRScheduler, schedulerOptions, type SchedulerOptions } from './scheduler.js'

/**
 * The initial learning rate times `lrLambda(epoch)`; one function for all groups or one each. As
 * `torch.optim.lr_scheduler.LambdaLR`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for what is no function, and where one returns anything but a number, or a number
 *   that gives no learning rate; `ERR_ASYNC_CALLBACK` where one returns a promise
 */
export class LambdaLR extends LRScheduler {
  protected readonly stateFields = {}
  private readonly lambdas: readonly ((epoch: number) => unknown)[]

  constructor(
    optimizer: Optimizer,
    lrLambda: ((epoch: number) => number) | readonly ((epoch: number) => number)[],
    options?: SchedulerOptions,
  ) {
    super(optimizer, readOptions('LambdaLR', options, schedulerOptions))
    this.lambdas = lambdasOf(lrLambda, this.groups.length)
    this.start()
  }

  protected getLr(): number[] {
    return this.baseLrs.map((base, i) => base * this.factor(i))
  }

  private factor(group: number): number {
    const lambda = this.lambdas[group]
    // That the optimizer has got another group is said where the rates are set.
    if (lambda === undefined) return NaN
    const factor: unknown = lambda(this.lastEpoch)
    const name = `LambdaLR: lrLambda of group ${group} at epoch ${this.lastEpoch}`
    refuseAsync(name, 'a number', factor)
    checkNumber(name, factor)
    return factor as number
  }
}

function lambdasOf(given: unknown, groups: number): ((epoch: number) => unknown)[] {
  if (callback.fits(given)) return Array(groups).fill(given) as ((epoch: number) => unknown)[]
  if (!Array.isArray(given) || given.length !== groups)
    throw argumentError(
      'lrLambda',
      `a function of the epoch, or an array of ${groups} (one per group)`,
      given,
    )
  checkList(checkFunction)('lrLambda', given)
  return [...(given as ((epoch: number) => unknown)[])]
}

function checkFunction(name: string, value: unknown): void {
  if (!callback.fits(value)) throw argumentError(name, 'a function of the epoch', value)
}

export interface StepLROptions extends SchedulerOptions {
  /** A finite number of at least 0. Default: 0.1. */
  gamma?: number
}

const stepOptions: Kinds<StepLROptions> = { ...schedulerOptions, gamma: number }

/** Multiplies by `gamma` every `stepSize` epochs. As `torch.optim.lr_scheduler.StepLR`. */
export class StepLR extends LRScheduler {
  protected readonly stateFields = {
    step_size: { field: 'stepSize', check: checkCount },
    gamma: { field: 'gamma', check: checkMagnitude },
  }
  private readonly gamma: number

  constructor(
    optimizer: Optimizer,
    private readonly stepSize: number,
    options: StepLROptions = {},
  ) {
    const { gamma = 0.1 } = readOptions('StepLR', options, stepOptions)
    super(optimizer, options)
    checkCount('stepSize', stepSize)
    checkMagnitude('gamma', gamma)
    this.gamma = gamma
    this.start()
  }

  protected getLr(): number[] {
    const isDue = this.lastEpoch > 0 && this.lastEpoch % this.stepSize === 0
    return this.currentLrs().map(lr => (isDue ? lr * this.gamma : lr))
  }

  protected override getClosedFormLr(): number[] {
    return this.baseLrs.map(base => base * this.gamma ** Math.floor(this.lastEpoch / this.stepSize))
  }
}

/**
 * Multiplies by `gamma` at each milestone; the order of the list does not matter, and a milestone that is in it twice
 * counts twice. As `torch.optim.lr_scheduler.MultiStepLR`.
 */
export class MultiStepLR extends LRScheduler {
  protected readonly stateFields = {
    milestones: { field: 'milestones', check: checkCounts },
    gamma: { field: 'gamma', check: checkMagnitude },
  }
  private readonly gamma: number
  /** How often each epoch is named. */
  private readonly milestones: Record<number, number> = {}

  constructor(optimizer: Optimizer, milestones: readonly number[], options: StepLROptions = {}) {
    const { gamma = 0.1 } = readOptions('MultiStepLR', options, stepOptions)
    super(optimizer, options)
    checkList(checkIndex)('milestones', milestones)
    checkMagnitude('gamma', gamma)
    for (const epoch of milestones) this.milestones[epoch] = (this.milestones[epoch] ?? 0) + 1
    this.gamma = gamma
    this.start()
  }

  protected getLr(): number[] {
    const times = this.milestones[this.lastEpoch] ?? 0
    return this.currentLrs().map(lr => lr * this.gamma ** times)
  }

  protected override getClosedFormLr(): number[] {
    const passed = Object.entries(this.milestones).filter(([epoch]) => Number(epoch) <= this.lastEpoch)
    const times = passed.reduce((sum, [, count]) => sum + count, 0)
    return this.baseLrs.map(base => base * this.gamma ** times)
  }
}

/** How often each epoch is named, as the state has it. */
function checkCounts(name: string, value: unknown): void {
  if (!isPlainObject(value)) throw argumentError(name, 'an object of counts by epochs', value)
  for (const [epoch, count] of Object.entries(value)) {
    checkIndex(`${name}: epoch`, Number(epoch))
    checkCount(`${name}[${epoch}]`, count)
  }
}

/** Multiplies by `gamma`, a finite number of at least 0, every epoch. As `torch.optim.lr_scheduler.ExponentialLR`. */
export class ExponentialLR extends LRScheduler {
  protected readonly stateFields = { gamma: { field: 'gamma', check: checkMagnitude } }

  constructor(
    optimizer: Optimizer,
    private readonly gamma: number,
    options?: SchedulerOptions,
  ) {
    super(optimizer, readOptions('ExponentialLR', options, schedulerOptions))
    checkMagnitude('gamma', gamma)
    this.start()
  }

  protected getLr(): number[] {
    return this.currentLrs().map(lr => (this.isInitial ? lr : lr * this.gamma))
  }

  protected override getClosedFormLr(): number[] {
    return this.baseLrs.map(base => base * this.gamma ** this.lastEpoch)
  }
}

export interface LinearLROptions extends SchedulerOptions {
  /** In (0, 1]. Default: 1/3. */
  startFactor?: number
  /** In [0, 1]. Default: 1. */
  endFactor?: number
  /** Epochs from `startFactor` to `endFactor`. Default: 5. */
  totalIters?: number
}

const linearOptions: Kinds<LinearLROptions> = {
  ...schedulerOptions,
  startFactor: number,
  endFactor: number,
  totalIters: number,
}

/**
 * From `startFactor` to `endFactor` times the initial learning rate in equal steps: a warm-up. As
 * `torch.optim.lr_scheduler.LinearLR`.
 */
export class LinearLR extends LRScheduler {
  protected readonly stateFields = {
    start_factor: { field: 'startFactor', check: checkStartFactor },
    end_factor: { field: 'endFactor', check: checkBetween(0, 1) },
    total_iters: { field: 'totalIters', check: checkCount },
  }
  private readonly startFactor: number
  private readonly endFactor: number
  private readonly totalIters: number

  constructor(optimizer: Optimizer, options: LinearLROptions = {}) {
    const {
      startFactor = 1 / 3,
      endFactor = 1,
      totalIters = 5,
    } = readOptions('LinearLR', options, linearOptions)
    super(optimizer, options)
    checkStartFactor('startFactor', startFactor)
    checkBetween(0, 1)('endFactor', endFactor)
    checkCount('totalIters', totalIters)
    this.startFactor = startFactor
    this.endFactor = endFactor
    this.totalIters = totalIters
    this.start()
  }

  protected getLr(): number[] {
    const { lastEpoch, startFactor, endFactor, totalIters } = this
    if (lastEpoch === 0) return this.currentLrs().map(lr => lr * startFactor)
    if (this.isInitial || lastEpoch > totalIters) return this.currentLrs()
    const rise = endFactor - startFactor
    return this.currentLrs().map(lr => lr * (1 + rise / (totalIters * startFactor + (lastEpoch - 1) * rise)))
  }

  protected override getClosedFormLr(): number[] {
    const share = Math.min(this.totalIters, this.lastEpoch) / this.totalIters
    return this.baseLrs.map(base => base * (this.startFactor + (this.endFactor - this.startFactor) * share))
  }
}

function checkStartFactor(name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value > 0 && value <= 1))
    throw argumentError(name, 'a number in (0, 1]', value)
}

export interface CosineAnnealingLROptions extends SchedulerOptions {
  /** The learning rate at the end, a finite number of at least 0. Default: 0. */
  etaMin?: number
}

const cosineOptions: Kinds<CosineAnnealingLROptions> = { ...schedulerOptions, etaMin: number }

/**
 * Half a cosine from the initial learning rate to `etaMin` in `tMax` epochs, and up again after that (Loshchilov &
 * Hutter 2017, "SGDR", without the restarts).
 */
export class CosineAnnealingLR extends LRScheduler {
  protected readonly stateFields = {
    T_max: { field: 'tMax', check: checkCount },
    eta_min: { field: 'etaMin', check: checkMagnitude },
  }
  private readonly etaMin: number

  constructor(
    optimizer: Optimizer,
    private readonly tMax: number,
    options: CosineAnnealingLROptions = {},
  ) {
    const { etaMin = 0 } = readOptions('CosineAnnealingLR', options, cosineOptions)
    super(optimizer, options)
    checkCount('tMax', tMax)
    checkMagnitude('etaMin', etaMin)
    this.etaMin = etaMin
    this.start()
  }

  protected getLr(): number[] {
    const { lastEpoch, tMax, etaMin } = this
    if (this.isInitial) return this.currentLrs()
    if (this.stepCount === 1 && lastEpoch > 0) return this.getClosedFormLr()
    // At the bottom the rule below would divide by zero.
    if ((lastEpoch - 1 - tMax) % (2 * tMax) === 0)
      return this.currentLrs().map((lr, i) => lr + ((this.baseLrs[i]! - etaMin) * (1 - this.cosine(1))) / 2)
    const before = 1 + this.cosine(lastEpoch - 1)
    // Beside the bottom of a very long cosine it would, too: the cosine is −1 there in double precision.
    if (before === 0) return this.getClosedFormLr()
    const ratio = (1 + this.cosine(lastEpoch)) / before
    return this.currentLrs().map(lr => ratio * (lr - etaMin) + etaMin)
  }

  protected override getClosedFormLr(): number[] {
    const { etaMin, lastEpoch } = this
    return this.baseLrs.map(base => etaMin + ((base - etaMin) * (1 + this.cosine(lastEpoch))) / 2)
  }

  /** Beside the bottom 1 + cos(x) ≈ (π / tMax)² / 2 has few digits, and what follows is a multiple of it. */
  protected override roundingOf(group: number): number {
    const times = Math.ceil((this.lastEpoch + 1) / this.tMax)
    const part = Number.EPSILON * this.tMax ** 2 * times
    return Math.max(super.roundingOf(group), part * Math.max(this.baseLrs[group]!, this.etaMin))
  }

  private cosine(epoch: number): number {
    return Math.cos((Math.PI * epoch) / this.tMax)
  }
}
