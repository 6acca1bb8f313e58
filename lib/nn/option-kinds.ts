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

const numbers = orNull(either(number, listOf(number, 'one per spatial dimension')))

export const interpolateOptions: Kinds<InterpolateOptions> = {
  size: numbers,
  scaleFactor: numbers,
  mode: oneOf('nearest', 'nearest-exact', 'linear', 'bilinear', 'bicubic', 'trilinear', 'area'),
  alignCorners: boolean,
  recomputeScaleFactor: boolean,
  antialias: boolean,
}
