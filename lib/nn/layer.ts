/** What the layers share: sizes per dimension, options, and how they are printed. */
import { empty } from '../tensors/factories.js'
import type { Handle } from '../native/contract.js'
import {
  device,
  dtype,
  listOf,
  number,
  orNull,
  requireKind,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { typedArrayName } from '../checks/realms.js'
import { handleOf, Tensor } from '../tensors/tensor.js'
import type { TensorOptions } from '../tensors/types.js'
import type { Module } from './module.js'
import { Parameter } from './parameter.js'

/** One number for all spatial dimensions, or one each: `3` or `[3, 5]`. */
export type Size = number | readonly number[]

/** Device and dtype of a layer's parameters. */
export type Placement = Pick<TensorOptions, 'device' | 'dtype'>

/**
 * One number per dimension; how many a list has, the native layer checks.
 *
 * @param name of the layer and its argument, for messages
 */
export function perDimension(name: string, size: Size, dims: number): number[] {
  if (typeof size === 'number') return new Array<number>(dims).fill(size)
  requireKind(name, listOfNumbers, size)
  return Array.from(size)
}

/** A typed array will do. */
const listOfNumbers: Kind = {
  expected: 'a number, or an array with one per dimension',
  fits: value => typedArrayName(value) !== undefined || listOf(number, '').fits(value),
}

/** The kinds of {@link Placement}. */
export const placement: Kinds<Placement> = { device: orNull(device), dtype: orNull(dtype) }

/** The handle of a layer's input. */
export function inputHandle(layer: Module, input: Tensor): Handle {
  if (input instanceof Tensor) return input.handle
  return handleOf(`${layer.constructor.name}: input`, input)
}

/** A parameter whose values are still to be set. */
export function emptyParameter(shape: readonly number[], placement: Placement): Parameter {
  const data = empty(shape, placement)
  const parameter = new Parameter(data)
  data.dispose()
  return parameter
}

/** `(3, 3)`, as Python prints a tuple. */
export function tuple(values: readonly number[]): string {
  return values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`
}

/** As Python prints a number: 1e-5 is `1e-05`. */
export function pythonFloat(value: number): string {
  const isSmall = value !== 0 && Math.abs(value) < 1e-4
  return isSmall ? value.toExponential().replace(/e-(\d)$/, 'e-0$1') : String(value)
}
