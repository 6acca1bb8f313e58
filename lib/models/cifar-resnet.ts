import { BatchNorm2d } from '../nn/normalization.js'
import { Conv2d } from '../nn/conv.js'
import { Sequential } from '../nn/containers.js'
import * as init from '../nn/init.js'
import { Linear } from '../nn/linear.js'
import { Module } from '../nn/module.js'
import { described, integer, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import { classes, inChannels } from './option-kinds.js'
import { blocksPerStage, globalAverage, normalized } from './parts.js'

export interface CifarResNetOptions {
  /** Default: 10. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
  /** Channels of the first stage; the second has twice, the third four times as many. Default: 16. */
  width?: number
}

export const cifarResNetOptions: Kinds<CifarResNetOptions> = {
  classes,
  inChannels,
  width: described(
    integer(1),
    'Channels of the first stage; the second has twice, the third four times as many.',
    {
      default: 16,
    },
  ),
}

/** Two 3×3 convolutions, each with batch norm, around a shortcut without parameters. */
class BasicBlock extends Module<[Tensor], Tensor> {
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly conv2: Conv2d
  readonly bn2: BatchNorm2d
  readonly #addedChannels: number
  readonly #stride: number

  constructor(inChannels: number, channels: number, stride: number) {
    super()
    this.conv1 = new Conv2d(inChannels, channels, 3, { stride, padding: 1, bias: false })
    this.bn1 = new BatchNorm2d(channels)
    this.conv2 = new Conv2d(channels, channels, 3, { padding: 1, bias: false })
    this.bn2 = new BatchNorm2d(channels)
    this.#addedChannels = channels - inChannels
    this.#stride = stride
  }

  override forward(x: Tensor): Tensor {
    const hidden = normalized(this.bn1, this.conv1.forward(x))
    return normalized(this.bn2, this.conv2.forward(hidden), { added: this.shortcut(x) })
  }

  /** Option A of the paper: every second pixel, and zeros for the channels that x lacks. */
  private shortcut(x: Tensor): Tensor {
    if (this.#stride === 1 && this.#addedChannels === 0) return x
    const step = this.#stride
    const sampled = torch.slice(torch.slice(x, { dim: 2, step }), { dim: 3, step })
    const before = Math.floor(this.#addedChannels / 2)
    return torch.constantPadNd(sampled, [0, 0, 0, 0, before, this.#addedChannels - before])
  }
}

/**
 * The residual networks for small images of He et al., "Deep residual learning for image recognition" (2015), section
 * 4.2: (N, inChannels, H, W) → logits (N, classes). Three stages, `layer1` to `layer3`, whose outputs have `width`,
 * 2 · `width` and 4 · `width` channels and the full, half and quarter size. Shortcuts are the paper's option A; initial
 * weights are Kaiming-normal. State-dict keys are those of akamaster/pytorch_resnet_cifar10 and its published weights
 * (`conv1.weight`, `layer1.0.bn1.running_mean`, `linear.bias`; a `module.` before them is removed by
 * `loadStateDict(weights, { prefix: 'module.' })`).
 */
export class CifarResNet extends Module<[Tensor], Tensor> {
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly layer1: Sequential
  readonly layer2: Sequential
  readonly layer3: Sequential
  readonly linear: Linear

  /**
   * @param depth number of layers with weights, 6n + 2: 20, 32, 44, 56, 110 …
   * @throws AlambicError `ERR_ARGUMENT` for another depth
   */
  constructor(depth: number, options: CifarResNetOptions = {}) {
    super()
    const {
      classes = 10,
      inChannels = 3,
      width = 16,
    } = readOptions('CifarResNet', options, cifarResNetOptions)
    const blocks = blocksPerStage('CifarResNet', depth, 2, '8, 14, 20, 32, 44, 56, 110')
    this.conv1 = new Conv2d(inChannels, width, 3, { padding: 1, bias: false })
    this.bn1 = new BatchNorm2d(width)
    this.layer1 = stage(blocks, width, width, 1)
    this.layer2 = stage(blocks, width, 2 * width, 2)
    this.layer3 = stage(blocks, 2 * width, 4 * width, 2)
    this.linear = new Linear(4 * width, classes)
    this.resetWeights()
  }

  /** Where features are taken, from the first stage to the last. */
  get featureLayers(): string[] {
    return ['layer1', 'layer2', 'layer3']
  }

  private resetWeights(): void {
    for (const module of this.modules())
      if (module instanceof Conv2d || module instanceof Linear) init.kaimingNormal_(module.weight)
  }

  override forward(x: Tensor): Tensor {
    const stem = normalized(this.bn1, this.conv1.forward(x))
    const features = this.layer3.forward(this.layer2.forward(this.layer1.forward(stem)))
    return this.linear.forward(globalAverage(features))
  }
}

function stage(blocks: number, inChannels: number, channels: number, stride: number): Sequential {
  return new Sequential(
    ...Array.from({ length: blocks }, (_, i) =>
      i === 0 ? new BasicBlock(inChannels, channels, stride) : new BasicBlock(channels, channels, 1),
    ),
  )
}

/** {@link CifarResNet} with 20 layers: 0.27 million parameters for 10 classes. */
export function resnet20(options?: CifarResNetOptions): CifarResNet {
  return new CifarResNet(20, options)
}

/** {@link CifarResNet} with 32 layers: 0.46 million parameters. */
export function resnet32(options?: CifarResNetOptions): CifarResNet {
  return new CifarResNet(32, options)
}

/** {@link CifarResNet} with 44 layers: 0.66 million parameters. */
export function resnet44(options?: CifarResNetOptions): CifarResNet {
  return new CifarResNet(44, options)
}

/** {@link CifarResNet} with 56 layers: 0.85 million parameters. */
export function resnet56(options?: CifarResNetOptions): CifarResNet {
  return new CifarResNet(56, options)
}

/** {@link CifarResNet} with 110 layers: 1.73 million parameters. */
export function resnet110(options?: CifarResNetOptions): CifarResNet {
  return new CifarResNet(110, options)
}
