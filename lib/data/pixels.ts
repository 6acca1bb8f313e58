import type { Random } from './random.js'

/** Random changes that keep an image's class, different for each image of a batch. */
export interface Augmentation {
  /** Mirror left and right with probability 1/2. Default: false. */
  horizontalFlip?: boolean
  /**
   * Add a black border of this many pixels, and crop the image to its size at a random place; at least 0. Default: 0.
   */
  cropPadding?: number
  /**
   * So many views of each image are drawn, at least 1, and come again and again, an epoch each: what an image looks like
   * in an epoch of a {@link DataLoader} depends on the seed, the image's index, and the epoch modulo `views`. Teachers'
   * outputs can then be kept. Default: each epoch draws anew.
   */
  views?: number
}

/** Channels, height, width. */
export type ImageShape = readonly [number, number, number]

/** What one image's augmentation drew: cut at this offset from the upper left corner, then mirrored. */
interface Draw {
  down: number
  right: number
  mirror: boolean
}

/**
 * For each channel what each byte becomes: `(byte / 255 − mean) / std`. One look-up per pixel is all the arithmetic
 * that a batch costs.
 */
export function normalisationTables(mean: readonly number[], std: readonly number[]): Float32Array[] {
  return mean.map((centre, channel) =>
    Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - centre) / std[channel]!),
  )
}

/** Writes the images `indices` of `pixels` `(*, C, H, W)` as normalised floats `(indices.length, C, H, W)`. */
export function gatherImages(
  target: Float32Array,
  pixels: Uint8Array,
  [channels, height, width]: ImageShape,
  indices: ArrayLike<number>,
  tables: readonly Float32Array[],
): void {
  const area = height * width
  let to = 0
  for (let image = 0; image < indices.length; image++) {
    let from = indices[image]! * channels * area
    for (let channel = 0; channel < channels; channel++) {
      const table = tables[channel]!
      for (const end = to + area; to < end; to++, from++) target[to] = table[pixels[from]!]!
    }
  }
}

/**
 * As {@link gatherImages}, each image changed by what it draws.
 *
 * @param randomOf gives what the image with an index draws from
 */
export function gatherAugmented(
  target: Float32Array,
  pixels: Uint8Array,
  [channels, height, width]: ImageShape,
  indices: ArrayLike<number>,
  tables: readonly Float32Array[],
  augmentation: Augmentation,
  randomOf: (index: number) => Random,
): void {
  const area = height * width
  for (let image = 0; image < indices.length; image++) {
    const draw = drawAugmentation(augmentation, randomOf(indices[image]!))
    for (let channel = 0; channel < channels; channel++) {
      const from = (indices[image]! * channels + channel) * area
      const to = (image * channels + channel) * area
      shiftPlane(target, to, pixels, from, height, width, tables[channel]!, draw)
    }
  }
}

function drawAugmentation({ horizontalFlip = false, cropPadding = 0 }: Augmentation, random: Random): Draw {
  const places = 2 * cropPadding + 1
  return {
    down: cropPadding > 0 ? random.below(places) - cropPadding : 0,
    right: cropPadding > 0 ? random.below(places) - cropPadding : 0,
    mirror: horizontalFlip && random.below(2) === 1,
  }
}

function shiftPlane(
  target: Float32Array,
  to: number,
  pixels: Uint8Array,
  from: number,
  height: number,
  width: number,
  table: Float32Array,
  { down, right, mirror }: Draw,
): void {
  const black = table[0]!
  const step = mirror ? -1 : 1
  for (let row = 0; row < height; row++) {
    const sourceRow = row + down
    const inside = sourceRow >= 0 && sourceRow < height
    const rowStart = from + sourceRow * width
    let sourceColumn = (mirror ? width - 1 : 0) + right
    for (let column = 0; column < width; column++, sourceColumn += step, to++) {
      const visible = inside && sourceColumn >= 0 && sourceColumn < width
      target[to] = visible ? table[pixels[rowStart + sourceColumn]!]! : black
    }
  }
}

/** Mean and standard deviation of each channel over all images `(N, C, H, W)`, in the unit 0 to 1. */
export function channelStatistics(
  pixels: Uint8Array,
  [channels, height, width]: ImageShape,
): { mean: number[]; std: number[] } {
  const histograms = Array.from({ length: channels }, () => new Float64Array(256))
  const area = height * width
  for (let start = 0, plane = 0; start < pixels.length; start += area, plane++) {
    const histogram = histograms[plane % channels]!
    for (let at = start; at < start + area; at++) histogram[pixels[at]!]!++
  }
  const perChannel = pixels.length / channels
  const average = (histogram: Float64Array, value: (byte: number) => number) =>
    histogram.reduce((sum, count, byte) => sum + count * value(byte / 255), 0) / perChannel
  const mean = histograms.map(histogram => average(histogram, byte => byte))
  const std = histograms.map((histogram, channel) =>
    Math.sqrt(average(histogram, byte => (byte - mean[channel]!) ** 2)),
  )
  return { mean, std }
}
