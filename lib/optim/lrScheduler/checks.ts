/** What schedules check, in their options and in the state that they load. All throw `ERR_ARGUMENT`. */
import { argumentError } from '../../errors.js'
import { roundingOf } from '../rounding.js'

export type Check = (name: string, value: unknown) => void

export function checkCount(name: string, value: unknown): void {
  if (!Number.isInteger(value) || (value as number) < 1)
    throw argumentError(name, 'an integer of at least 1', value)
}

export function checkIndex(name: string, value: unknown): void {
  if (!Number.isInteger(value) || (value as number) < 0)
    throw argumentError(name, 'an integer of at least 0', value)
}

/** Learning rates and what they are multiplied by. */
export function checkMagnitude(name: string, value: unknown): void {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
    throw argumentError(name, 'a finite number of at least 0', value)
}

/** Learning rates that were last set, one per group: those of PyTorch's schedules may be a rounding error below 0. */
export function checkLastLrs(baseLrs: readonly number[]): Check {
  return (name, value) => {
    checkList(() => {}, baseLrs.length)(name, value)
    ;(value as unknown[]).forEach((each, i) => {
      if (typeof each !== 'number' || each < -roundingOf(baseLrs[i]!) || !Number.isFinite(each))
        throw argumentError(`${name}[${i}]`, 'a finite number of at least 0', each)
    })
  }
}

export function checkNumber(name: string, value: unknown): void {
  if (typeof value !== 'number') throw argumentError(name, 'a number', value)
}

export function checkDivisor(name: string, value: unknown): void {
  if (typeof value !== 'number' || !(value > 0)) throw argumentError(name, 'a number above 0', value)
}

export function checkFlag(name: string, value: unknown): void {
  if (typeof value !== 'boolean') throw argumentError(name, 'true or false', value)
}

export function checkWord(...words: string[]): Check {
  return (name, value) => {
    if (!words.includes(value as string))
      throw argumentError(name, words.map(word => `'${word}'`).join(' or '), value)
  }
}

/** A number within limits that belong to the range. */
export function checkBetween(least: number, most: number): Check {
  return (name, value) => {
    if (typeof value !== 'number' || !(value >= least && value <= most))
      throw argumentError(name, `a number in [${least}, ${most}]`, value)
  }
}

/** A list of so many values, each of which fits. */
export function checkList(check: Check, length?: number): Check {
  return (name, value) => {
    if (!Array.isArray(value) || (length !== undefined && value.length !== length))
      throw argumentError(name, length === undefined ? 'an array' : `an array of ${length}`, value)
    Array.from(value as unknown[]).forEach((each, i) => check(`${name}[${i}]`, each))
  }
}

/** One value for each group, from one for all or one each. */
export function perGroup(
  name: string,
  value: number | readonly number[],
  groups: number,
  check: Check,
): readonly number[] {
  if (!Array.isArray(value)) {
    check(name, value)
    return Array<number>(groups).fill(value as number)
  }
  const list = value as readonly number[]
  if (list.length !== groups) throw argumentError(name, `one number, or ${groups} (one per group)`, value)
  Array.from(list).forEach((each, i) => check(`${name}[${i}]`, each))
  return [...list]
}
