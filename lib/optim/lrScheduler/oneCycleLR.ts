import { AlambicError } from '../../errors.js'
import type { Optimizer } from '../optimizer.js'
import { anything, readOptions, type Kinds } from '../../checks/options.js'
import {
  checkBetween,
  checkCount,
  checkDivisor,
  checkFlag,
  checkMagnitude,
  checkWord,
  perGroup,
} from './checks.js'
import {
  checkOptimizer,
  LRScheduler,
  schedulerOptions,
  type Group,
  type SchedulerOptions,
} from './scheduler.js'

export interface OneCycleLROptions extends SchedulerOptions {
  /** Steps of the whole cycle; or give `epochs` and `stepsPerEpoch`. */
  totalSteps?: number
  epochs?: number
  stepsPerEpoch?: number
  /** The part of the cycle in which the learning rate rises, in [0, 1]. Default: 0.3. */
  pctStart?: number
  /** Default: `'cos'`. */
  annealStrategy?: 'cos' | 'linear'
  /**
   * Lowers the momentum (for Adam, the first beta) while the learning rate rises, and raises it after. Default: true.
   */
  cycleMomentum?: boolean
  /** One for all groups or one each. Default: 0.85. */
  baseMomentum?: number | readonly number[]
  /** One for all groups or one each. Default: 0.95. */
  maxMomentum?: number | readonly number[]
  /** Above 0: the first learning rate is `maxLr / divFactor`. Default: 25. */
  divFactor?: number
  /** Above 0: the last learning rate is the first divided by this. Default: 1e4. */
  finalDivFactor?: number
  /** Two falling phases, to the first learning rate and then to the last one, instead of one. Default: false. */
  threePhase?: boolean
}

/** Values are checked together, below. */
const oneCycleOptions: Kinds<OneCycleLROptions> = {
  ...schedulerOptions,
  totalSteps: anything,
  epochs: anything,
  stepsPerEpoch: anything,
  pctStart: anything,
  annealStrategy: anything,
  cycleMomentum: anything,
  baseMomentum: anything,
  maxMomentum: anything,
  divFactor: anything,
  finalDivFactor: anything,
  threePhase: anything,
}

/** The ends of phases are products that may be off by rounding; differences this small, in steps, are none. */
const rounding = 1e-9

type Moment = 'baseMomentum' | 'maxMomentum'
type Rate = 'initialLr' | 'maxLr' | 'minLr'
interface Phase {
  endStep: number
  lr: [from: Rate, to: Rate]
  momentum: [from: Moment, to: Moment]
}

/** What a group of any optimizer may have that this schedule moves. */
type Movable = Group & { momentum?: number; betas?: readonly [number, number] }

/**
 * The 1cycle policy (Smith & Topin 2019, "Super-Convergence"), as PyTorch has it: up to `maxLr` and down again, once.
 * Step it after every batch. If there is no rising phase (`pctStart · totalSteps` is 1, or would be without
 * rounding; PyTorch divides by it), the cycle begins at `maxLr`.
 *
 * @param maxLr one for all groups or one each: finite numbers of at least 0
 * @throws AlambicError `ERR_ARGUMENT` for options out of range; then no group was changed
 */
export class OneCycleLR extends LRScheduler {
  protected readonly stateFields = {
    total_steps: { field: 'totalSteps', check: checkCount },
    cycle_momentum: { field: 'cycleMomentum', check: checkFlag },
    _anneal_func_type: { field: 'annealStrategy', check: checkStrategy },
  }
  private readonly totalSteps: number
  private readonly phases: readonly Phase[]
  private readonly annealStrategy: 'cos' | 'linear'
  private readonly cycleMomentum: boolean

  constructor(optimizer: Optimizer, maxLr: number | readonly number[], options: OneCycleLROptions = {}) {
    readOptions('OneCycleLR', options, oneCycleOptions)
    const { pctStart = 0.3, annealStrategy = 'cos', cycleMomentum = true, threePhase = false } = options
    checkOptimizer(optimizer)
    const totalSteps = countSteps(options)
    checkBetween(0, 1)('pctStart', pctStart)
    checkStrategy('annealStrategy', annealStrategy)
    checkFlag('cycleMomentum', cycleMomentum)
    checkFlag('threePhase', threePhase)
    if ((options.lastEpoch ?? -1) === -1) prepare(optimizer, maxLr, cycleMomentum, options)
    super(optimizer, options)
    this.totalSteps = totalSteps
    this.annealStrategy = annealStrategy
    this.cycleMomentum = cycleMomentum
    this.phases = phasesOf(totalSteps, pctStart, threePhase)
    this.start()
  }

  protected getLr(): number[] {
    const step = this.lastEpoch
    if (step > this.totalSteps)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `OneCycleLR: step ${step} is beyond the cycle's totalSteps ${this.totalSteps}`,
      )
    const index = this.phases.findIndex(({ endStep }) => step <= endStep + rounding)
    const phase = this.phases.at(index)! // -1, beyond the end, is the last one
    const start = this.phases[this.phases.indexOf(phase) - 1]?.endStep ?? 0
    // A phase without length is at its end.
    const share = phase.endStep - start > rounding ? (step - start) / (phase.endStep - start) : 1
    this.groups.forEach((group, i) => checkEnds(group, i, this.cycleMomentum))
    return this.groups.map(group => {
      if (this.cycleMomentum) setMomentum(group, this.anneal(group, phase.momentum, share))
      return this.anneal(group, phase.lr, share)
    })
  }

  private anneal(group: Group, [from, to]: [Rate | Moment, Rate | Moment], share: number): number {
    const start = group[from]!
    const end = group[to]!
    // One step more than the cycle has: a line would go on below zero.
    if (this.annealStrategy === 'linear') return (end - start) * Math.min(share, 1) + start
    return end + ((start - end) / 2) * (Math.cos(Math.PI * share) + 1)
  }
}

function checkStrategy(name: string, value: unknown): void {
  checkWord('cos', 'linear')(name, value)
}

function countSteps({ totalSteps, epochs, stepsPerEpoch }: OneCycleLROptions): number {
  if (totalSteps === undefined && (epochs === undefined || stepsPerEpoch === undefined))
    throw new AlambicError(
      'ERR_ARGUMENT',
      'totalSteps: expected it, or both epochs and stepsPerEpoch; got neither',
    )
  if (totalSteps === undefined) {
    checkCount('epochs', epochs!)
    checkCount('stepsPerEpoch', stepsPerEpoch!)
  } else checkCount('totalSteps', totalSteps)
  return totalSteps ?? epochs! * stepsPerEpoch!
}

function phasesOf(totalSteps: number, pctStart: number, threePhase: boolean): Phase[] {
  const rise: Phase = {
    endStep: pctStart * totalSteps - 1,
    lr: ['initialLr', 'maxLr'],
    momentum: ['maxMomentum', 'baseMomentum'],
  }
  const last = totalSteps - 1
  if (!threePhase)
    return [rise, { endStep: last, lr: ['maxLr', 'minLr'], momentum: ['baseMomentum', 'maxMomentum'] }]
  return [
    rise,
    {
      endStep: 2 * pctStart * totalSteps - 2,
      lr: ['maxLr', 'initialLr'],
      momentum: ['baseMomentum', 'maxMomentum'],
    },
    { endStep: last, lr: ['initialLr', 'minLr'], momentum: ['maxMomentum', 'maxMomentum'] },
  ]
}

/** Writes the ends of the cycle into the groups. */
function prepare(
  optimizer: Optimizer,
  maxLr: number | readonly number[],
  cycleMomentum: boolean,
  { baseMomentum = 0.85, maxMomentum = 0.95, divFactor = 25, finalDivFactor = 1e4 }: OneCycleLROptions,
): void {
  const groups = optimizer.paramGroups as readonly Movable[]
  checkDivisor('divFactor', divFactor)
  checkDivisor('finalDivFactor', finalDivFactor)
  const maxLrs = perGroup('maxLr', maxLr, groups.length, checkMagnitude)
  const lows = perGroup('baseMomentum', baseMomentum, groups.length, checkMagnitude)
  const highs = perGroup('maxMomentum', maxMomentum, groups.length, checkMagnitude)
  if (cycleMomentum && groups.some(group => group.momentum === undefined && group.betas === undefined))
    throw new AlambicError('ERR_ARGUMENT', 'cycleMomentum: expected an optimizer with momentum or betas')
  groups.forEach((group, i) => {
    group.maxLr = maxLrs[i]!
    group.initialLr = maxLrs[i]! / divFactor
    group.minLr = group.initialLr / finalDivFactor
    if (!cycleMomentum) return
    group.maxMomentum = highs[i]!
    group.baseMomentum = lows[i]!
    setMomentum(group, highs[i]!)
  })
}

/** What {@link prepare} wrote, and what may have been changed since. */
function checkEnds(group: Movable, index: number, cycleMomentum: boolean): void {
  const momenta = cycleMomentum ? (['baseMomentum', 'maxMomentum'] as const) : []
  for (const field of ['initialLr', 'maxLr', 'minLr', ...momenta] as const) {
    const name = `OneCycleLR: paramGroups[${index}].${field}`
    if (group[field] === undefined)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${name}: expected a group that was there when the schedule was made, got one without; make the schedule after ` +
          'addParamGroup()',
      )
    checkMagnitude(name, group[field])
  }
}

function setMomentum(group: Movable, value: number): void {
  if (group.betas) group.betas = [value, group.betas[1]]
  else group.momentum = value
}
