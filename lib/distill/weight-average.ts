/** The moving average of weights: often a better student than the weights of the last step. */
import { torch } from '../calls/index.js'
import { scope, unscoped } from '../memory/memory.js'
import type { Module, StateDict } from '../nn/module.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'

/** A floating point tensor of the model, and its average. */
type Pair = readonly [own: Tensor, average: Tensor]

/**
 * An exponential moving average of a model's parameters: `average = decay · average + (1 − decay) · weight` after each
 * step, from the weights that the model has when it is made. Buffers, such as the statistics of batch norms, are the
 * model's own. As `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`.
 */
export class WeightAverage {
  private readonly pairs: readonly Pair[]

  constructor(
    private readonly model: Module,
    private readonly decay: number,
  ) {
    const own = model.parameters()
    const copies = copiesOf(own)
    this.pairs = own.map((each, i) => [each, copies[i]!])
  }

  /** After a step. */
  update(): void {
    const own = this.pairs.map(([tensor]) => tensor)
    const averages = this.pairs.map(([, average]) => average)
    noGrad(() => {
      torch._foreachMul_(averages, this.decay)
      torch._foreachAdd_(averages, own, { alpha: 1 - this.decay })
    })
  }

  /** In the order of the model's parameters. */
  averages(): Tensor[] {
    return this.pairs.map(([, average]) => average)
  }

  /** Takes over what {@link averages} gave. */
  load(averages: readonly Tensor[]): void {
    noGrad(() => {
      this.pairs.forEach(([, average], i) => average.copy_(averages[i]!))
    })
  }

  /** Runs `body` while the model has the average for its weights. */
  async inForce<T>(body: () => Promise<T>): Promise<T> {
    const putBack = this.putIn()
    try {
      return await body()
    } finally {
      putBack()
    }
  }

  /** The model's state dict, with the averages in the place of the parameters. All are copies. */
  stateDict(): StateDict {
    const putBack = this.putIn()
    try {
      return noGrad(() =>
        Object.fromEntries(
          Object.entries(this.model.stateDict()).map(([name, each]) => [name, each.detach().clone()]),
        ),
      )
    } finally {
      putBack()
    }
  }

  /** Writes the averages into the model. Returns what writes its own weights there again. */
  private putIn(): () => void {
    const own = copiesOf(this.pairs.map(([tensor]) => tensor))
    this.write(this.pairs.map(([, average]) => average))
    return () => {
      this.write(own)
      for (const copy of own) copy.dispose()
    }
  }

  private write(values: readonly Tensor[]): void {
    noGrad(() =>
      scope(() => {
        this.pairs.forEach(([own], i) => own.copy_(values[i]!))
      }),
    )
  }

  dispose(): void {
    for (const [, average] of this.pairs) average.dispose()
  }
}

/** That no scope releases. */
function copiesOf(tensors: readonly Tensor[]): Tensor[] {
  return unscoped(() => noGrad(() => tensors.map(each => each.detach().clone())))
}
