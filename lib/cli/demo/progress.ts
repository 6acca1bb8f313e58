import cliProgress from 'cli-progress'
import type { EpochReport, StepProgress } from '../../distill/index.js'

/** What is shown while models train: a bar on a terminal, plain lines elsewhere. */
export interface Progress {
  /** A model starts to train. */
  begin(name: string, epochs: number, stepsPerEpoch: number): void
  step(progress: StepProgress): void
  epoch(report: EpochReport): void
  /** The model is done, or training was stopped. */
  end(): void
}

export function makeProgress(stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? new Bar(stream) : new Lines(stream)
}

/** Images per second and time left, over the whole training of a model. */
class Pace {
  private readonly start = performance.now()
  private images = 0
  private steps = 0

  constructor(
    readonly epochs: number,
    private readonly stepsPerEpoch: number,
  ) {}

  add(images: number): void {
    this.images += images
    this.steps++
  }

  get seconds(): number {
    return (performance.now() - this.start) / 1000
  }

  get imagesPerSecond(): number {
    return Math.round(this.images / this.seconds)
  }

  /** `m:ss` */
  get timeLeft(): string {
    const left = this.epochs * this.stepsPerEpoch - this.steps
    const seconds = this.steps === 0 ? 0 : Math.round((this.seconds / this.steps) * left)
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
  }
}

/** Names of models fill this many columns. */
const nameWidth = 20

class Bar implements Progress {
  private bar: cliProgress.SingleBar | undefined
  private pace = new Pace(0, 0)
  private accuracy = '-'

  constructor(private readonly stream: NodeJS.WriteStream) {}

  begin(name: string, epochs: number, stepsPerEpoch: number): void {
    this.pace = new Pace(epochs, stepsPerEpoch)
    this.accuracy = '-'
    this.bar = new cliProgress.SingleBar({
      stream: this.stream,
      format: `${name.padEnd(nameWidth)} {bar} {percentage}% | epoch {epoch} | {speed} images/s | loss {loss} | acc {accuracy} | ETA {left}`,
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
      gracefulExit: false,
    })
    this.bar.start(epochs * stepsPerEpoch, 0, this.payload(`1/${epochs}`, '-'))
  }

  step({ epoch, epochs, images, loss }: StepProgress): void {
    this.pace.add(images)
    this.bar?.increment(1, this.payload(`${epoch}/${epochs}`, loss.toFixed(3)))
  }

  epoch({ epoch, loss, accuracy }: EpochReport): void {
    if (accuracy !== undefined) this.accuracy = `${accuracy.toFixed(1)}%`
    this.bar?.update(this.payload(`${epoch}/${this.pace.epochs}`, loss.toFixed(3)))
  }

  end(): void {
    this.bar?.stop()
    this.bar = undefined
  }

  private payload(epoch: string, loss: string): object {
    const { imagesPerSecond, timeLeft } = this.pace
    return { epoch, loss, accuracy: this.accuracy, speed: imagesPerSecond || '-', left: timeLeft }
  }
}

class Lines implements Progress {
  private name = ''
  private pace = new Pace(0, 0)

  constructor(private readonly stream: NodeJS.WriteStream) {}

  begin(name: string, epochs: number, stepsPerEpoch: number): void {
    this.name = name
    this.pace = new Pace(epochs, stepsPerEpoch)
  }

  step({ images }: StepProgress): void {
    this.pace.add(images)
  }

  epoch({ epoch, loss, accuracy }: EpochReport): void {
    const { epochs, imagesPerSecond, timeLeft } = this.pace
    const measured = accuracy === undefined ? '' : `, accuracy ${accuracy.toFixed(2)}%`
    this.stream.write(
      `${this.name.padEnd(nameWidth)} epoch ${epoch}/${epochs}: loss ${loss.toFixed(4)}${measured}, ` +
        `${imagesPerSecond} images/s, ETA ${timeLeft}\n`,
    )
  }

  end(): void {
    // each line stands for itself
  }
}
