/** What there is to say about a classifier besides its accuracy. */
import { torch } from '../calls/index.js'
import { anything, module, readOptions, signal, device, type Kinds } from '../checks/options.js'
import { inMode } from '../nn/modes.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Batches } from './batches.js'
import { eachOutput, type EvaluateOptions, type Output } from './evaluate.js'
import { toInputFunction, type ModelInput } from './model-input.js'
import { requireLogits } from './outputs.js'

export interface AssessOptions extends EvaluateOptions {
  /** With whose answers those of the model are compared. Default: nobody's. */
  teacher?: Module<[Tensor], Tensor>
  /** Converts a batch's images for the teacher. Default: the same images. */
  teacherInput?: ModelInput
}

/** Of a classifier on a set of samples. Shares are in percent. */
export interface Assessment {
  samples: number
  /** Samples whose largest logit is the label's. */
  top1: number
  /** Samples whose label is among the five largest logits. */
  top5: number
  /** Mean cross-entropy, over the samples whose label is not −100. */
  loss: number
  /**
   * Expected calibration error: how far the confidence (the largest probability) is from the share of right answers,
   * mean over 15 bins of equal width by their samples. Guo et al., "On Calibration of Modern Neural Networks", 2017.
   */
  calibrationError: number
  /** Samples for which model and teacher name the same class; only with `teacher`. */
  agreement?: number
  /** KL(teacher ‖ model) of the probabilities, mean over samples; only with `teacher`. */
  divergence?: number
}

const assessOptions: Kinds<AssessOptions> = {
  device,
  signal,
  input: anything,
  teacher: module,
  teacherInput: anything,
}

const bins = 15

/**
 * Measures a classifier on a set of samples, as {@link evaluate} does, and how far it agrees with a teacher.
 *
 * @throws AlambicError as `evaluate`
 * @example const { top1, calibrationError, agreement } = await assess(student, test, { teacher })
 */
export async function assess(
  model: Module<[Tensor], Tensor>,
  loader: Batches,
  options: AssessOptions = {},
): Promise<Assessment> {
  const { teacher, teacherInput, ...rest } = readOptions('assess', options, assessOptions)
  const toTeacher = toInputFunction('teacherInput', teacherInput)
  const sums = { top1: 0, top5: 0, loss: 0, labelled: 0, agreement: 0, divergence: 0 }
  const calibration = new Calibration()
  const samples = await eachOutput('assess', model, loader, rest, output => {
    const { logits, labels } = output
    const logProbabilities = torch.logSoftmax(logits.to('float32'), 1)
    const guesses = torch.topk(logits, Math.min(5, logits.size(1)))[1]
    const hits = guesses.eq(labels.unsqueeze(1))
    const right = hits.select(1, 0)
    sums.top1 += right.sum().item()
    sums.top5 += hits.any(1).sum().item()
    sums.loss += torch.nllLoss(logProbabilities, labels, { reduction: 2 }).item()
    sums.labelled += labels.ne(-100).sum().item()
    calibration.add(logProbabilities.amax({ dim: [1] }).exp(), right)
    if (teacher !== undefined) compare(sums, output, logProbabilities, teacher, toTeacher)
  })
  const share = (count: number) => (100 * count) / samples
  return {
    samples,
    top1: share(sums.top1),
    top5: share(sums.top5),
    loss: sums.loss / sums.labelled,
    calibrationError: calibration.error(),
    ...(teacher !== undefined && {
      agreement: share(sums.agreement),
      divergence: sums.divergence / samples,
    }),
  }
}

function compare(
  sums: { agreement: number; divergence: number },
  { logits, images }: Output,
  logProbabilities: Tensor,
  teacher: Module<[Tensor], Tensor>,
  toTeacher: (images: Tensor) => Tensor,
): void {
  const theirs = inMode(teacher, false, () =>
    requireLogits('assess: teacher', teacher.forward(toTeacher(images))),
  )
  const same = torch.argmax(theirs, { dim: 1 }).eq(torch.argmax(logits, { dim: 1 }))
  sums.agreement += same.sum().item()
  const target = torch.logSoftmax(theirs.to('float32'), 1)
  sums.divergence += torch.klDiv(logProbabilities, target, { reduction: 2, logTarget: true }).item()
}

/** Confidences in bins. */
class Calibration {
  private readonly counts = new Float64Array(bins)
  private readonly confidences = new Float64Array(bins)
  private readonly rights = new Float64Array(bins)

  /** @param right `(N)`, bool: whether the answer of that confidence is right */
  add(confidence: Tensor, right: Tensor): void {
    const answers = right.to('uint8').toTypedArray()
    confidence.toTypedArray().forEach((value: number | bigint, i: number) => {
      const bin = Math.min(bins - 1, Math.max(0, Math.ceil(Number(value) * bins) - 1))
      this.counts[bin]! += 1
      this.confidences[bin]! += Number(value)
      this.rights[bin]! += Number(answers[i])
    })
  }

  /** In percent. */
  error(): number {
    const total = this.counts.reduce((sum, each) => sum + each, 0)
    const gaps = Array.from(this.counts, (_, bin) => Math.abs(this.confidences[bin]! - this.rights[bin]!))
    return (100 * gaps.reduce((sum, each) => sum + each, 0)) / total
  }
}
