/** Scaled losses: gradients that are computed in float16 and would be rounded to 0 are multiplied first. */
import { torch } from '../calls/index.js'
import { scope } from '../memory/memory.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'

const firstScale = 2 ** 16
const growth = 2
const backOff = 0.5

/** So many steps without an infinite gradient in a row make the scale grow. */
const growthInterval = 2000

/** What {@link LossScale} has learned. */
export interface LossScaleState {
  scale: number
  steps: number
}

/**
 * As `torch.amp.GradScaler`: the loss is multiplied by a scale before the backward, and the gradients are divided by it.
 * A step whose gradients are not finite is left out, and the scale is halved; after 2,000 steps without such it is
 * doubled.
 */
export class LossScale {
  private state: LossScaleState = { scale: firstScale, steps: 0 }
  private isFinite = true

  /** Leaves the gradients of `loss`, without the scale. */
  backward(loss: Tensor, parameters: readonly Tensor[]): void {
    const { scale } = this.state
    loss.mul(scale).backward()
    noGrad(() =>
      scope(() => {
        const gradients = parameters.map(({ grad }) => grad).filter(grad => grad !== null)
        if (gradients.length === 0) return
        torch._foreachMul_(gradients, 1 / scale)
        const norms = torch.stack(torch._foreachNorm(gradients, { ord: Infinity }))
        this.isFinite &&= Number.isFinite(norms.max().item())
      }),
    )
  }

  /** Whether the optimizer may take its step. */
  endsStep(): boolean {
    const { isFinite } = this
    const { scale, steps } = this.state
    this.isFinite = true
    if (!isFinite) this.state = { scale: scale * backOff, steps: 0 }
    else if (steps + 1 === growthInterval) this.state = { scale: scale * growth, steps: 0 }
    else this.state = { scale, steps: steps + 1 }
    return isFinite
  }

  stateDict(): LossScaleState {
    return { ...this.state }
  }

  loadStateDict(state: LossScaleState): void {
    this.state = { ...state }
  }
}
