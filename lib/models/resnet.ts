import { argumentError } from '../errors.js'
import { AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU, Sequential } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { classes, inChannels } from './option-kinds.js'
import { normalized, resetConvolutions } from './parts.js'
import { BasicBlock, Bottleneck, residualStage, type BlockClass } from './residual-blocks.js'

export interface ResNetOptions {
  /** Default: 1000. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
}

export const resnetOptions: Kinds<ResNetOptions> = { classes, inChannels }

const architectures = {
  18: { Block: BasicBlock, blocks: [2, 2, 2, 2] },
  34: { Block: BasicBlock, blocks: [3, 4, 6, 3] },
  50: { Block: Bottleneck, blocks: [3, 4, 6, 3] },
} as const satisfies Record<number, { Block: BlockClass; blocks: readonly number[] }>

/**
 * The residual networks for large images of He et al., "Deep residual learning for image recognition" (2015), table 1:
 * (N, inChannels, H, W) → logits (N, classes). A stem divides the size by 4; the stages `layer1` to `layer4` give 64,
 * 128, 256 and 512 channels (four times as many with 50 layers) at 1/4, 1/8, 1/16 and 1/32 of the size. State-dict
 * keys, paths and initial values are those of `torchvision.models`, so that its published weights load.
 */
export class ResNet extends Module<[Tensor], Tensor> {
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly relu: ReLU
  readonly maxpool: MaxPool2d
  readonly layer1: Sequential
  readonly layer2: Sequential
  readonly layer3: Sequential
  readonly layer4: Sequential
  readonly avgpool: AdaptiveAvgPool2d
  readonly fc: Linear

  /** @throws AlambicError `ERR_ARGUMENT` for another depth */
  constructor(depth: 18 | 34 | 50, options: ResNetOptions = {}) {
    super()
    const { classes = 1000, inChannels = 3 } = readOptions('ResNet', options, resnetOptions)
    if (typeof depth !== 'number' || !Object.hasOwn(architectures, depth))
      throw argumentError('ResNet: depth', '18, 34 or 50', depth)
    const { Block, blocks } = architectures[depth]
    this.conv1 = new Conv2d(inChannels, 64, 7, { stride: 2, padding: 3, bias: false })
    this.bn1 = new BatchNorm2d(64)
    this.relu = new ReLU({ inplace: true })
    this.maxpool = new MaxPool2d(3, { stride: 2, padding: 1 })
    this.layer1 = residualStage(Block, 64, 64, blocks[0], 1)
    this.layer2 = residualStage(Block, 64 * Block.expansion, 128, blocks[1], 2)
    this.layer3 = residualStage(Block, 128 * Block.expansion, 256, blocks[2], 2)
    this.layer4 = residualStage(Block, 256 * Block.expansion, 512, blocks[3], 2)
    this.avgpool = new AdaptiveAvgPool2d(1)
    this.fc = new Linear(512 * Block.expansion, classes)
    resetConvolutions(this)
  }

  /** Where features are taken, from the first stage to the last. */
  get featureLayers(): string[] {
    return ['layer1', 'layer2', 'layer3', 'layer4']
  }

  override forward(x: Tensor): Tensor {
    const stem = this.maxpool.forward(normalized(this.bn1, this.conv1.forward(x), { activation: this.relu }))
    const features = [this.layer1, this.layer2, this.layer3, this.layer4].reduce(
      (value, stage) => stage.forward(value),
      stem,
    )
    return this.fc.forward(this.avgpool.forward(features).flatten({ startDim: 1 }))
  }
}

/** {@link ResNet} with 18 layers: 11.7 million parameters for 1000 classes. */
export function resnet18(options?: ResNetOptions): ResNet {
  return new ResNet(18, options)
}

/** {@link ResNet} with 34 layers: 21.8 million parameters. */
export function resnet34(options?: ResNetOptions): ResNet {
  return new ResNet(34, options)
}

/** {@link ResNet} with 50 layers, blocks with bottlenecks: 25.6 million parameters. */
export function resnet50(options?: ResNetOptions): ResNet {
  return new ResNet(50, options)
}
