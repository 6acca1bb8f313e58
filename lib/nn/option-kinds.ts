/** What the options take that functions and modules share. */
import {
  between,
  boolean,
  either,
  integer,
  listOf,
  number,
  oneOf,
  orNull,
  tensor,
  type Kind,
  type Kinds,
} from '../options.js'
import type { CrossEntropyOptions, InterpolateOptions, KlDivOptions, Reduction } from './functional.js'

export const reductionOptions: Kinds<{ reduction?: Reduction }> = { reduction: oneOf('none', 'mean', 'sum') }

export const crossEntropyOptions: Kinds<CrossEntropyOptions> = {
  weight: orNull(tensor),
  ignoreIndex: integer(),
  ...reductionOptions,
  labelSmoothing: between(0, 1),
}

export const klDivOptions: Kinds<KlDivOptions> = {
  reduction: oneOf('none', 'mean', 'sum', 'batchmean'),
  logTarget: boolean,
}

const numberOrNull = orNull(number)

const numbers = orNull(either(number, listOf(number, 'one per spatial dimension')))

/** Of adaptive pooling: native code knows what numbers it takes. */
export const outputSizes: Kind = {
  expected: 'a number or null, or one each for height and width',
  fits: value => numberOrNull.fits(value) || listOf(numberOrNull, '').fits(value),
}

export const interpolateOptions: Kinds<InterpolateOptions> = {
  size: numbers,
  scaleFactor: numbers,
  mode: oneOf('nearest', 'nearest-exact', 'linear', 'bilinear', 'bicubic', 'trilinear', 'area'),
  alignCorners: boolean,
  recomputeScaleFactor: boolean,
  antialias: boolean,
}
