import { AlambicError, argumentError } from '../errors.js'
import { unscoped } from '../memory/memory.js'
import { anything, readOptions, type Kinds } from '../checks/options.js'
import { fromTypedArray, Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'

/** A format of images. A member that is left out has its default, the format of this package's `DataLoader`. */
export interface ImageFormat {
  /** What was subtracted from each channel, in the unit of `range`; one number is for all channels. Default: 0. */
  mean?: readonly number[]
  /** What each channel was divided by after that. Default: 1. */
  std?: readonly number[]
  /** The values of black and white before normalisation: `[0, 1]`, `[0, 255]`, `[-1, 1]`. Default: `[0, 1]`. */
  range?: readonly [black: number, white: number]
  /** Order of the channels. Default: `'RGB'`. */
  order?: 'RGB' | 'BGR'
  /** Order of the dimensions. Default: `'NCHW'`. */
  layout?: 'NCHW' | 'NHWC'
  /** Number of channels: 1 is grey. Default: as they come. */
  channels?: number
  /** Height and width, or both as one number. Default: as they come. */
  size?: number | readonly [height: number, width: number]
}

/** From one format to another: see {@link convertImages}. */
export interface ImageConversion {
  /** How the images are. Default: RGB from 0 to 1, not normalised, (N, C, H, W). */
  from?: ImageFormat
  /** How they should be. */
  to: ImageFormat
}

const conversionOptions: Kinds<ImageConversion> = { from: anything, to: anything }

/** What `models.preprocessingOf()` says besides. */
type MoreThanFormat = Record<'classes' | 'dataset' | 'source', unknown>

/** Values are looked at as a whole. */
const formatOptions: Kinds<ImageFormat & MoreThanFormat> = {
  mean: anything,
  std: anything,
  range: anything,
  order: anything,
  layout: anything,
  channels: anything,
  size: anything,
  classes: anything,
  dataset: anything,
  source: anything,
}

/**
 * Gives a function that converts images from one format to another: it undoes a normalisation and applies another, and
 * changes range, order and number of channels, size (bilinear, with antialiasing when it shrinks) and layout. For
 * example for a teacher that needs other inputs than its student.
 *
 * @example const toTeacher = convertImages({ from: { mean, std }, to: models.preprocessingOf(weights)! })
 * @returns a function of float or uint8 images that gives float32 (or the float dtype of the images); the caller
 *   releases the result, which may be the images themselves if nothing changes
 * @throws AlambicError `ERR_ARGUMENT` for a format that is not valid; the function itself `ERR_SHAPE_MISMATCH` for
 *   images that have other dimensions or channels than `from` says
 */
export function convertImages(conversion: ImageConversion): (images: Tensor) => Tensor {
  const { from = {}, to } = readOptions('convertImages', conversion, conversionOptions)
  if (to === undefined) throw argumentError('convertImages: to', 'an image format', to)
  const source = complete('from', from)
  const target = complete('to', to)
  if (source.channels !== null && !canBecome(source.channels, target.channels))
    throw argumentError('convertImages: to.channels', channelsFrom(source.channels), target.channels)
  const isMirrored = source.order !== target.order
  const given = isMirrored ? reversed(source) : source
  const affine = affineFor(given, target)
  const toUnit = affineFor(given, unit)
  const fromUnit = affineFor(unit, target)
  return images => {
    let x = floating(checkImages(images, source))
    if (source.layout === 'NHWC') x = x.permute([0, 3, 1, 2])
    if (isMirrored && x.size(1) > 1) x = x.flip([1])
    const channels = target.channels ?? x.size(1)
    if (!canBecome(x.size(1), channels))
      throw new AlambicError(
        'ERR_SHAPE_MISMATCH',
        `convertImages: expected images that can become ${channels} channels, got ${x.size(1)}: ` +
          'grey can become any number, and three can become grey',
      )
    if (channels < x.size(1)) x = fromUnit(grey(toUnit(x), target.order))
    else x = affine(channels > x.size(1) ? x.expand([-1, channels, -1, -1]) : x)
    if (target.size !== null) x = resized(x, target.size)
    return target.layout === 'NHWC' ? x.permute([0, 2, 3, 1]) : x
  }
}

// ---- Formats ---------------------------------------------------------------------------------------------------------

interface CompleteFormat {
  mean: readonly number[]
  std: readonly number[]
  range: readonly [number, number]
  order: 'RGB' | 'BGR'
  layout: 'NCHW' | 'NHWC'
  channels: number | null
  size: readonly [number, number] | null
}

const unit: CompleteFormat = complete('', {})

function complete(side: string, format: ImageFormat): CompleteFormat {
  const name = `convertImages: ${side}`
  const {
    mean = [0],
    std = [1],
    range = [0, 1],
    order = 'RGB',
    layout = 'NCHW',
  } = readOptions(name, format, formatOptions as Kinds<ImageFormat>)
  const areNumbers = (list: unknown): list is number[] =>
    Array.isArray(list) && list.length > 0 && list.every(value => Number.isFinite(value))
  if (!areNumbers(mean)) throw argumentError(`${name}.mean`, 'a number per channel', mean)
  if (!areNumbers(std) || !std.every(value => value > 0))
    throw argumentError(`${name}.std`, 'a number above 0 per channel', std)
  if (!areNumbers(range) || range.length !== 2 || !(range[0] < range[1]))
    throw argumentError(`${name}.range`, 'two numbers, black below white', range)
  if (!['RGB', 'BGR'].includes(order)) throw argumentError(`${name}.order`, "'RGB' or 'BGR'", order)
  if (!['NCHW', 'NHWC'].includes(layout)) throw argumentError(`${name}.layout`, "'NCHW' or 'NHWC'", layout)
  const counts = [mean.length, std.length, format.channels ?? 1].filter(count => count !== 1)
  if (format.channels !== undefined && !(Number.isInteger(format.channels) && format.channels >= 1))
    throw argumentError(`${name}.channels`, 'an integer of at least 1', format.channels)
  if (new Set(counts).size > 1 || (format.channels === 1 && counts.length > 0))
    throw argumentError(`${name}`, 'mean, std and channels for equally many channels', counts)
  const channels = format.channels ?? counts[0] ?? null
  return { mean, std, range, order, layout, channels, size: sizeOf(name, format.size) }
}

function sizeOf(name: string, size: ImageFormat['size']): readonly [number, number] | null {
  if (size === undefined) return null
  const both = typeof size === 'number' ? [size, size] : size
  if (Array.isArray(both) && both.length === 2 && both.every(each => Number.isInteger(each) && each >= 1))
    return both as unknown as [number, number]
  throw argumentError(`${name}.size`, 'a height and a width of at least 1', size)
}

function reversed(format: CompleteFormat): CompleteFormat {
  return { ...format, mean: [...format.mean].reverse(), std: [...format.std].reverse() }
}

function checkImages(images: unknown, { channels, layout }: CompleteFormat): Tensor {
  if (!(images instanceof Tensor)) throw argumentError('convertImages: images', 'a tensor', images)
  const { shape } = images
  const found = shape[layout === 'NCHW' ? 1 : 3]
  if (shape.length === 4 && (channels === null || channels === found)) return images
  const dims = layout === 'NCHW' ? `(N, ${channels ?? 'C'}, H, W)` : `(N, H, W, ${channels ?? 'C'})`
  throw new AlambicError(
    'ERR_SHAPE_MISMATCH',
    `convertImages: expected images ${dims}, got (${shape.join(', ')})`,
  )
}

// ---- Numbers ---------------------------------------------------------------------------------------------------------

type Affine = (x: Tensor) => Tensor

/** Values of one format as those of another, by channel: x · scale + shift, computed in float64 once. */
function affineFor(from: CompleteFormat, to: CompleteFormat): Affine {
  const length = Math.max(...[from, to].flatMap(({ mean, std }) => [mean.length, std.length]))
  const at = (list: readonly number[], i: number) => list[list.length === 1 ? 0 : i]!
  const contrast = (to.range[1] - to.range[0]) / (from.range[1] - from.range[0])
  const channels = Array.from({ length }, (_, i) => i)
  const scale = channels.map(i => (at(from.std, i) * contrast) / at(to.std, i))
  const shift = channels.map(
    i => ((at(from.mean, i) - from.range[0]) * contrast + to.range[0] - at(to.mean, i)) / at(to.std, i),
  )
  if (scale.every(each => each === 1) && shift.every(each => each === 0)) return x => x
  const constants = constantsFor([scale, shift])
  return x => {
    const [a, b] = constants(x)
    return x.mul(a!).add(b!)
  }
}

/** Tensors (1, C, 1, 1) that are made once per device and dtype, and stay. */
function constantsFor(lists: readonly (readonly number[])[]): (like: Tensor) => Tensor[] {
  const made = new Map<string, Tensor[]>()
  return ({ device, dtype }) => {
    const key = `${device} ${dtype}`
    let tensors = made.get(key)
    if (tensors === undefined) {
      tensors = unscoped(() =>
        lists.map(list => fromTypedArray(Float64Array.from(list), [1, list.length, 1, 1], { device, dtype })),
      )
      made.set(key, tensors)
    }
    return tensors
  }
}

function floating(images: Tensor): Tensor {
  return /^(float|bfloat)/.test(images.dtype) ? images : images.to('float32')
}

/** Rec. 601, as Pillow and torchvision do. */
const rgbWeights = [0.299, 0.587, 0.114] as const
const greyOf = {
  RGB: constantsFor([rgbWeights]),
  BGR: constantsFor([[...rgbWeights].reverse()]),
}

/** Grey can be repeated, and grey can be made of three colours. */
function canBecome(from: number, to: number | null): boolean {
  return to === null || from === to || from === 1 || (from === 3 && to === 1)
}

function channelsFrom(from: number): string {
  return from === 3 ? '3 or 1, as 3 are given' : `${from}, as so many are given`
}

function grey(x: Tensor, order: 'RGB' | 'BGR'): Tensor {
  return x.mul(greyOf[order](x)[0]!).sum([1], { keepdim: true })
}

function resized(x: Tensor, [height, width]: readonly [number, number]): Tensor {
  const [, , oldHeight, oldWidth] = x.shape as [number, number, number, number]
  if (height === oldHeight && width === oldWidth) return x
  const shrinks = height < oldHeight || width < oldWidth
  return shrinks
    ? torch._upsampleBilinear2dAa(x, [height, width], false)
    : torch.upsampleBilinear2d(x, [height, width], false)
}
