import { inspect } from 'node:util'
import { AlambicError, argumentError } from '../errors.js'
import {
  anything,
  boolean,
  integer,
  listOf,
  number,
  readOptions,
  requireKind,
  text,
  type Kinds,
} from '../checks/options.js'
import { isUint8Array } from '../checks/realms.js'
import { fromTypedArray } from '../tensors/tensor.js'
import {
  checkIndices,
  splitIndices,
  splitOptions,
  type Batch,
  type Dataset,
  type SampleView,
} from './dataset.js'
import { checkLabels } from './labels.js'
import {
  channelStatistics,
  gatherAugmented,
  gatherImages,
  normalisationTables,
  type Augmentation,
  type ImageShape,
} from './pixels.js'
import { Random } from './random.js'

/** Normalisation and augmentation of images. */
export interface ImageOptions {
  /** What is subtracted from each channel, in the unit 0 to 1. Default: 0. */
  mean?: readonly number[]
  /** What each channel is divided by after that, in the unit 0 to 1. Default: 1. */
  std?: readonly number[]
  /** Random changes, made when `batch` is given random numbers. Default: none. */
  augment?: Augmentation
}

/** What an {@link ImageDataset} is made from. */
export interface ImageDatasetInit extends ImageOptions {
  /** Bytes `(N, C, H, W)`. Kept, not copied. */
  pixels: Uint8Array
  /** Class numbers `(N)`. Kept, not copied. */
  labels: Uint8Array | Int32Array
  /** `[channels, height, width]` of one image. */
  shape: ImageShape
  /** Names of the classes; labels are checked against their number. */
  classes?: readonly string[]
}

/** Values that depend on the number of channels are checked with it. */
export const imageOptions: Kinds<ImageOptions> = {
  mean: listOf(number, 'numbers'),
  std: listOf(number, 'numbers'),
  augment: anything,
}

const imageDatasetInit: Kinds<ImageDatasetInit> = {
  ...imageOptions,
  pixels: anything,
  labels: anything,
  shape: anything,
  classes: listOf(text, 'names'),
}

/** Pixels of the border are checked with the message of their own. */
const augmentation: Kinds<Augmentation> = { horizontalFlip: boolean, cropPadding: anything, views: anything }

/**
 * Images of one size as bytes in memory. Batches are float32 `(N, C, H, W)`, `(byte / 255 − mean) / std`, with int64
 * labels `(N)`.
 */
export class ImageDataset implements Dataset {
  readonly pixels: Uint8Array
  readonly labels: Uint8Array | Int32Array
  readonly shape: ImageShape
  readonly classes: readonly string[] | undefined
  readonly mean: readonly number[]
  readonly std: readonly number[]
  readonly augment: Augmentation
  readonly #tables: readonly Float32Array[]
  /** Where batches are put together; making a tensor copies it. */
  #staging = new Float32Array(0)

  /**
   * @throws AlambicError `ERR_LENGTH_MISMATCH` when pixels, labels and shape do not fit together, `ERR_LABEL_RANGE` for
   *   a label without a class, `ERR_ARGUMENT` for a bad mean, std or augmentation
   */
  constructor(init: ImageDatasetInit) {
    const {
      pixels,
      labels,
      shape,
      classes,
      mean,
      std,
      augment = {},
    } = readOptions('ImageDataset', init, imageDatasetInit)
    checkShape(shape)
    if (!ArrayBuffer.isView(pixels)) throw argumentError('ImageDataset: pixels', 'a Uint8Array', pixels)
    if (!ArrayBuffer.isView(labels))
      throw argumentError('ImageDataset: labels', 'a Uint8Array or an Int32Array', labels)
    const [channels] = shape
    this.pixels = pixels
    this.labels = labels
    this.shape = [...shape]
    this.classes = classes
    this.mean = channelValues('mean', mean ?? Array<number>(channels).fill(0), channels)
    this.std = channelValues('std', std ?? Array<number>(channels).fill(1), channels)
    this.augment = checkedAugmentation(augment)
    this.#tables = normalisationTables(this.mean, this.std)
    this.#checkLengths()
    checkLabels(
      labels,
      classes?.length ?? 2 ** 31,
      index => `ImageDataset: labels[${index}]`,
      'number the classes from 0',
    )
  }

  get length(): number {
    return this.labels.length
  }

  /** How many views each image has that come again: 1 without augmentation, undefined where each epoch draws anew. */
  get views(): number | undefined {
    return this.#isAugmented ? this.augment.views : 1
  }

  /**
   * The images at these indices.
   *
   * @throws AlambicError `ERR_INDEX` for an index that the dataset does not have
   */
  batch(indices: readonly number[] | Int32Array, random?: Random, view?: SampleView): Batch {
    checkIndices('ImageDataset.batch', indices, this.length)
    const labels = BigInt64Array.from({ length: indices.length }, (_, at) =>
      BigInt(this.labels[indices[at]!]!),
    )
    return {
      data: fromTypedArray(this.floats(indices, random, view), [indices.length, ...this.shape]),
      labels: fromTypedArray(labels, [indices.length]),
    }
  }

  /**
   * The numbers of {@link batch} without a tensor: `(indices.length, C, H, W)`, overwritten by the next call.
   *
   * @internal
   */
  floats(indices: readonly number[] | Int32Array, random?: Random, view?: SampleView): Float32Array {
    const { pixels, shape, augment } = this
    const length = indices.length * this.#imageSize
    if (this.#staging.length < length) this.#staging = new Float32Array(length)
    const target = this.#staging.subarray(0, length)
    if (random !== undefined && this.#isAugmented) {
      const randomOf = view === undefined || augment.views === undefined ? () => random : randomOfView(view)
      gatherAugmented(target, pixels, shape, indices, this.#tables, augment, randomOf)
    } else {
      gatherImages(target, pixels, shape, indices, this.#tables)
    }
    return target
  }

  /** The same images (shared, not copied) with another normalisation or augmentation. */
  with(options: ImageOptions): ImageDataset {
    const { pixels, labels, shape, classes, mean, std, augment } = this
    readOptions('ImageDataset.with', options, imageOptions)
    return new ImageDataset({ pixels, labels, shape, classes, mean, std, augment, ...options })
  }

  /**
   * A new dataset with copies of these images, in this order.
   *
   * @throws AlambicError `ERR_INDEX` for an index that this dataset does not have
   */
  subset(indices: readonly number[] | Int32Array): ImageDataset {
    checkIndices('ImageDataset.subset', indices, this.length)
    const { shape, classes, mean, std, augment } = this
    const size = this.#imageSize
    const pixels = new Uint8Array(indices.length * size)
    const labels = new (isUint8Array(this.labels) ? Uint8Array : Int32Array)(indices.length)
    for (let to = 0; to < indices.length; to++) {
      const from = indices[to]!
      pixels.set(this.pixels.subarray(from * size, (from + 1) * size), to * size)
      labels[to] = this.labels[from]!
    }
    return new ImageDataset({ pixels, labels, shape, classes, mean, std, augment })
  }

  /**
   * Divides the images at random, as {@link randomSplit}, into separate datasets: sizes that add up to this
   * length or fractions that add up to 1.
   *
   * @param options.seed Default: 0.
   * @example const [train, validation] = images.split([0.9, 0.1])
   */
  split(parts: readonly number[], options: { seed?: number } = {}): ImageDataset[] {
    const { seed = 0 } = readOptions('ImageDataset.split', options, splitOptions)
    return splitIndices(this.length, parts, seed).map(indices => this.subset(indices))
  }

  /** Mean and standard deviation of each channel over all images, in the unit 0 to 1, for normalisation. */
  statistics(): { mean: number[]; std: number[] } {
    return channelStatistics(this.pixels, this.shape)
  }

  toString(): string {
    const { length, shape, classes, mean, std, augment } = this
    const parts = [`${length} images ${shape.join('×')}`]
    if (classes) parts.push(`${classes.length} classes`)
    parts.push(`mean [${mean.join(', ')}]`, `std [${std.join(', ')}]`)
    if (augment.horizontalFlip) parts.push('horizontal flip')
    if (augment.cropPadding) parts.push(`crop padding ${augment.cropPadding}`)
    if (augment.views !== undefined) parts.push(`${augment.views} views`)
    return `ImageDataset(${parts.join(', ')})`
  }

  [inspect.custom](): string {
    return this.toString()
  }

  get #isAugmented(): boolean {
    const { horizontalFlip = false, cropPadding = 0 } = this.augment
    return horizontalFlip || cropPadding > 0
  }

  get #imageSize(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  #checkLengths(): void {
    const { pixels, labels, shape } = this
    const expected = labels.length * this.#imageSize
    if (pixels.length === expected) return
    throw new AlambicError(
      'ERR_LENGTH_MISMATCH',
      `ImageDataset: expected ${expected} bytes of pixels for ${labels.length} labels and images of ` +
        `${shape.join('×')}, got ${pixels.length}`,
    )
  }
}

function checkShape(shape: ImageShape): void {
  const good =
    Array.isArray(shape) && shape.length === 3 && shape.every(size => Number.isInteger(size) && size > 0)
  if (!good) throw argumentError('shape', '[channels, height, width], integers of at least 1', shape)
}

function channelValues(name: 'mean' | 'std', values: readonly number[], channels: number): readonly number[] {
  const good = values.every(value => Number.isFinite(value) && (name === 'mean' || value > 0))
  if (good && values.length === channels) return [...values]
  const kind = name === 'std' ? 'numbers above 0' : 'numbers'
  throw argumentError(name, `${channels} ${kind}, one for each channel`, values)
}

function checkedAugmentation(augment: Augmentation): Augmentation {
  const { horizontalFlip = false, cropPadding = 0, views } = readOptions('augment', augment, augmentation)
  if (!Number.isInteger(cropPadding) || cropPadding < 0) {
    throw argumentError('augment.cropPadding', 'a number of pixels of at least 0', cropPadding)
  }
  if (views !== undefined) requireKind('augment.views', viewCount, views)
  return { horizontalFlip, cropPadding, ...(views !== undefined && { views }) }
}

const viewCount = integer(1)

/** Streams of their own, beside those of batches. */
function randomOfView({ seed, number }: SampleView): (index: number) => Random {
  return index => new Random(seed, index, number, 2)
}
