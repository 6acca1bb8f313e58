/** What came of a run: last, best and mean of the last ten are three different numbers. */
import type { EpochReport } from '../distill/fit.js'

/** An epoch of a run. */
export interface RunEpoch extends EpochReport {
  /** From 1, over all stages; `epoch` is that of the stage. */
  runEpoch: number
  stage: string
  /** On the test data, in percent; only with `testEachEpoch`. */
  testAccuracy?: number | undefined
  /** Learning rates of the optimizer's groups at the end of the epoch. */
  lr: number[]
}

/** An epoch that was better than all before. */
export interface BestEpoch {
  /** Over all stages, from 1. */
  epoch: number
  accuracy: number
  /** Whether it is that of the moving average of the weights. */
  isAverage: boolean
}

/** Accuracies are in percent, those of epochs on the data that epochs are compared by. */
export interface RunResult {
  epochs: RunEpoch[]
  /** Of the last epoch. */
  last: number | null
  /** Of the best epoch. Chosen among many, it is too high by chance: the test data, which are used once, tell. */
  best: BestEpoch | null
  /** Mean over the last ten epochs. */
  meanOfLastTen: number | null
  /** Which data epochs are compared by. */
  comparedBy: 'validation' | 'test' | null
  /** Which weights the student has now. */
  chosen: 'best' | 'last' | 'ema'
  /** Of these weights on the test data. */
  testAccuracy: number | null
  /** Whether the signal stopped the run; it can be resumed. */
  stopped: boolean
  /** Whether `patience` ended it. */
  endedEarly: boolean
  /** Of training and evaluation, in all. */
  seconds: number
  /** Of the student. */
  parameters: number
  /** What is not as it was when the run began: options changed by hand, another machine or libtorch. */
  changes: string[]
  /** Where the run is kept. */
  folder: string | null
}

/** Of the last ten epochs; null without any. */
export function meanOfLastTen(epochs: readonly RunEpoch[]): number | null {
  const accuracies = epochs.flatMap(({ accuracy }) => accuracy ?? []).slice(-10)
  if (accuracies.length === 0) return null
  return accuracies.reduce((sum, each) => sum + each) / accuracies.length
}

/** The better of an epoch's two accuracies. */
export function accuracyOf(epoch: EpochReport): { accuracy: number; isAverage: boolean } | null {
  const { accuracy, emaAccuracy } = epoch
  if (accuracy === undefined) return null
  return emaAccuracy !== undefined && emaAccuracy > accuracy
    ? { accuracy: emaAccuracy, isAverage: true }
    : { accuracy, isAverage: false }
}
