import { BatchNorm2d, Conv2d, functional, init, Linear, ReLU, Sequential } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { between, described, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { classes, inChannels } from './option-kinds.js'
import {
  blocksPerStage,
  conv1x1,
  conv3x3,
  globalAverage,
  normalized,
  overwritable,
  resetConvolutions,
} from './parts.js'

export interface WideResNetOptions {
  /** Default: 10. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
  /** Probability of dropout between the two convolutions of a block. Default: 0. */
  dropout?: number
}

export const wideResNetOptions: Kinds<WideResNetOptions> = {
  classes,
  inChannels,
  dropout: described(between(0, 1), 'Probability of dropout between the two convolutions of a block.', {
    default: 0,
  }),
}

/** Batch norm and ReLU come before each convolution; the sum leaves the block as it is. */
class PreactivationBlock extends Module<[Tensor], Tensor> {
  readonly bn1: BatchNorm2d
  readonly relu1: ReLU
  readonly conv1: Conv2d
  readonly bn2: BatchNorm2d
  readonly relu2: ReLU
  readonly conv2: Conv2d
  /** Where channels change; it reads what `relu1` gives, which without it goes into the convolutions only. */
  readonly convShortcut: Conv2d | null
  readonly #dropout: number

  constructor(inChannels: number, channels: number, stride: number, dropout: number) {
    super()
    this.bn1 = new BatchNorm2d(inChannels)
    this.relu1 = new ReLU({ inplace: true })
    this.conv1 = conv3x3(inChannels, channels, stride)
    this.bn2 = new BatchNorm2d(channels)
    this.relu2 = new ReLU({ inplace: true })
    this.conv2 = conv3x3(channels, channels)
    this.convShortcut = inChannels === channels ? null : conv1x1(inChannels, channels, stride)
    this.#dropout = dropout
  }

  override forward(x: Tensor): Tensor {
    const active = normalized(this.bn1, x, { activation: this.relu1 })
    const hidden = normalized(this.bn2, this.conv1.forward(active), { activation: this.relu2 })
    const kept =
      this.#dropout > 0 ? functional.dropout(hidden, { p: this.#dropout, training: this.training }) : hidden
    return overwritable(this.conv2, kept).add_(this.convShortcut?.forward(active) ?? x)
  }
}

/** A stage, whose blocks are under `layer`. */
class Stage extends Module<[Tensor], Tensor> {
  readonly layer: Sequential

  constructor(blocks: number, inChannels: number, channels: number, stride: number, dropout: number) {
    super()
    this.layer = new Sequential(
      ...Array.from({ length: blocks }, (_, i) =>
        i === 0
          ? new PreactivationBlock(inChannels, channels, stride, dropout)
          : new PreactivationBlock(channels, channels, 1, dropout),
      ),
    )
  }

  override forward(x: Tensor): Tensor {
    return this.layer.forward(x)
  }
}

/**
 * Zagoruyko & Komodakis, "Wide residual networks" (2016), for small images: (N, inChannels, H, W) → logits
 * (N, classes). The stages `block1` to `block3` give 16, 32 and 64 times `widenFactor` channels at the full, half and
 * quarter size, before batch norm and ReLU. State-dict keys, paths and initial values are those of RepDistiller
 * (`block2.layer.0.convShortcut.weight`).
 */
export class WideResNet extends Module<[Tensor], Tensor> {
  readonly conv1: Conv2d
  readonly block1: Stage
  readonly block2: Stage
  readonly block3: Stage
  readonly bn1: BatchNorm2d
  readonly relu: ReLU
  readonly fc: Linear

  /**
   * @param depth number of layers with weights, 6n + 4: 10, 16, 22, 28, 40 …
   * @param widenFactor factor of the stages' channels
   * @throws AlambicError `ERR_ARGUMENT` for another depth
   */
  constructor(depth: number, widenFactor: number, options: WideResNetOptions = {}) {
    super()
    const {
      classes = 10,
      inChannels = 3,
      dropout = 0,
    } = readOptions('WideResNet', options, wideResNetOptions)
    const blocks = blocksPerStage('WideResNet', depth, 4, '10, 16, 22, 28, 40')
    const [first, second, third] = [16 * widenFactor, 32 * widenFactor, 64 * widenFactor]
    this.conv1 = conv3x3(inChannels, 16)
    this.block1 = new Stage(blocks, 16, first, 1, dropout)
    this.block2 = new Stage(blocks, first, second, 2, dropout)
    this.block3 = new Stage(blocks, second, third, 2, dropout)
    this.bn1 = new BatchNorm2d(third)
    this.relu = new ReLU({ inplace: true })
    this.fc = new Linear(third, classes)
    resetConvolutions(this)
    init.zeros_(this.fc.bias!)
  }

  /** Where features are taken, from the first stage to the last. */
  get featureLayers(): string[] {
    return ['block1', 'block2', 'block3']
  }

  override forward(x: Tensor): Tensor {
    const features = this.block3.forward(this.block2.forward(this.block1.forward(this.conv1.forward(x))))
    const active = normalized(this.bn1, features, { activation: this.relu })
    return this.fc.forward(globalAverage(active))
  }
}

/** {@link WideResNet} with 16 layers: 0.18 million parameters for 10 classes. */
export function wrn_16_1(options?: WideResNetOptions): WideResNet {
  return new WideResNet(16, 1, options)
}

/** {@link WideResNet} with 16 layers of twice the width: 0.69 million parameters. */
export function wrn_16_2(options?: WideResNetOptions): WideResNet {
  return new WideResNet(16, 2, options)
}

/** {@link WideResNet} with 40 layers: 0.56 million parameters. */
export function wrn_40_1(options?: WideResNetOptions): WideResNet {
  return new WideResNet(40, 1, options)
}

/** {@link WideResNet} with 40 layers of twice the width: 2.2 million parameters. */
export function wrn_40_2(options?: WideResNetOptions): WideResNet {
  return new WideResNet(40, 2, options)
}
