import { argumentError } from '../../errors.js'
import { Tensor } from '../../tensors/tensor.js'
import type { Optimizer } from '../optimizer.js'
import { anything, readOptions, type Kinds } from '../../checks/options.js'
import { checkIndex, checkList, checkMagnitude, checkNumber, checkWord, perGroup } from './checks.js'
import { checkOptimizer, readLrs } from './scheduler.js'
import { readState, writeState, type SchedulerStateDict, type StateFields } from './state.js'

export interface ReduceLROnPlateauOptions {
  /** Whether smaller or larger metrics are better. Default: `'min'`. */
  mode?: 'min' | 'max'
  /** What the learning rate is multiplied by, in [0, 1). Default: 0.1. */
  factor?: number
  /** Epochs without improvement before a reduction. Default: 10. */
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

/** Values are checked where they are taken, and again where they are loaded. */
const plateauOptions: Kinds<ReduceLROnPlateauOptions> = {
  mode: anything,
  factor: anything,
  patience: anything,
  threshold: anything,
  thresholdMode: anything,
  cooldown: anything,
  minLr: anything,
  eps: anything,
}

/**
 * Lowers the learning rate when a metric has stopped improving, as `torch.optim.lr_scheduler.ReduceLROnPlateau`. The
 * training functions give it the metric of each epoch: see their option `schedulerMetric`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for options out of range
 */
export class ReduceLROnPlateau {
  lastEpoch = 0
  /** Whether smaller or larger metrics are better. */
  readonly mode: 'min' | 'max'
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
    checkMode('mode', mode)
    checkFactor('factor', factor)
    checkIndex('patience', patience)
    checkMagnitude('threshold', threshold)
    checkThresholdMode('thresholdMode', thresholdMode)
    checkIndex('cooldown', cooldown)
    checkMagnitude('eps', eps)
    this.mode = mode
    this.factor = factor
    this.patience = patience
    this.threshold = threshold
    this.thresholdMode = thresholdMode
    this.cooldown = cooldown
    this.minLrs = perGroup('minLr', minLr, optimizer.paramGroups.length, checkMagnitude)
    this.eps = eps
    this.best = mode === 'min' ? Infinity : -Infinity
    this.lastLr = this.currentLrs()
  }

  /**
   * Takes the metric of an epoch: a number, or a tensor with one element. NaN is no improvement.
   *
   * @throws AlambicError `ERR_ARGUMENT` for anything else, and without a metric; then nothing was changed
   */
  step(metric: number | Tensor): void {
    const current = toNumber(metric)
    this.currentLrs() // they may have been set by hand
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

  /** Everything but the optimizer. `JSON.stringify` keeps all of it, also an infinite `best`. */
  stateDict(): SchedulerStateDict {
    return readState(this, this.fields)
  }

  /**
   * @throws AlambicError `ERR_STATE_DICT` for a missing field, a value that an option could not have, and the state of
   *   another schedule; then nothing was changed
   */
  loadStateDict(dict: SchedulerStateDict): void {
    writeState(this, this.fields, dict)
  }

  private get fields(): StateFields {
    const rates = checkList(checkMagnitude, this.optimizer.paramGroups.length)
    return {
      mode: { field: 'mode', check: checkMode },
      factor: { field: 'factor', check: checkFactor },
      patience: { field: 'patience', check: checkIndex },
      threshold: { field: 'threshold', check: checkMagnitude },
      threshold_mode: { field: 'thresholdMode', check: checkThresholdMode },
      cooldown: { field: 'cooldown', check: checkIndex },
      min_lrs: { field: 'minLrs', check: rates },
      eps: { field: 'eps', check: checkMagnitude },
      best: { field: 'best', check: checkNumber },
      num_bad_epochs: { field: 'badEpochs', check: checkIndex },
      cooldown_counter: { field: 'cooldownCounter', check: checkIndex },
      last_epoch: { field: 'lastEpoch', check: checkIndex },
      _last_lr: { field: 'lastLr', check: rates },
    }
  }

  private currentLrs(): number[] {
    return readLrs('ReduceLROnPlateau', this.optimizer.paramGroups)
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

function toNumber(metric: unknown): number {
  const value: unknown = metric instanceof Tensor && metric.numel() === 1 ? metric.item() : metric
  if (typeof value === 'number') return value
  throw argumentError('metric', 'a number or a tensor with one element, the metric of the epoch', metric)
}

function checkFactor(name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value >= 0 && value < 1))
    throw argumentError(name, 'a number in [0, 1)', value)
}

function checkMode(name: string, value: unknown): void {
  checkWord('min', 'max')(name, value)
}

function checkThresholdMode(name: string, value: unknown): void {
  checkWord('rel', 'abs')(name, value)
}
