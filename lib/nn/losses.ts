import type { Tensor } from '../tensor.js'
import {
  crossEntropy,
  klDiv,
  mseLoss,
  type CrossEntropyOptions,
  type KlDivOptions,
  type Reduction,
} from './functional.js'
import { refuseUnknownOptions } from './layer.js'
import { Module } from './module.js'

/** {@link crossEntropy} as a module; `weight` is a buffer. As `torch.nn.CrossEntropyLoss`. */
export class CrossEntropyLoss extends Module<[logits: Tensor, target: Tensor], Tensor> {
  /** A weight per class, (C), or null. */
  weight: Tensor | null = null
  private readonly options: CrossEntropyOptions

  constructor({
    weight = null,
    ignoreIndex,
    reduction,
    labelSmoothing,
    ...unknown
  }: CrossEntropyOptions = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['weight', 'ignoreIndex', 'reduction', 'labelSmoothing'])
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

  constructor({ reduction, ...unknown }: { reduction?: Reduction } = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['reduction'])
    this.reduction = reduction
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return mseLoss(input, target, { reduction: this.reduction })
  }
}

/** {@link klDiv} as a module: log-probabilities against probabilities. As `torch.nn.KLDivLoss`. */
export class KLDivLoss extends Module<[input: Tensor, target: Tensor], Tensor> {
  private readonly options: KlDivOptions

  constructor({ reduction, logTarget, ...unknown }: KlDivOptions = {}) {
    super()
    refuseUnknownOptions(this, unknown, ['reduction', 'logTarget'])
    this.options = { reduction, logTarget }
  }

  override forward(input: Tensor, target: Tensor): Tensor {
    return klDiv(input, target, this.options)
  }
}
