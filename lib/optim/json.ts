/**
 * State dicts as JSON. JSON has no form for Infinity, NaN, −0 and tensors: `JSON.stringify` makes null, 0 and nested
 * numbers of unknown dtype of them. In the JSON of a state dict the first three are strings, and a tensor is its dtype,
 * its shape and its elements in row-major order: `{ "dtype": "float32", "shape": [2], "data": [0.5, "Infinity"] }`.
 */
import { show } from '../errors.js'
import { isPlainObject } from '../memory/memory.js'
import { fromTypedArray, Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import type { DType } from '../tensors/types.js'
import { stateError } from './stateError.js'

const numbersByText: Record<string, number> = {
  Infinity: Infinity,
  '-Infinity': -Infinity,
  NaN: NaN,
  '-0': -0,
}

/** A tensor in JSON; complex numbers are two elements each, real and imaginary part. */
interface JsonTensor {
  dtype: DType
  shape: number[]
  data: (number | string)[]
}

/** Gives a state dict, or a part of it, its form in JSON. Returns it; nothing else about it changes. */
export function withJson<T extends object>(dict: T): T {
  return Object.defineProperty(dict, 'toJSON', { value: () => encode({ ...dict }), enumerable: false })
}

/** A value of parsed JSON as it was; tensors stay as they are, see {@link tensorFromJson}. */
export function fromJson(value: unknown): unknown {
  if (typeof value === 'string') return Object.hasOwn(numbersByText, value) ? numbersByText[value] : value
  if (Array.isArray(value)) return value.map(fromJson)
  if (!isPlainObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, fromJson(each)]))
}

/**
 * A new tensor, or undefined for what is none in JSON.
 *
 * @param where its place in the state dict
 * @throws AlambicError `ERR_STATE_DICT` for dtype, shape and elements that are none, or do not fit each other
 */
export function tensorFromJson(value: unknown, where: string): Tensor | undefined {
  if (!isPlainObject(value) || !['dtype', 'shape', 'data'].some(name => Object.hasOwn(value, name)))
    return undefined
  const { dtype, shape, data } = value
  checkDtype(`${where}.dtype`, dtype)
  checkShape(`${where}.shape`, shape)
  const numbers = elements(`${where}.data`, data, dtype, shape)
  if (!dtype.startsWith('complex')) return fromTypedArray(numbers, shape, { dtype })
  const pairs = fromTypedArray(numbers, [...shape, 2])
  const complex = torch.viewAsComplex(pairs)
  try {
    return complex.to({ dtype, copy: true })
  } finally {
    pairs.dispose()
    complex.dispose()
  }
}

function checkDtype(where: string, dtype: unknown): asserts dtype is DType {
  try {
    if (typeof dtype === 'string' && dtype !== '') {
      fromTypedArray(new Float64Array(1), [], { dtype: dtype as DType }).dispose()
      return
    }
  } catch {
    // The error below has the place.
  }
  throw stateError(`${where}: expected a dtype such as "float32", got ${show(dtype)}`)
}

function checkShape(where: string, shape: unknown): asserts shape is number[] {
  if (!Array.isArray(shape) || !shape.every(size => Number.isSafeInteger(size) && size >= 0))
    throw stateError(`${where}: expected an array of integers of at least 0, got ${show(shape)}`)
}

function elements(where: string, data: unknown, dtype: DType, shape: readonly number[]): Float64Array {
  if (!Array.isArray(data)) throw stateError(`${where}: expected an array of numbers, got ${show(data)}`)
  const count = shape.reduce((product, size) => product * size, dtype.startsWith('complex') ? 2 : 1)
  if (data.length !== count)
    throw stateError(
      `${where}: expected ${count} numbers, as ${dtype} (${shape.join(', ')}) has, got ${data.length}`,
    )
  const isIntegral = /^(u?int|bool)/.test(dtype)
  return Float64Array.from(data, (each: unknown, i) => {
    const element = fromJson(each)
    if (typeof element !== 'number')
      throw stateError(
        `${where}[${i}]: expected a number, "Infinity", "-Infinity", "NaN" or "-0", got ${show(each)}`,
      )
    if (isIntegral && !Number.isInteger(element))
      throw stateError(`${where}[${i}]: expected an integer, as ${dtype} has, got ${show(each)}`)
    return element
  })
}

function encode(value: unknown): unknown {
  if (typeof value === 'number')
    return Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? '-0' : `${value}`
  if (value instanceof Tensor) return encodeTensor(value)
  if (Array.isArray(value)) return value.map(encode)
  if (!isPlainObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, encode(each)]))
}

function encodeTensor(tensor: Tensor): JsonTensor {
  const data = Array.from(
    tensor.toTypedArray() as Float64Array,
    each => encode(Number(each)) as number | string,
  )
  return { dtype: tensor.dtype, shape: tensor.shape, data }
}
