/** What is shown while a run trains: a bar on a terminal, plain lines elsewhere. */
import cliProgress from 'cli-progress'
import type { Distiller, RunEpoch, RunStep } from '../../run/index.js'

/** Shows the run on `stream` until `end` is called. */
export function showProgress(
  run: Distiller,
  title: string,
  stream: NodeJS.WriteStream,
): { say(message: string): void; end(): void } {
  const view = stream.isTTY ? new Bar(title, stream) : new Lines(title, stream)
  run
    .on('stage', ({ name, number, stages, epochs }) => {
      view.stage(stages === 1 ? '' : `${name} (${number}/${stages})`, epochs)
    })
    .on('step', step => {
      view.step(step)
    })
    .on('epoch', epoch => {
      view.epoch(epoch)
    })
    .on('problem', ({ message }) => {
      view.say(message)
    })
  return view
}

/** Images per second, and time left of a stage. */
class Pace {
  private start = performance.now()
  private images = 0
  private steps = 0

  add(images: number): void {
    // The first step makes what the others use.
    if (this.steps++ === 0) this.start = performance.now()
    else this.images += images
  }

  get imagesPerSecond(): number {
    return Math.round((1000 * this.images) / Math.max(performance.now() - this.start, 1))
  }

  /** `h:mm:ss` or `m:ss` */
  timeLeft(steps: number): string {
    const each = (performance.now() - this.start) / 1000 / Math.max(this.steps - 1, 1)
    const seconds = this.steps < 2 ? 0 : Math.round(each * steps)
    const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    const two = (value: number) => String(value).padStart(2, '0')
    return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`
  }
}

function memoryText(): string {
  return `${(process.memoryUsage.rss() / 2 ** 30).toFixed(1)} GB`
}

/** `loss 1.234 (kd 0.5, crossEntropy 0.7)` */
function lossText({ loss, parts }: { loss: number; parts: Record<string, number> }): string {
  const names = Object.keys(parts)
  if (names.length < 2) return `loss ${loss.toFixed(4)}`
  return `loss ${loss.toFixed(4)} (${names.map(name => `${name} ${parts[name]!.toPrecision(3)}`).join(', ')})`
}

function accuracyText({ accuracy, emaAccuracy, testAccuracy }: RunEpoch): string {
  const parts = [
    accuracy === undefined ? '' : `accuracy ${accuracy.toFixed(2)}%`,
    emaAccuracy === undefined ? '' : `ema ${emaAccuracy.toFixed(2)}%`,
    testAccuracy === undefined ? '' : `test ${testAccuracy.toFixed(2)}%`,
  ].filter(part => part !== '')
  return parts.length === 0 ? '' : `, ${parts.join(', ')}`
}

/** What both ways of showing know of the stage at hand. */
abstract class View {
  protected pace = new Pace()
  protected epochs = 0
  private stageName = ''

  constructor(
    private readonly title: string,
    protected readonly stream: NodeJS.WriteStream,
  ) {}

  /** Of the run and the stage. */
  protected get name(): string {
    return [this.title, this.stageName].filter(part => part !== '').join(' ')
  }

  stage(name: string, epochs: number): void {
    this.end()
    this.stageName = name
    this.epochs = epochs
    this.pace = new Pace()
  }

  say(message: string): void {
    this.end()
    this.stream.write(`${message}\n`)
  }

  abstract step(step: RunStep): void
  abstract epoch(epoch: RunEpoch): void
  abstract end(): void
}

class Bar extends View {
  private bar: cliProgress.SingleBar | undefined
  private accuracy = '-'
  private drawn = 0

  override step({ epoch, step, steps = 0, images, loss }: RunStep): void {
    this.pace.add(images)
    const total = this.epochs * steps
    const done = (epoch - 1) * steps + step
    this.bar ??= this.start(total)
    const now = performance.now()
    if (now - this.drawn < 100 && done < total) return
    this.drawn = now
    this.bar.update(done, {
      epoch: `${epoch}/${this.epochs}`,
      loss: loss.toFixed(3),
      accuracy: this.accuracy,
      speed: this.pace.imagesPerSecond,
      memory: memoryText(),
      left: this.pace.timeLeft(total - done),
    })
  }

  override epoch(epoch: RunEpoch): void {
    if (epoch.accuracy !== undefined) this.accuracy = `${epoch.accuracy.toFixed(1)}%`
  }

  override end(): void {
    this.bar?.stop()
    this.bar = undefined
  }

  private start(total: number): cliProgress.SingleBar {
    const { name } = this
    const bar = new cliProgress.SingleBar({
      stream: this.stream,
      format: `${name} {bar} {percentage}% | epoch {epoch} | {speed} images/s | loss {loss} | acc {accuracy} | {memory} | ETA {left}`,
      barsize: 20,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: true,
      gracefulExit: false,
    })
    bar.start(total, 0, {
      epoch: '-',
      loss: '-',
      accuracy: this.accuracy,
      speed: '-',
      memory: '-',
      left: '-',
    })
    return bar
  }
}

class Lines extends View {
  private steps = 0

  override step({ images, steps = 0 }: RunStep): void {
    this.pace.add(images)
    this.steps = steps
  }

  override epoch(epoch: RunEpoch): void {
    const left = this.pace.timeLeft((this.epochs - epoch.epoch) * this.steps)
    this.say(
      `${this.name} epoch ${epoch.epoch}/${this.epochs}: ${lossText(epoch)}${accuracyText(epoch)}, ` +
        `${this.pace.imagesPerSecond} images/s, ${memoryText()}, ETA ${left}`,
    )
  }

  override end(): void {
    // each line stands for itself
  }
}
