import { AdaptiveAvgPool2d, Conv2d, Linear, ReLU } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { boolean, integer, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'

export interface StudentOptions {
  /** Channels of the images. Default: 3. */
  inChannels?: number
  /** Number of classes. Default: 10. */
  classes?: number
}

const studentOptions: Kinds<StudentOptions> = { inChannels: integer(1), classes: integer(1) }

const forwardOptions = { returnFeatures: boolean }

/** A student's logits, with the outputs of its three ReLUs. */
export type FeaturesOutput = [logits: Tensor, features: [Tensor, Tensor, Tensor]]

/**
 * A small student: three convolutions of 64, 128 and 256 channels, each with a ReLU, then pooling and a linear
 * classifier. Its features also have names for `featureLayers`: `relu1`, `relu2`, `relu3`.
 */
export class StudentWithFeatureExtraction extends Module<
  [x: Tensor, options?: { returnFeatures?: boolean }],
  Tensor | FeaturesOutput
> {
  readonly conv1: Conv2d
  readonly relu1 = new ReLU()
  readonly conv2 = new Conv2d(64, 128, 3, { padding: 1 })
  readonly relu2 = new ReLU()
  readonly conv3 = new Conv2d(128, 256, 3, { padding: 1 })
  readonly relu3 = new ReLU()
  readonly pool = new AdaptiveAvgPool2d(1)
  readonly fc: Linear

  constructor(options: StudentOptions = {}) {
    super()
    const { inChannels = 3, classes = 10 } = readOptions(this.constructor.name, options, studentOptions)
    this.conv1 = new Conv2d(inChannels, 64, 3, { padding: 1 })
    this.fc = new Linear(256, classes)
  }

  /** `(N, inChannels, H, W)` → logits `(N, classes)`, with `returnFeatures` also `(N, 64 | 128 | 256, H, W)`. */
  override forward(x: Tensor, options?: { returnFeatures?: false }): Tensor
  override forward(x: Tensor, options: { returnFeatures: true }): FeaturesOutput
  override forward(x: Tensor, options: { returnFeatures?: boolean } = {}): Tensor | FeaturesOutput {
    const { returnFeatures = false } = readOptions('forward', options, forwardOptions)
    const feature1 = this.relu1.forward(this.conv1.forward(x))
    const feature2 = this.relu2.forward(this.conv2.forward(feature1))
    const feature3 = this.relu3.forward(this.conv3.forward(feature2))
    const logits = this.fc.forward(this.pool.forward(feature3).flatten({ startDim: 1 }))
    return returnFeatures ? [logits, [feature1, feature2, feature3]] : logits
  }
}
