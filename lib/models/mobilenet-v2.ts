import { BatchNorm2d, Conv2d, Dropout, init, Linear, ReLU6, Sequential } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { between, described, positive, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { classes, inChannels } from './option-kinds.js'
import { conv1x1, globalAverage, normalized, overwritable, resetConvolutions } from './parts.js'

export interface MobileNetV2Options {
  /** Default: 1000. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
  /** Factor of all channels; they are rounded to multiples of 8. Default: 1. */
  widthMult?: number
  /** Probability of dropout before the classifier. Default: 0.2. */
  dropout?: number
}

export const mobilenetOptions: Kinds<MobileNetV2Options> = {
  classes,
  inChannels,
  widthMult: described(positive, 'Factor of all channels; they are rounded to multiples of 8.', {
    default: 1,
  }),
  dropout: described(between(0, 1), 'Probability of dropout before the classifier.', { default: 0.2 }),
}

/** A convolution with batch norm and ReLU6, under `0`, `1` and `2`. */
class ConvNormActivation extends Sequential {
  constructor(inChannels: number, outChannels: number, kernelSize: 1 | 3, stride = 1, groups = 1) {
    super(
      new Conv2d(inChannels, outChannels, kernelSize, {
        stride,
        padding: (kernelSize - 1) / 2,
        groups,
        bias: false,
      }),
      new BatchNorm2d(outChannels),
      new ReLU6({ inplace: true }),
    )
  }

  override forward(x: Tensor): Tensor {
    const [convolution, norm, activation] = this.children() as [Conv2d, BatchNorm2d, ReLU6]
    return normalized(norm, convolution.forward(x), { activation })
  }
}

/** Widens by 1×1, filters each channel by 3×3, narrows by 1×1; a shortcut joins where input and output are alike. */
class InvertedResidual extends Module<[Tensor], Tensor> {
  readonly conv: Sequential
  readonly #hasShortcut: boolean

  constructor(inChannels: number, outChannels: number, stride: number, expansion: number) {
    super()
    const hidden = inChannels * expansion
    this.conv = new Sequential(
      ...(expansion === 1 ? [] : [new ConvNormActivation(inChannels, hidden, 1)]),
      new ConvNormActivation(hidden, hidden, 3, stride, hidden),
      conv1x1(hidden, outChannels),
      new BatchNorm2d(outChannels),
    )
    this.#hasShortcut = stride === 1 && inChannels === outChannels
  }

  override forward(x: Tensor): Tensor {
    return this.#hasShortcut ? overwritable(this.conv, x).add_(x) : this.conv.forward(x)
  }
}

/** Table 2 of the paper: expansion, channels, number of blocks, stride of the first. */
const settings = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const

/**
 * Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (2018): (N, inChannels, H, W) → logits
 * (N, classes). Its layers are `features.0` to `features.18`; its `featureLayers` are the last ones at 1/4, 1/8, 1/16
 * and 1/32 of the size, as the stages of a {@link ResNet}. State-dict keys, paths and initial values are
 * those of `torchvision.models`, so that its published weights load.
 */
export class MobileNetV2 extends Module<[Tensor], Tensor> {
  readonly features: Sequential
  readonly classifier: Sequential

  constructor(options: MobileNetV2Options = {}) {
    super()
    const {
      classes = 1000,
      inChannels = 3,
      widthMult = 1,
      dropout = 0.2,
    } = readOptions('MobileNetV2', options, mobilenetOptions)
    let channels = toMultipleOf8(32 * widthMult)
    const layers: Module[] = [new ConvNormActivation(inChannels, channels, 3, 2)]
    for (const [expansion, width, blocks, stride] of settings) {
      const outChannels = toMultipleOf8(width * widthMult)
      for (let i = 0; i < blocks; i++) {
        layers.push(new InvertedResidual(channels, outChannels, i === 0 ? stride : 1, expansion))
        channels = outChannels
      }
    }
    const lastChannels = toMultipleOf8(1280 * Math.max(1, widthMult))
    layers.push(new ConvNormActivation(channels, lastChannels, 1))
    this.features = new Sequential(...layers)
    const head = new Linear(lastChannels, classes)
    this.classifier = new Sequential(new Dropout(dropout), head)
    resetConvolutions(this)
    init.normal_(head.weight, { std: 0.01 })
    init.zeros_(head.bias!)
  }

  /** Where features are taken, at 1/4, 1/8, 1/16 and 1/32 of the size. */
  get featureLayers(): string[] {
    return ['features.3', 'features.6', 'features.13', 'features.17']
  }

  override forward(x: Tensor): Tensor {
    return this.classifier.forward(globalAverage(this.features.forward(x)))
  }
}

/** The nearest multiple of 8, but not less than nine tenths of `channels`. */
function toMultipleOf8(channels: number): number {
  const rounded = Math.max(8, Math.floor((channels + 4) / 8) * 8)
  return rounded < 0.9 * channels ? rounded + 8 : rounded
}

/** {@link MobileNetV2}: 3.5 million parameters for 1000 classes. */
export function mobilenetV2(options?: MobileNetV2Options): MobileNetV2 {
  return new MobileNetV2(options)
}
