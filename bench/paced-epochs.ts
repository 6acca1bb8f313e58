import { data, methods, optim, type DistillerOptions } from '../lib/index.js'
import type { Pair } from './pairs.js'

/** Batches of an epoch, which is what a turn runs. */
export const stepsPerTurn = 20

/** Distillation by logits, without an end. */
export function endlessRun(pair: Pair, compile: boolean) {
  return {
    teacher: pair.makeTeacher(),
    student: pair.makeStudent(),
    train: data.proceduralImages({ count: pair.batch * stepsPerTurn, size: pair.size, classes: 10 }),
    batchSize: pair.batch,
    objective: [
      { term: new methods.CrossEntropy(), weight: 0.1 },
      { term: new methods.KD(), weight: 0.9 },
    ],
    optimizer: parameters => new optim.SGD(parameters, { lr: 0.01, momentum: 0.9 }),
    epochs: Number.MAX_SAFE_INTEGER,
    compile,
  } satisfies DistillerOptions
}

/** A training that makes one epoch when it is asked to. */
export class PacedEpochs {
  private resume: () => void = () => undefined
  private ready: () => void = () => undefined
  private waiting: Promise<void>
  private readonly ended: Promise<unknown>
  private readonly stop = new AbortController()

  /**
   * @param start begins the training, which awaits `pause` after each epoch, and ends when the signal says so
   * @param steps of an epoch
   */
  constructor(
    start: (pause: () => Promise<void>, signal: AbortSignal) => Promise<unknown>,
    private readonly steps: number,
  ) {
    this.waiting = new Promise(resolve => (this.ready = resolve))
    this.ended = start(() => this.pause(), this.stop.signal)
    this.ended.catch(() => this.ready())
  }

  private pause(): Promise<void> {
    const resumed = new Promise<void>(resolve => (this.resume = resolve))
    this.ready()
    return resumed
  }

  /** Milliseconds of a step, the mean of an epoch. */
  async step(): Promise<number> {
    await this.waiting
    this.waiting = new Promise(resolve => (this.ready = resolve))
    const start = performance.now()
    this.resume()
    await this.waiting
    return (performance.now() - start) / this.steps
  }

  async close(): Promise<void> {
    await this.waiting
    this.stop.abort()
    this.resume()
    await this.ended
  }
}
