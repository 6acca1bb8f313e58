import type { Batches, FitOptions, TrainingResult } from '../lib/distill/index.js'
import type { Batch } from '../lib/data/index.js'
import { isGpu, synchronize } from './device.js'

/** Starts a training of the library over these batches. */
export type Start = (
  batches: Batches,
  options: Pick<FitOptions, 'epochs' | 'onStep' | 'log'>,
) => Promise<TrainingResult>

/** A step that takes longer has failed. */
const secondsAtMost = 120

/** Steps in a turn, as a training makes them one behind the other: the first alone meets caches full of others' data. */
export const stepsPerTurn = 5

/**
 * A training of the library's own trainers that makes one step when it is asked to: what is measured is the loop that
 * users run, with its progress, checks and turns of the event loop.
 */
export class PacedTraining {
  private readonly ended: Promise<never>
  private trainer: Promise<TrainingResult>
  private asking = deferred<(batch: Batch | null) => void>()
  private stepped = deferred<number>()

  constructor(
    start: Start,
    private readonly batch: Batch,
  ) {
    this.trainer = start(this.batches(), {
      epochs: 1,
      log: null,
      onStep: ({ loss }) => this.stepped.resolve(loss),
    })
    this.ended = this.trainer.then(() => {
      throw new Error('the training ended by itself')
    })
    this.ended.catch(() => undefined) // whoever waits for a step hears of it
  }

  /**
   * Milliseconds of a step, the mean of a turn, from the batch's arrival to its report. On a GPU until all kernels are
   * done: when a step reports its loss, its last may still be running, and hold up the next.
   */
  async step(): Promise<number> {
    const { device } = this.batch.data
    let milliseconds = 0
    const start = performance.now()
    for (let i = 0; i < stepsPerTurn; i++) milliseconds += await this.oneStep()
    if (!isGpu(device)) return milliseconds / stepsPerTurn
    synchronize(device)
    return (performance.now() - start) / stepsPerTurn
  }

  private async oneStep(): Promise<number> {
    const give = await Promise.race([this.asking.promise, this.ended])
    this.asking = deferred()
    this.stepped = deferred()
    const batch = { data: this.batch.data.clone(), labels: this.batch.labels.clone() } // trainers dispose of theirs
    const start = performance.now()
    give(batch)
    const timer = setTimeout(() => this.endBatches(), secondsAtMost * 1000)
    try {
      await Promise.race([this.stepped.promise, this.ended])
      return performance.now() - start
    } finally {
      clearTimeout(timer)
    }
  }

  /** Lets the trainer come to its end, and gives its result. */
  async stop(): Promise<TrainingResult> {
    const give = await Promise.race([this.asking.promise, this.ended])
    give(null)
    return this.trainer
  }

  /** A trainer that reads ahead waits for its batch before it tells what went wrong. */
  private endBatches(): void {
    void this.asking.promise.then(give => give(null))
  }

  private async *batches(): AsyncGenerator<Batch> {
    for (;;) {
      const batch = await new Promise<Batch | null>(resolve => this.asking.resolve(resolve))
      if (batch === null) return
      yield batch
    }
  }
}

interface Deferred<T> {
  promise: Promise<T>
  resolve: (value: T) => void
}

function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void
  const promise = new Promise<T>(settle => (resolve = settle))
  return { promise, resolve }
}
