import { noGrad } from '../tensors/grad-mode.js'
import type { Batch } from '../data/dataset.js'
import { AlambicError } from '../errors.js'
import { scope } from '../memory/memory.js'
import { native } from '../native/loader.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import type { Device } from '../tensors/types.js'
import { rememberModes } from '../nn/modes.js'
import { anything, device, readOptions, signal, type Kinds } from '../checks/options.js'
import { batchesOf, checkLoader, checkModel, releaserOf, type Batches } from './batches.js'
import { releasingEarly } from './early-release.js'
import { toInputFunction, type ModelInput } from './model-input.js'
import { requireLogits } from './outputs.js'
import { Turns } from './turns.js'

export interface EvaluateOptions {
  /** Where the batches are moved. Default: the model's device. */
  device?: Device
  /**
   * Converts a batch's images for the model: a function, or two formats, see {@link ModelInput}. Default: no
   * conversion.
   */
  input?: ModelInput
  /** Stops between batches; the accuracy is then that of the batches seen. */
  signal?: AbortSignal
}

const evaluateOptions: Kinds<EvaluateOptions> = { device, signal, input: anything }

/**
 * The share of samples whose largest logit is the label's, in percent (0 to 100). The model computes each batch in eval
 * mode; between the batches, when the event loop runs, it has its own mode.
 *
 * @throws AlambicError `ERR_ARGUMENT` when the loader yields nothing, or something else than batches;
 *   `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`, `ERR_LABEL_RANGE` for labels that are no classes of the logits
 */
export async function evaluate(
  model: Module<[Tensor], Tensor>,
  loader: Batches,
  options: EvaluateOptions = {},
): Promise<number> {
  checkModel('evaluate: model', model)
  checkLoader('evaluate: loader', loader)
  const {
    device = model.parameters()[0]?.device,
    input,
    signal,
  } = readOptions('evaluate', options, evaluateOptions)
  const toModel = toInputFunction('input', input)
  const turns = new Turns()
  const modules = model.modules()
  const release = releaserOf(loader)
  let correct = 0
  let total = 0
  for await (const batch of batchesOf('evaluate: loader', loader)) {
    total += batch.labels.size(0)
    const restore = rememberModes(modules)
    if (modules.some(({ training }) => training)) model.eval()
    try {
      correct += countCorrect(model, batch, toModel, device)
    } finally {
      restore()
      release(batch)
    }
    await turns.give()
    if (signal?.aborted) break
  }
  if (total === 0)
    throw new AlambicError('ERR_ARGUMENT', 'evaluate: expected at least one batch, the loader gave none')
  return (100 * correct) / total
}

/** As in the losses: such a sample counts as one that is not recognised. */
const ignoredLabel = -100

function countCorrect(
  model: Module<[Tensor], Tensor>,
  { data, labels }: Batch,
  toModel: (images: Tensor) => Tensor,
  device?: Device,
): number {
  return noGrad(() =>
    scope(() => {
      const images = toModel(device === undefined ? data : data.to(device))
      const logits = releasingEarly('evaluate: model', model, () =>
        requireLogits('evaluate: model', model.forward(images)),
      )
      const expected = labels.to(logits.device)
      native.checkLabels('evaluate', logits.handle, expected.handle, ignoredLabel)
      return torch.argmax(logits, { dim: 1 }).eq(expected).sum().item()
    }),
  )
}
