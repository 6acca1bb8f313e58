import { AlambicError, argumentError } from '../errors.js'
import { Conv2d, Identity, init, type ModuleList } from '../nn/index.js'
import { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import type { LayerPair } from './term.js'

/**
 * Brings a feature to another number of channels: `(N, inChannels, H, W)` → `(N, outChannels, H, W)`. The identity
 * if they are equal, otherwise a convolution with Xavier-uniform weights that keeps the spatial size for odd kernels.
 *
 * @throws AlambicError `ERR_ARGUMENT` for channels and sizes that are no integers of at least 1; of `forward`,
 *   `ERR_CHANNEL_MISMATCH` for a feature with other channels
 */
export class AdaptationLayer extends Module<[Tensor], Tensor> {
  readonly adapt: Conv2d | Identity

  /** @param kernelSize default: 1; padded by half of it */
  constructor(inChannels: number, outChannels: number, kernelSize = 1) {
    super()
    for (const [name, value] of Object.entries({ inChannels, outChannels, kernelSize }))
      if (!Number.isInteger(value) || value < 1)
        throw argumentError(`AdaptationLayer: ${name}`, 'an integer of at least 1', value)
    if (inChannels === outChannels) {
      this.adapt = new Identity()
      return
    }
    const conv = new Conv2d(inChannels, outChannels, kernelSize, {
      padding: kernelSize === 1 ? 0 : Math.floor(kernelSize / 2),
    })
    init.xavierUniform_(conv.weight)
    this.adapt = conv
  }

  override forward(x: Tensor): Tensor {
    return this.adapt.forward(x)
  }
}

/** Which side's features are brought to the other's channels. */
export type AdaptedSide = 'teacher' | 'student' | 'none'

/**
 * Appends a layer for each level that brings one side's features to the other's channels.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for features without channels
 */
export function appendAdaptation(
  adaptation: ModuleList<AdaptationLayer>,
  side: AdaptedSide,
  [student, teacher]: readonly [student: readonly Tensor[], teacher: readonly Tensor[]],
  kernelSize: number,
  layers: readonly LayerPair[],
): void {
  const [from, to] = side === 'teacher' ? [teacher, student] : [student, teacher]
  from.forEach((feature, i) => {
    adaptation.append(adaptationBetween(feature, to[i]!, kernelSize, layers[i]!))
  })
}

function adaptationBetween(from: Tensor, to: Tensor, kernelSize: number, layer: LayerPair): AdaptationLayer {
  const [fromChannels, toChannels] = [from.shape[1], to.shape[1]]
  if (fromChannels === undefined || toChannels === undefined)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `featureLayers: expected features (N, C, …) at ${layer.student} and ${layer.teacher}, ` +
        `got (${to.shape.join(', ')}) and (${from.shape.join(', ')})`,
    )
  return new AdaptationLayer(fromChannels, toChannels, kernelSize).to({ device: to.device, dtype: to.dtype })
}

/** The features with those of one side through their layers. */
export function adapted(
  adaptation: ModuleList<AdaptationLayer>,
  side: AdaptedSide,
  [student, teacher]: readonly [student: Tensor[], teacher: Tensor[]],
): [student: Tensor[], teacher: Tensor[]] {
  const through = (features: Tensor[]) => features.map((each, i) => adaptation.at(i).forward(each))
  if (side === 'student') return [through(student), teacher]
  return [student, side === 'teacher' ? through(teacher) : teacher]
}
