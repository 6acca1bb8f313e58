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
