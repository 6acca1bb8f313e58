/** Weights of terms: numbers, or numbers that follow the epochs. */
import { argumentError } from '../errors.js'
import {
  finite,
  listOf,
  notNegative,
  integer,
  readOptions,
  requireKind,
  type Kind,
  type Kinds,
} from '../checks/options.js'

/** A weight that follows the epochs of its stage, which count from 1. Several rules multiply. */
export interface WeightSchedule {
  /** What the rules below are factors of, at least 0. Default: 1. */
  value?: number
  /** Linear from `1 / warmUp` in the first epoch to 1 in epoch `warmUp`: `min(epoch / warmUp, 1)`. */
  warmUp?: number
  /** `[first, last]`: 1 until epoch `first`, then half a cosine down to 0 in epoch `last`, and 0 from there on. */
  cosine?: readonly [first: number, last: number]
  /** 0 before this epoch. Default: 1. */
  from?: number
  /** 0 after this epoch. Default: no end. */
  to?: number
}

/** The weight of a term in an objective: a number of at least 0, or one that follows the epochs. */
export type Weight = number | WeightSchedule

const epochs = listOf(finite, 'two numbers of epochs')

const scheduleOptions: Kinds<WeightSchedule> = {
  value: notNegative,
  warmUp: integer(1),
  cosine: {
    expected: '[first, last]: two epochs, the first before the last',
    fits: value =>
      epochs.fits(value) &&
      (value as number[]).length === 2 &&
      (value as number[])[0]! < (value as number[])[1]!,
  },
  from: integer(1),
  to: integer(1),
}

const weight: Kind = {
  expected: 'a number of at least 0, or a schedule such as { warmUp: 20 }',
  fits: value => notNegative.fits(value) || (typeof value === 'object' && value !== null),
}

/**
 * The weight's value by epoch, from 1.
 *
 * @param name for messages
 * @throws AlambicError `ERR_ARGUMENT` for what is no weight
 */
export function weightByEpoch(name: string, given: Weight): (epoch: number) => number {
  requireKind(name, weight, given)
  if (typeof given === 'number') return () => given
  const { value = 1, warmUp, cosine, from = 1, to = Infinity } = readOptions(name, given, scheduleOptions)
  if (from > to) throw argumentError(`${name}: to`, `an epoch from ${from} on`, to)
  return epoch => {
    if (epoch < from || epoch > to) return 0
    const rising = warmUp === undefined ? 1 : Math.min(epoch / warmUp, 1)
    return value * rising * (cosine === undefined ? 1 : falling(epoch, cosine))
  }
}

function falling(epoch: number, [first, last]: readonly [number, number]): number {
  const share = Math.min(Math.max((epoch - first) / (last - first), 0), 1)
  return (1 + Math.cos(Math.PI * share)) / 2
}
