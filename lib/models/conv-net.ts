import { AlambicError } from '../errors.js'
import { ReLU } from '../nn/activations.js'
import { Sequential } from '../nn/containers.js'
import { Conv2d } from '../nn/conv.js'
import { Linear } from '../nn/linear.js'
import { Module } from '../nn/module.js'
import { BatchNorm2d } from '../nn/normalization.js'
import { anything, described, integer, listOf, oneOf, readOptions, type Kinds } from '../checks/options.js'
import { classes, inChannels } from './option-kinds.js'
import { MaxPool2d } from '../nn/pooling.js'
import type { Tensor } from '../tensors/tensor.js'

export interface ConvNetOptions {
  /** Channels of each stage. Default: [16, 32, 64]. */
  widths?: readonly number[]
  /** Convolutions per stage. Default: 1. */
  depth?: number
  /** How each stage but the first halves height and width: by stride, or by max pooling first. Default: `'stride'`. */
  downsample?: 'stride' | 'pool'
  /** Default: 10. */
  classes?: number
  /** Default: 3. */
  inChannels?: number
}

export const convNetOptions: Kinds<ConvNetOptions> = {
  widths: described(listOf(integer(1), 'integers of at least 1'), 'Channels of each stage.', {
    default: [16, 32, 64],
  }),
  depth: described({ ...anything, schema: { type: 'integer', minimum: 1 } }, 'Convolutions per stage.', {
    default: 1,
  }),
  downsample: described(
    oneOf('stride', 'pool'),
    'How each stage but the first halves height and width: by stride, or by max pooling first.',
    { default: 'stride' },
  ),
  classes,
  inChannels,
}

/**
 * A plain network of 3×3 convolutions with batch norm and ReLU: (N, inChannels, H, W) → logits (N, classes). Its stages
 * are `stage1`, `stage2` …; each but the first halves height and width. The last stage's features are averaged and
 * classified by `classifier`. `widths` and `depth` set its size.
 *
 * @example const student = new models.ConvNet({ widths: [8, 16, 32] })
 */
export class ConvNet extends Module<[Tensor], Tensor> {
  /** Where features are taken, from the first stage to the last: `['stage1', 'stage2', …]`. */
  readonly featureLayers: readonly string[]
  declare readonly classifier: Linear // a field of its own would come before the stages

  /** @throws AlambicError `ERR_ARGUMENT` without a stage, or for a depth below 1 */
  constructor(options: ConvNetOptions = {}) {
    super()
    const {
      widths = [16, 32, 64],
      depth = 1,
      downsample = 'stride',
      classes = 10,
      inChannels = 3,
    } = readOptions('ConvNet', options, convNetOptions)
    const lastWidth = widths.at(-1)
    if (lastWidth === undefined || !(Number.isInteger(depth) && depth >= 1))
      throw new AlambicError(
        'ERR_ARGUMENT',
        `ConvNet: expected at least one width and a depth of at least 1, got widths [${widths.join(', ')}], depth ${depth}`,
      )
    this.featureLayers = widths.map((_, i) => `stage${i + 1}`)
    widths.forEach((width, i) => {
      const stage = makeStage(widths[i - 1] ?? inChannels, width, depth, i === 0 ? 'none' : downsample)
      Object.assign(this, { [`stage${i + 1}`]: stage })
    })
    this.classifier = new Linear(lastWidth, classes)
  }

  override forward(x: Tensor): Tensor {
    const features = this.featureLayers.reduce(
      (value, layer) => this.getSubmodule(layer).forward(value) as Tensor,
      x,
    )
    return this.classifier.forward(features.mean([2, 3]))
  }
}

function makeStage(
  inChannels: number,
  width: number,
  depth: number,
  downsample: 'none' | 'stride' | 'pool',
): Sequential {
  const units = Array.from({ length: depth }, (_, i) =>
    i === 0 ? makeUnit(inChannels, width, downsample === 'stride' ? 2 : 1) : makeUnit(width, width, 1),
  )
  return downsample === 'pool' ? new Sequential(new MaxPool2d(2), ...units) : new Sequential(...units)
}

function makeUnit(inChannels: number, outChannels: number, stride: number): Sequential {
  return new Sequential({
    conv: new Conv2d(inChannels, outChannels, 3, { stride, padding: 1, bias: false }),
    bn: new BatchNorm2d(outChannels),
    relu: new ReLU(),
  })
}
