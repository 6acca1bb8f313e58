import type { Tensor } from '../tensors/tensor.js'
import {
  crossEntropy,
  klDiv,
  mseLoss,
  type CrossEntropyOptions,
  type KlDivOptions,
  type Reduction,
} from './functional.js'
import { crossEntropyOptions, klDivOptions, reductionOptions } from './option-kinds.js'
import { readOptions } from '../checks/options.js'
import { Module } from './module.js'

/** {@link crossEntropy} as a module; `weight` is a buffer. As `torch.nn.CrossEntropyLoss`. */
export class CrossEntropyLoss extends Module<[logits: Tensor, target: Tensor], Tensor> {
  /** A weight per class, (C), or null. */
  weight: Tensor | null = null
  private readonly options: CrossEntropyOptions

  constructor(options: CrossEntropyOptions = {}) {
    super()
    const {
      weight = null,
      ignoreIndex,
      reduction,
      labelSmoothing,
    } = readOptions(this.constructor.name, options, crossEntropyOptions)
    this.registerBuffer('weight', weight)
    this.options = { ignoreIndex, reduction, labelSmoothing }
  }

  override forward(logits: Tensor, target: Tensor): Tensor {
    return crossEntropy(logits, target, { ...this.options, weight: this.weight })
  }
}

/** {@link mseLoss} as a module. As `torch.nn.MSELoss`, but nothing is broadcast. */
export class MSELoss extends Module<[input: Tensor, target: Tensor], Tensor> {
  private readonly reduction: Reduction | undefined

  constructor(options: { reduction?: Reduction } = {}) {
    super()
    this.reduction = readOptions(this.constructor.name, options, reductionOptions).reduction
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return mseLoss(input, target, { reduction: this.reduction })
  }
}

/** {@link klDiv} as a module: log-probabilities against probabilities. As `torch.nn.KLDivLoss`. */
export class KLDivLoss extends Module<[input: Tensor, target: Tensor], Tensor> {
  private readonly options: KlDivOptions

  constructor(options: KlDivOptions = {}) {
    super()
    const { reduction, logTarget } = readOptions(this.constructor.name, options, klDivOptions)
    this.options = { reduction, logTarget }
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return klDiv(input, target, this.options)
  }
}
