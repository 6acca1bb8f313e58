/** What the options take that functions and modules share. */
import { AlambicError, argumentError } from '../errors.js'
import {
  between,
  boolean,
  either,
  integer,
  listOf,
  number,
  oneOf,
  orNull,
  positive,
  tensor,
  type Kind,
  type Kinds,
} from '../checks/options.js'
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

/** Throws for options that suit no input. @internal */
export function checkResize(who: string, options: InterpolateOptions): void {
  const { size = null, scaleFactor = null, mode = 'nearest', alignCorners, antialias } = options
  if ((size === null) === (scaleFactor === null))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${who}: expected either size or scaleFactor, got ${size === null ? 'neither' : 'both'}`,
    )
  refuseOthers(`${who}: size`, size, integer(mode === 'area' ? 0 : 1))
  refuseOthers(`${who}: scaleFactor`, scaleFactor, positive)
  if (alignCorners === true && (mode.startsWith('nearest') || mode === 'area'))
    throw argumentError(`${who}: alignCorners`, `false for mode '${mode}'`, true)
  if (antialias === true && mode !== 'bilinear' && mode !== 'bicubic')
    throw argumentError(`${who}: antialias`, `false for mode '${mode}'`, true)
}

function refuseOthers(what: string, value: unknown, kind: Kind): void {
  const fits = Array.isArray(value)
    ? value.length > 0 && value.every(each => kind.fits(each))
    : value === null || kind.fits(value)
  if (!fits) throw argumentError(what, `${kind.expected}, or one per spatial dimension`, value)
}
