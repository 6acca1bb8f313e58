/** All that a training takes from one model, in one forward: its output, features, and what its classifier is given. */
import { AlambicError } from '../errors.js'
import { Linear } from '../nn/linear.js'
import type { Module } from '../nn/module.js'
import { ScriptModule } from '../script/script-module.js'
import type { Tensor } from '../tensors/tensor.js'
import { FeatureProbe } from './capture.js'

/** What one forward gave. */
export interface Observed {
  output: Tensor
  /** By path. */
  features: Readonly<Record<string, Tensor>>
  /** `(N, D)`: what the model's last linear layer is given. Only where it was asked for. */
  embedding: Tensor | undefined
}

/** Attached to a model until {@link detach}. */
export class ModelProbe {
  private readonly outputs: FeatureProbe<Tensor>
  private readonly inputs: FeatureProbe<Tensor, { io: 'input' }> | undefined

  /**
   * @param layers paths of layers whose outputs are taken
   * @param embedding whether the classifier's input is taken
   * @throws AlambicError `ERR_UNKNOWN_LAYER`
   */
  constructor(
    private readonly model: Module<[Tensor], Tensor>,
    { layers, embedding }: { layers: readonly string[]; embedding: boolean },
  ) {
    this.outputs = new FeatureProbe(model, layers)
    if (!embedding) return
    try {
      this.inputs = new FeatureProbe(model, [classifierOf(model)], { io: 'input' })
    } catch (error) {
      this.outputs.detach()
      throw error
    }
  }

  forward(images: Tensor): Observed {
    const { inputs } = this
    let embedding: Tensor | undefined
    const run = () => this.model.forward(images)
    const { output, features } = this.outputs.collecting(() => {
      if (inputs === undefined) return run()
      const inside = inputs.collecting(run)
      embedding = Object.values(inside.features)[0]
      return inside.output
    })
    return { output, features, embedding }
  }

  detach(): void {
    this.inputs?.detach()
    this.outputs.detach()
  }
}

/**
 * The path of the layer that makes the logits: the last linear layer.
 *
 * @throws AlambicError `ERR_UNKNOWN_LAYER` for a model without one
 */
export function classifierOf(model: Module): string {
  const isLinear = (module: Module) =>
    module instanceof Linear || (module instanceof ScriptModule && module.typeName === 'Linear')
  const path = model.namedModules().findLast(([, module]) => isLinear(module))?.[0]
  if (path !== undefined) return path
  const name = model instanceof ScriptModule ? model.typeName : model.constructor.name
  throw new AlambicError(
    'ERR_UNKNOWN_LAYER',
    `embedding: expected a model with a linear layer that makes the logits, got ${name}, which has none`,
  )
}
