/**
 * State dicts as JSON. JSON has no form for Infinity, NaN, −0 and tensors: `JSON.stringify` makes null, 0 and nested
 * numbers of unknown dtype of them. In the JSON of a state dict the first three are strings, and a tensor is its dtype,
 * its shape and its elements in row-major order: `{ "dtype": "float32", "shape": [2], "data": [0.5, "Infinity"] }`.
 */
import { isPlainObject } from '../memory.js'
import { fromTypedArray, Tensor } from '../tensor.js'
import { torch } from '../torch/index.js'
import type { DType } from '../types.js'

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

/** A new tensor, or undefined for what is none in JSON. */
export function tensorFromJson(value: unknown): Tensor | undefined {
  if (!isJsonTensor(value)) return undefined
  const { dtype, shape } = value
  const numbers = Float64Array.from(fromJson(value.data) as number[])
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

function isJsonTensor(value: unknown): value is JsonTensor {
  if (!isPlainObject(value)) return false
  const { dtype, shape, data } = value
  return typeof dtype === 'string' && Array.isArray(shape) && Array.isArray(data)
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
