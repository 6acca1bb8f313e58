import { noGrad } from '../autograd.js'
import type { Batch } from '../data/dataset.js'
import { AlambicError } from '../errors.js'
import { scope } from '../memory.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensor.js'
import { torch } from '../torch/index.js'
import type { Device } from '../types.js'
import { nextTurn, type Batches } from './batches.js'
import { releasingEarly } from './early-release.js'
import { toInputFunction, type ModelInput } from './model-input.js'

export interface EvaluateOptions {
  /** Where the batches are moved. Default: the model's device. */
  device?: Device
  /** How the model is given a batch's images: a function, or two formats, see {@link ModelInput}. Default: as they are. */
  input?: ModelInput
  /** Stops between batches; the accuracy is then that of the batches seen. */
  signal?: AbortSignal
}

/**
 * The share of samples whose largest logit is the label's, in percent (0 to 100). The model runs in eval mode and comes
 * back in the mode it was in; the event loop turns between batches.
 *
 * @throws AlambicError `ERR_ARGUMENT` when the loader yields nothing
 */
export async function evaluate(
  model: Module<[Tensor], Tensor>,
  loader: Batches,
  { device = model.parameters()[0]?.device, input, signal }: EvaluateOptions = {},
): Promise<number> {
  const toModel = toInputFunction('input', input)
  const modes = model.modules().map(module => [module, module.training] as const)
  model.eval()
  let correct = 0
  let total = 0
  try {
    for await (const batch of loader) {
      total += batch.labels.size(0)
      correct += countCorrect(model, batch, toModel, device)
      await nextTurn()
      if (signal?.aborted) break
    }
  } finally {
    for (const [module, training] of modes) module.training = training
  }
  if (total === 0)
    throw new AlambicError('ERR_ARGUMENT', 'evaluate: expected at least one batch, the loader gave none')
  return (100 * correct) / total
}

function countCorrect(
  model: Module<[Tensor], Tensor>,
  { data, labels }: Batch,
  toModel: (images: Tensor) => Tensor,
  device?: Device,
): number {
  try {
    return noGrad(() =>
      scope(() => {
        const images = toModel(device === undefined ? data : data.to(device))
        const logits = releasingEarly(model, () => model.forward(images))
        const predicted = torch.argmax(logits, { dim: 1 })
        return predicted.eq(labels.to(predicted.device)).sum().item()
      }),
    )
  } finally {
    data.dispose()
    labels.dispose()
  }
}
