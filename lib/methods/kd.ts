import { described, readOptions, type Kinds } from '../checks/options.js'
import { temperature } from '../distill/losses.js'
import { Term } from '../distill/term.js'
import { native } from '../native/loader.js'
import { handleOf, Tensor } from '../tensors/tensor.js'

export interface KDOptions {
  /** Softens both outputs; from 1e-6 to 1e6. Default: 4. */
  temperature?: number
}

export const kdOptions: Kinds<KDOptions> = {
  temperature: described(temperature, 'Softens both outputs.', { default: 4 }),
}

/**
 * Distillation by outputs: `T² · KL(softmax(teacher / T) ‖ softmax(student / T))`, summed over classes, mean over
 * samples. A class that the teacher excludes by a logit of −∞ adds nothing; if only the student excludes a class, the
 * value is infinite.
 *
 * Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015. RepDistiller and mdistiller use 0.1 of
 * cross-entropy and 0.9 of this, with T = 4, on CIFAR-100.
 */
export class KD extends Term {
  readonly temperature: number

  constructor(options: KDOptions = {}) {
    super()
    this.temperature = readOptions('KD', options, kdOptions).temperature ?? 4
  }

  /**
   * @param observation the logits of both, (N, classes)
   * @throws AlambicError `ERR_SHAPE_MISMATCH`
   */
  override forward(observation: { student: { logits: Tensor }; teacher: { logits: Tensor } }): Tensor {
    const student = handleOf('KD: student.logits', observation.student.logits)
    const teacher = handleOf('KD: teacher.logits', observation.teacher.logits)
    return new Tensor(native.softenedDivergence(student, teacher, this.temperature))
  }
}
