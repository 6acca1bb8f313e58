/** Trainings that are saved between their steps, and go on from there. */
import type { StateDict } from '../nn/module.js'
import type { OptimizerStateDict } from '../optim/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { EpochReport } from './fit.js'
import type { LossScaleState } from './loss-scale.js'
import type { Way } from './speed.js'

/** Everything that the rest of a training depends on. Its tensors are the training's own, which the next step changes. */
export interface TrainingState {
  /** Of the epoch at hand, from 1: batches and steps that were done, and what they gave. */
  epoch: number
  batches: number
  steps: number
  images: number
  milliseconds: number
  sums: { sums: Record<string, number>; count: number }
  /** The epochs of the loader, from 0: at hand, and when the training began. */
  loaderEpoch: number
  firstLoaderEpoch: number
  /** Updates of all epochs. */
  updates: number
  history: EpochReport[]
  /** What was chosen by `speed`; null where nothing was. */
  way: Way | null
  /** Of the student, and of the modules that are trained with it. */
  trained: StateDict[]
  optimizer: OptimizerStateDict
  schedule: object | null
  average: Tensor[] | null
  lossScale: LossScaleState | null
  /** Of the generators by device. */
  random: Record<string, Tensor>
}

/** Saves a training between its steps. */
export interface Keeper {
  /** Where the training goes on; undefined: from the beginning. */
  readonly resume: TrainingState | undefined
  /**
   * Called after each step, and after each epoch behind `onEpoch`.
   *
   * @param state makes the state at this moment; the tensors have to be copied before this returns or awaits
   */
  save(moment: 'step' | 'epoch', state: () => TrainingState): Promise<void> | void
}
