import { AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, ReLU, Sequential } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { described, integer, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { classes, inChannels } from './option-kinds.js'
import { blocksPerStage, conv3x3, normalized, resetConvolutions } from './parts.js'
import { BasicBlock, residualStage } from './residual-blocks.js'

export interface CifarResNetBOptions {
  /** Default: 10. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
  /** Channels of the stem and of the three stages. Default: [16, 16, 32, 64]. */
  widths?: readonly [stem: number, first: number, second: number, third: number]
}

export const namedWidthOptions: Kinds<NamedWidthOptions> = { classes, inChannels }

export const cifarResNetBOptions: Kinds<CifarResNetBOptions> = {
  ...namedWidthOptions,
  widths: described(
    {
      expected: 'four integers of at least 1',
      fits: value => Array.isArray(value) && value.length === 4 && value.every(each => integer(1).fits(each)),
      schema: { type: 'array', items: { type: 'integer', minimum: 1 }, minItems: 4, maxItems: 4 },
    },
    'Channels of the stem and of the three stages.',
    { default: [16, 16, 32, 64] },
  ),
}

/**
 * The networks of {@link CifarResNet} with projections as shortcuts (option B), as the literature on distillation
 * uses them (Tian et al., "Contrastive representation distillation", ICLR 2020): (N, inChannels, H, W) →
 * logits (N, classes). The stages `layer1` to `layer3` give the full, half and quarter size. State-dict keys, paths
 * and initial values are those of RepDistiller (`layer2.0.downsample.0.weight`, `fc.bias`).
 */
export class CifarResNetB extends Module<[Tensor], Tensor> {
  readonly conv1: Conv2d
  readonly bn1: BatchNorm2d
  readonly relu: ReLU
  readonly layer1: Sequential
  readonly layer2: Sequential
  readonly layer3: Sequential
  readonly avgpool: AdaptiveAvgPool2d
  readonly fc: Linear

  /**
   * @param depth number of layers with weights, 6n + 2: 8, 14, 20, 32, 44, 56, 110 …
   * @throws AlambicError `ERR_ARGUMENT` for another depth
   */
  constructor(depth: number, options: CifarResNetBOptions = {}) {
    super()
    const {
      classes = 10,
      inChannels = 3,
      widths = [16, 16, 32, 64],
    } = readOptions('CifarResNetB', options, cifarResNetBOptions)
    const blocks = blocksPerStage('CifarResNetB', depth, 2, '8, 14, 20, 32, 44, 56, 110')
    const [stem, first, second, third] = widths
    this.conv1 = conv3x3(inChannels, stem)
    this.bn1 = new BatchNorm2d(stem)
    this.relu = new ReLU({ inplace: true })
    this.layer1 = residualStage(BasicBlock, stem, first, blocks, 1)
    this.layer2 = residualStage(BasicBlock, first, second, blocks, 2)
    this.layer3 = residualStage(BasicBlock, second, third, blocks, 2)
    this.avgpool = new AdaptiveAvgPool2d(1)
    this.fc = new Linear(third, classes)
    resetConvolutions(this)
  }

  /** Where features are taken, from the first stage to the last. */
  get featureLayers(): string[] {
    return ['layer1', 'layer2', 'layer3']
  }

  override forward(x: Tensor): Tensor {
    const stem = normalized(this.bn1, this.conv1.forward(x), { activation: this.relu })
    const features = this.layer3.forward(this.layer2.forward(this.layer1.forward(stem)))
    return this.fc.forward(this.avgpool.forward(features).flatten({ startDim: 1 }))
  }
}

/** Of a network whose widths are given by its name. */
export type NamedWidthOptions = Omit<CifarResNetBOptions, 'widths'>

const timesFour = [32, 64, 128, 256] as const

function named(
  name: string,
  depth: number,
  options: NamedWidthOptions | undefined,
  widths?: CifarResNetBOptions['widths'],
): CifarResNetB {
  return new CifarResNetB(depth, { ...readOptions(name, options, namedWidthOptions), widths })
}

/** {@link CifarResNetB} with 8 layers of four times the width: 1.2 million parameters for 10 classes. */
export function resnet8x4(options?: NamedWidthOptions): CifarResNetB {
  return named('resnet8x4', 8, options, timesFour)
}

/** {@link CifarResNetB} with 32 layers of four times the width: 7.4 million parameters. */
export function resnet32x4(options?: NamedWidthOptions): CifarResNetB {
  return named('resnet32x4', 32, options, timesFour)
}

/** {@link CifarResNetB} with 20 layers: 0.27 million parameters. RepDistiller's `resnet20`. */
export function resnet20B(options?: NamedWidthOptions): CifarResNetB {
  return named('resnet20B', 20, options)
}

/** {@link CifarResNetB} with 56 layers: 0.86 million parameters. RepDistiller's `resnet56`. */
export function resnet56B(options?: NamedWidthOptions): CifarResNetB {
  return named('resnet56B', 56, options)
}

/** {@link CifarResNetB} with 110 layers: 1.7 million parameters. RepDistiller's `resnet110`. */
export function resnet110B(options?: NamedWidthOptions): CifarResNetB {
  return named('resnet110B', 110, options)
}
