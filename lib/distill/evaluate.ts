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
  let correct = 0
  const total = await eachOutput('evaluate', model, loader, options, ({ logits, labels }) => {
    correct += torch.argmax(logits, { dim: 1 }).eq(labels).sum().item()
  })
  return (100 * correct) / total
}

/** What a model gave for a batch. */
export interface Output {
  /** `(N, classes)` */
  logits: Tensor
  /** `(N)`, int64, on the device of the logits. */
  labels: Tensor
  /** As the batch has them, on the model's device. */
  images: Tensor
}

/**
 * Shows `look` each batch's output, in a scope and without gradients. Returns the number of samples.
 *
 * @param who the function, for messages
 */
export async function eachOutput(
  who: string,
  model: Module<[Tensor], Tensor>,
  loader: Batches,
  options: EvaluateOptions,
  look: (output: Output) => void,
): Promise<number> {
  checkModel(`${who}: model`, model)
  checkLoader(`${who}: loader`, loader)
  const { device = model.parameters()[0]?.device, input, signal } = readOptions(who, options, evaluateOptions)
  const toModel = toInputFunction('input', input)
  const turns = new Turns()
  const modules = model.modules()
  const release = releaserOf(loader)
  let total = 0
  for await (const batch of batchesOf(`${who}: loader`, loader)) {
    total += batch.labels.size(0)
    const restore = rememberModes(modules)
    if (modules.some(({ training }) => training)) model.eval()
    try {
      noGrad(() => {
        scope(() => {
          look(outputOf(who, model, batch, toModel, device))
        })
      })
    } finally {
      restore()
      release(batch)
    }
    await turns.give()
    if (signal?.aborted) break
  }
  if (total === 0)
    throw new AlambicError('ERR_ARGUMENT', `${who}: expected at least one batch, the loader gave none`)
  return total
}

/** As in the losses: such a sample counts as one that is not recognised. */
const ignoredLabel = -100

function outputOf(
  who: string,
  model: Module<[Tensor], Tensor>,
  { data, labels }: Batch,
  toModel: (images: Tensor) => Tensor,
  device?: Device,
): Output {
  const images = device === undefined ? data : data.to(device)
  const logits = releasingEarly(`${who}: model`, model, () =>
    requireLogits(`${who}: model`, model.forward(toModel(images))),
  )
  const expected = labels.to(logits.device)
  native.checkLabels(who, logits.handle, expected.handle, ignoredLabel)
  return { logits, labels: expected, images }
}
