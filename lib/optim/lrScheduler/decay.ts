/** Schedules that are a formula of the epoch. */
import { argumentError } from '../../errors.js'
import type { Optimizer } from '../optimizer.js'
import { number, readOptions, type Kinds } from '../../options.js'
import { checkCount, LRScheduler, schedulerOptions, type SchedulerOptions } from './scheduler.js'

/** The initial learning rate times `lrLambda(epoch)`; one function for all groups or one each. */
export class LambdaLR extends LRScheduler {
  protected readonly stateFields = {}
  private readonly lambdas: readonly ((epoch: number) => number)[]

  constructor(
    optimizer: Optimizer,
    lrLambda: ((epoch: number) => number) | readonly ((epoch: number) => number)[],
    options?: SchedulerOptions,
  ) {
    super(optimizer, readOptions('LambdaLR', options, schedulerOptions))
    this.lambdas = typeof lrLambda === 'function' ? this.groups.map(() => lrLambda) : lrLambda
    if (this.lambdas.length !== this.groups.length)
      throw argumentError('lrLambda', `a function, or ${this.groups.length} (one per group)`, lrLambda)
    this.start()
  }

  protected getLr(): number[] {
    return this.baseLrs.map((base, i) => base * this.lambdas[i]!(this.lastEpoch))
  }
}

export interface StepLROptions extends SchedulerOptions {
  /** Default: 0.1. */
  gamma?: number
}

const stepOptions: Kinds<StepLROptions> = { ...schedulerOptions, gamma: number }

/** Multiplies by `gamma` every `stepSize` epochs. */
export class StepLR extends LRScheduler {
  protected readonly stateFields = { step_size: 'stepSize', gamma: 'gamma' }
  private readonly gamma: number

  constructor(
    optimizer: Optimizer,
    private readonly stepSize: number,
    options: StepLROptions = {},
  ) {
    const { gamma = 0.1 } = readOptions('StepLR', options, stepOptions)
    super(optimizer, options)
    checkCount('stepSize', stepSize)
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

/** Multiplies by `gamma` at each milestone; at one that is named twice, twice. */
export class MultiStepLR extends LRScheduler {
  protected readonly stateFields = { milestones: 'milestones', gamma: 'gamma' }
  private readonly gamma: number
  /** How often each epoch is named. */
  private readonly milestones: Record<number, number> = {}

  constructor(optimizer: Optimizer, milestones: readonly number[], options: StepLROptions = {}) {
    const { gamma = 0.1 } = readOptions('MultiStepLR', options, stepOptions)
    super(optimizer, options)
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

/** Multiplies by `gamma` every epoch. */
export class ExponentialLR extends LRScheduler {
  protected readonly stateFields = { gamma: 'gamma' }

  constructor(
    optimizer: Optimizer,
    private readonly gamma: number,
    options?: SchedulerOptions,
  ) {
    super(optimizer, readOptions('ExponentialLR', options, schedulerOptions))
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
  /** Epochs from the one to the other. Default: 5. */
  totalIters?: number
}

const linearOptions: Kinds<LinearLROptions> = {
  ...schedulerOptions,
  startFactor: number,
  endFactor: number,
  totalIters: number,
}

/** From `startFactor` to `endFactor` times the initial learning rate in equal steps: a warm-up. */
export class LinearLR extends LRScheduler {
  protected readonly stateFields = {
    start_factor: 'startFactor',
    end_factor: 'endFactor',
    total_iters: 'totalIters',
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
    if (!(startFactor > 0 && startFactor <= 1))
      throw argumentError('startFactor', 'a number in (0, 1]', startFactor)
    if (!(endFactor >= 0 && endFactor <= 1)) throw argumentError('endFactor', 'a number in [0, 1]', endFactor)
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

export interface CosineAnnealingLROptions extends SchedulerOptions {
  /** The least learning rate. Default: 0. */
  etaMin?: number
}

const cosineOptions: Kinds<CosineAnnealingLROptions> = { ...schedulerOptions, etaMin: number }

/**
 * Half a cosine from the initial learning rate to `etaMin` in `tMax` epochs, and up again after that (Loshchilov &
 * Hutter 2017, "SGDR", without the restarts).
 */
export class CosineAnnealingLR extends LRScheduler {
  protected readonly stateFields = { T_max: 'tMax', eta_min: 'etaMin' }
  private readonly etaMin: number

  constructor(
    optimizer: Optimizer,
    private readonly tMax: number,
    options: CosineAnnealingLROptions = {},
  ) {
    const { etaMin = 0 } = readOptions('CosineAnnealingLR', options, cosineOptions)
    super(optimizer, options)
    checkCount('tMax', tMax)
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
    const ratio = (1 + this.cosine(lastEpoch)) / (1 + this.cosine(lastEpoch - 1))
    return this.currentLrs().map(lr => ratio * (lr - etaMin) + etaMin)
  }

  protected override getClosedFormLr(): number[] {
    const { etaMin, lastEpoch } = this
    return this.baseLrs.map(base => etaMin + ((base - etaMin) * (1 + this.cosine(lastEpoch))) / 2)
  }

  private cosine(epoch: number): number {
    return Math.cos((Math.PI * epoch) / this.tMax)
  }
}
