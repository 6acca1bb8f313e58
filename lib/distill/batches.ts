import type { Batch } from '../data/dataset.js'

/**
 * What training and evaluation read: a `data.DataLoader`, or any iterable of batches that can be run through again.
 * They dispose of the batches.
 */
export type Batches = (AsyncIterable<Batch> | Iterable<Batch>) & {
  /** Number of batches, where it is known: for progress. */
  readonly length?: number
}

/** Lets timers, input and finalizers run. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
