import { between, described, readOptions, type Kinds } from '../checks/options.js'
import { classification } from '../distill/classification.js'
import { Term } from '../distill/term.js'
import { requireTensor, type Tensor } from '../tensors/tensor.js'

export interface CrossEntropyOptions {
  /** Part of the target, 0 to 1, that is spread evenly over all classes. Default: 0. */
  labelSmoothing?: number
}

export const crossEntropyOptions: Kinds<CrossEntropyOptions> = {
  labelSmoothing: described(between(0, 1), 'Part of the target that is spread evenly over all classes.', {
    default: 0,
  }),
}

/** The classification: the cross-entropy of the student's logits with the labels, mean over samples. */
export class CrossEntropy extends Term {
  override readonly needsTeacher = false
  readonly labelSmoothing: number

  constructor(options: CrossEntropyOptions = {}) {
    super()
    this.labelSmoothing = readOptions('CrossEntropy', options, crossEntropyOptions).labelSmoothing ?? 0
  }

  /**
   * @param observation `student.logits` (N, classes) and `labels` (N), int64; or `targets` (N, classes), soft labels
   * @throws AlambicError `ERR_LABEL_RANGE`, `ERR_DTYPE`, `ERR_SHAPE_MISMATCH`
   */
  override forward({
    student,
    labels,
    targets,
  }: {
    student: { logits: Tensor }
    labels: Tensor
    targets?: Tensor | undefined
  }): Tensor {
    requireTensor('CrossEntropy: student.logits', student.logits)
    if (targets === undefined) requireTensor('CrossEntropy: labels', labels)
    return classification(student.logits, labels, targets, this.labelSmoothing)
  }
}
