import { argumentError } from '../../errors.js'
import { Tensor } from '../../tensor.js'
import type { Optimizer } from '../optimizer.js'
import { anything, notNegative, number, oneOf, readOptions, type Kinds } from '../../options.js'
import { assign, checkOptimizer, perGroup, pick, type SchedulerStateDict } from './scheduler.js'

export interface ReduceLROnPlateauOptions {
  /** Whether smaller or larger metrics are better. Default: `'min'`. */
  mode?: 'min' | 'max'
  /** What the learning rate is multiplied by, below 1. Default: 0.1. */
  factor?: number
  /** Epochs without improvement that are waited for. Default: 10. */
  patience?: number
  /** Smaller improvements do not count. Default: 1e-4. */
  threshold?: number
  /** Whether `threshold` is a part of the best metric or a difference. Default: `'rel'`. */
  thresholdMode?: 'rel' | 'abs'
  /** Epochs after a reduction that do not count. Default: 0. */
  cooldown?: number
  /** Least learning rate; one for all groups or one each. Default: 0. */
  minLr?: number | readonly number[]
  /** Smaller changes are not made. Default: 1e-8. */
  eps?: number
}

const plateauOptions: Kinds<ReduceLROnPlateauOptions> = {
  mode: oneOf('min', 'max'),
  factor: number,
  patience: notNegative,
  threshold: number,
  thresholdMode: oneOf('rel', 'abs'),
  cooldown: notNegative,
  minLr: anything,
  eps: number,
}

/** Lowers the learning rate when a metric has stopped improving. */
export class ReduceLROnPlateau {
  lastEpoch = 0
  private readonly mode: 'min' | 'max'
  private readonly factor: number
  private readonly patience: number
  private readonly threshold: number
  private readonly thresholdMode: 'rel' | 'abs'
  private readonly cooldown: number
  private readonly minLrs: readonly number[]
  private readonly eps: number
  private best: number
  private badEpochs = 0
  private cooldownCounter = 0
  private lastLr: number[]

  constructor(
    readonly optimizer: Optimizer,
    options: ReduceLROnPlateauOptions = {},
  ) {
    const {
      mode = 'min',
      factor = 0.1,
      patience = 10,
      threshold = 1e-4,
      thresholdMode = 'rel',
      cooldown = 0,
      minLr = 0,
      eps = 1e-8,
    } = readOptions('ReduceLROnPlateau', options, plateauOptions)
    checkOptimizer(optimizer)
    if (!(factor < 1)) throw argumentError('factor', 'a number below 1', factor)
    if (mode !== 'min' && mode !== 'max') throw argumentError('mode', "'min' or 'max'", mode)
    if (thresholdMode !== 'rel' && thresholdMode !== 'abs')
      throw argumentError('thresholdMode', "'rel' or 'abs'", thresholdMode)
    this.mode = mode
    this.factor = factor
    this.patience = patience
    this.threshold = threshold
    this.thresholdMode = thresholdMode
    this.cooldown = cooldown
    this.minLrs = perGroup('minLr', minLr, optimizer.paramGroups.length)
    this.eps = eps
    this.best = mode === 'min' ? Infinity : -Infinity
    this.lastLr = this.currentLrs()
  }

  /** Looks at the metric of an epoch that has ended. */
  step(metric: number | Tensor): void {
    const current = metric instanceof Tensor ? metric.item() : metric
    this.lastEpoch++
    if (this.isBetter(current)) {
      this.best = current
      this.badEpochs = 0
    } else this.badEpochs++
    if (this.cooldownCounter > 0) {
      this.cooldownCounter--
      this.badEpochs = 0
    }
    if (this.badEpochs > this.patience) {
      this.reduce()
      this.cooldownCounter = this.cooldown
      this.badEpochs = 0
    }
    this.lastLr = this.currentLrs()
  }

  /** Learning rates as last set, one per group. */
  getLastLr(): number[] {
    return [...this.lastLr]
  }

  stateDict(): SchedulerStateDict {
    return pick(this, fields)
  }

  /** @throws AlambicError `ERR_STATE_DICT` for a missing field; then nothing was changed */
  loadStateDict(dict: SchedulerStateDict): void {
    assign(this, fields, dict)
  }

  private currentLrs(): number[] {
    return this.optimizer.paramGroups.map(group => group.lr)
  }

  private isBetter(current: number): boolean {
    const { mode, threshold, best } = this
    const sign = mode === 'min' ? -1 : 1
    const bound = this.thresholdMode === 'rel' ? best * (1 + sign * threshold) : best + sign * threshold
    return mode === 'min' ? current < bound : current > bound
  }

  private reduce(): void {
    this.optimizer.paramGroups.forEach((group, i) => {
      const reduced = Math.max(group.lr * this.factor, this.minLrs[i] ?? this.minLrs[0]!)
      if (group.lr - reduced > this.eps) group.lr = reduced
    })
  }
}

const fields = {
  mode: 'mode',
  factor: 'factor',
  patience: 'patience',
  threshold: 'threshold',
  threshold_mode: 'thresholdMode',
  cooldown: 'cooldown',
  min_lrs: 'minLrs',
  eps: 'eps',
  best: 'best',
  num_bad_epochs: 'badEpochs',
  cooldown_counter: 'cooldownCounter',
  last_epoch: 'lastEpoch',
  _last_lr: 'lastLr',
}
