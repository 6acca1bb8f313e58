import { BatchNorm2d, Conv2d, ReLU, Sequential } from '../nn/index.js'
import { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import { conv1x1, conv3x3, normalized, projection } from './parts.js'

/** Makes a block of a stage; `downsample` is the projection of the shortcut, null where the input passes as it is. */
export interface BlockClass {
  /** Output channels per channel. */
  readonly expansion: number
  new (
    inChannels: number,
    channels: number,
    stride: number,
    downsample: Sequential | null,
  ): Module<[Tensor], Tensor>
}

/** Two 3×3 convolutions, each with batch norm, around a shortcut. */
export class BasicBlock extends Module<[Tensor], Tensor> {
  static readonly expansion = 1

  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly relu: ReLU
  readonly conv2: Conv2d
  readonly bn2: BatchNorm2d
  readonly downsample: Sequential | null

  constructor(inChannels: number, channels: number, stride: number, downsample: Sequential | null) {
    super()
    this.conv1 = conv3x3(inChannels, channels, stride)
    this.bn1 = new BatchNorm2d(channels)
    this.relu = new ReLU({ inplace: true })
    this.conv2 = conv3x3(channels, channels)
    this.bn2 = new BatchNorm2d(channels)
    this.downsample = downsample
  }

  override forward(x: Tensor): Tensor {
    const activation = this.relu
    const hidden = normalized(this.bn1, this.conv1.forward(x), { activation })
    const added = this.downsample?.forward(x) ?? x
    return normalized(this.bn2, this.conv2.forward(hidden), { added, activation })
  }
}

/** A 3×3 convolution, which has the stride, between two of 1×1, each with batch norm, around a shortcut. */
export class Bottleneck extends Module<[Tensor], Tensor> {
  static readonly expansion = 4

  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly conv2: Conv2d
  readonly bn2: BatchNorm2d
  readonly conv3: Conv2d
  readonly bn3: BatchNorm2d
  readonly relu: ReLU
  readonly downsample: Sequential | null

  constructor(inChannels: number, channels: number, stride: number, downsample: Sequential | null) {
    super()
    this.conv1 = conv1x1(inChannels, channels)
    this.bn1 = new BatchNorm2d(channels)
    this.conv2 = conv3x3(channels, channels, stride)
    this.bn2 = new BatchNorm2d(channels)
    this.conv3 = conv1x1(channels, channels * Bottleneck.expansion)
    this.bn3 = new BatchNorm2d(channels * Bottleneck.expansion)
    this.relu = new ReLU({ inplace: true })
    this.downsample = downsample
  }

  override forward(x: Tensor): Tensor {
    const activation = this.relu
    const narrow = normalized(this.bn1, this.conv1.forward(x), { activation })
    const hidden = normalized(this.bn2, this.conv2.forward(narrow), { activation })
    const added = this.downsample?.forward(x) ?? x
    return normalized(this.bn3, this.conv3.forward(hidden), { added, activation })
  }
}

/** Blocks one after the other; the first changes channels and size. */
export function residualStage(
  Block: BlockClass,
  inChannels: number,
  channels: number,
  blocks: number,
  stride: number,
): Sequential {
  const outChannels = channels * Block.expansion
  const downsample =
    stride !== 1 || inChannels !== outChannels ? projection(inChannels, outChannels, stride) : null
  return new Sequential(
    ...Array.from({ length: blocks }, (_, i) =>
      i === 0
        ? new Block(inChannels, channels, stride, downsample)
        : new Block(outChannels, channels, 1, null),
    ),
  )
}
