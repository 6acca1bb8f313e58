/** Gradients of several batches, added up for one update. */
import { keep, scope } from '../memory/memory.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'
import type { LossValues } from './step.js'

/**
 * The gradients of the batches of one step. They are held apart from the parameters until the step is complete, so that
 * other code may clear or compute gradients between two batches. Batches count by their samples: the result is the
 * gradient of the mean over all samples, whatever the sizes.
 */
export class Accumulation {
  private gradients: (Tensor | undefined)[] = []
  private samples = 0
  private batches = 0
  private values: LossValues = {}

  /** @param size batches of a step */
  constructor(
    private readonly parameters: readonly Tensor[],
    private readonly size: number,
  ) {}

  get isFull(): boolean {
    return this.batches === this.size
  }

  /** Takes the gradients of a batch of so many samples away from the parameters. */
  add(samples: number, values: LossValues): void {
    noGrad(() =>
      scope(() => {
        this.parameters.forEach((parameter, i) => {
          const gradient = parameter.grad
          if (gradient === null) return
          parameter.grad = null
          const before = this.gradients[i]
          if (before === undefined) {
            const sum = gradient.mul(samples)
            keep(sum)
            this.gradients[i] = sum
          } else before.add_(gradient, { alpha: samples })
        })
      }),
    )
    for (const [name, value] of Object.entries(values))
      this.values[name] = (this.values[name] ?? 0) + samples * value
    this.samples += samples
    this.batches++
  }

  /** Gives the parameters the mean of all gradients, and returns that of the values. */
  finish(): LossValues {
    const { samples } = this
    noGrad(() =>
      scope(() => {
        this.parameters.forEach((parameter, i) => {
          const sum = this.gradients[i]
          if (sum !== undefined) parameter.grad = sum.div_(samples)
        })
      }),
    )
    const values = Object.fromEntries(Object.entries(this.values).map(([name, sum]) => [name, sum / samples]))
    this.clear()
    return values
  }

  /** Forgets what was added. */
  clear(): void {
    for (const gradient of this.gradients) gradient?.dispose()
    this.gradients = []
    this.samples = 0
    this.batches = 0
    this.values = {}
  }
}
