import { argumentError } from '../errors.js'
import { integer, readOptions, type Kinds } from '../checks/options.js'
import { ImageDataset, imageOptions, type ImageOptions } from './image-dataset.js'
import { renderImages } from './procedural/render.js'
import { FIGURES } from './procedural/scene.js'

export interface ProceduralOptions extends ImageOptions {
  /** Number of images. */
  count: number
  /** 0 to 2^53 − 1; use different seeds for training and test images. Default: 0. */
  seed?: number
  /** Height and width, 8 to 512. Default: 32. */
  size?: number
  /** Number of classes, 2 to 10: the first of the ten figures. Default: 10. */
  classes?: number
}

const proceduralOptions: Kinds<ProceduralOptions> = {
  ...imageOptions,
  count: integer(1, 2 ** 31 - 1),
  seed: integer(0, Number.MAX_SAFE_INTEGER),
  size: integer(8, 512),
  classes: integer(2, FIGURES.length),
}

/**
 * Pictures of ten figures (disc, ring, half disc, crescent, triangle, square, hexagon, star, cross, corner), 3×32×32,
 * generated from a seed: random place, size, rotation, colours and textures, distractors behind the figure, bars in
 * front of it, uneven light, noise. The bytes are the same on every machine. Classes take turns: label i is
 * `i % classes`. Normalised by mean 0.47 and std 0.285 by default. `docs/data.md` says how they are made and how hard
 * they are.
 *
 * @throws AlambicError `ERR_ARGUMENT` for options out of range
 * @example const train = proceduralImages({ count: 6000, seed: 1 })
 * @example const test = proceduralImages({ count: 2000, seed: 2 })
 */
export function proceduralImages(options: ProceduralOptions): ImageDataset {
  const {
    count,
    seed = 0,
    size = 32,
    classes = FIGURES.length,
    mean = PROCEDURAL_NORMALISATION.mean,
    std = PROCEDURAL_NORMALISATION.std,
    augment,
  } = readOptions('proceduralImages', options, proceduralOptions)
  if (count === undefined)
    throw argumentError('proceduralImages: count', proceduralOptions.count.expected, count)
  return new ImageDataset({
    ...renderImages(count, seed, size, classes),
    shape: [3, size, size],
    classes: figureNames.slice(0, classes),
    mean,
    std,
    augment,
  })
}

/** Of each channel over many pictures; the channels do not differ. */
export const PROCEDURAL_NORMALISATION = { mean: [0.47, 0.47, 0.47], std: [0.285, 0.285, 0.285] } as const

export const figureNames: readonly string[] = FIGURES.map(figure => figure.name)
