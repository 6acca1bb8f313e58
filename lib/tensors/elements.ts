/** Between JavaScript's arrays and the dtypes of tensors. */
import { AlambicError, argumentError, show } from '../errors.js'
import { tensor } from '../checks/options.js'
import { requireMemory, typedArrayName } from '../checks/realms.js'
import type { Tensor } from './tensor.js'
import type { Complex, DType, Scalar } from './types.js'

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array

/**
 * What tensors are made of: {@link TypedArray}s of any realm, also on memory that threads share, `Uint8ClampedArray`
 * (uint8), and `Float16Array` (float16), which Node.js has from version 24.
 */
export type NumberArray = TypedArray | Uint8ClampedArray | Float16ArrayLike

/** A `Float16Array`, for compilers that do not know it. */
export interface Float16ArrayLike extends ArrayBufferView {
  readonly length: number
  readonly [Symbol.toStringTag]: 'Float16Array'
}

/**
 * Numbers in nested arrays, all rows of one depth equally long. The innermost rows may be typed arrays, and the elements
 * tensors without dimensions.
 */
export type NestedData = number | bigint | boolean | Complex | Tensor | NumberArray | readonly NestedData[]

type Element = number | bigint | boolean | Complex

// ---- Typed arrays --------------------------------------------------------------------------------------------------

type ArrayConstructor = new (buffer: ArrayBuffer) => TypedArray

const arrayTypes: Partial<Record<DType, ArrayConstructor>> = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  complex64: Float32Array,
  complex128: Float64Array,
  qint8: Int8Array,
  quint8: Uint8Array,
  qint32: Int32Array,
}

/** The typed array for a dtype, and the dtype that its elements have: half precisions are widened. */
export function storageOf(dtype: DType): [ArrayConstructor, DType] {
  const direct = arrayTypes[dtype]
  if (direct) return [direct, dtype]
  return dtype === 'complex32' ? [Float32Array, 'complex64'] : [Float32Array, 'float32']
}

const dtypesOfArrays: Readonly<Record<string, DType>> = {
  Float16Array: 'float16',
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  BigInt64Array: 'int64',
  BigUint64Array: 'uint64',
}

export function dtypeOfArray(array: NumberArray): DType {
  const dtype = dtypesOfArrays[typedArrayName(array) ?? '']
  if (dtype === undefined) throw argumentError('data', 'a typed array of numbers', array)
  return dtype
}

// ---- Nested arrays -------------------------------------------------------------------------------------------------

/** More dimensions than libtorch has; an array that holds itself has no end. */
const mostDimensions = 64

export function shapeOf(data: NestedData): number[] {
  const shape: number[] = []
  for (let level = rowOf(data); level !== undefined; level = rowOf(level[0])) {
    if (shape.length === mostDimensions)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `tensor: data: expected arrays nested at most ${mostDimensions} times, got deeper ones`,
      )
    shape.push(level.length)
  }
  return shape
}

export function isComplex(value: unknown): value is Complex {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Complex).re === 'number' &&
    typeof (value as Complex).im === 'number'
  )
}

function isElement(value: unknown): value is Element {
  return (
    typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean' || isComplex(value)
  )
}

/** An array or typed array. */
function rowOf(value: unknown): ArrayLike<unknown> | undefined {
  if (Array.isArray(value)) return value as unknown[]
  return typedArrayName(value) === undefined ? undefined : (value as ArrayLike<unknown>)
}

/** What nested arrays hold, in row-major order. */
export interface Flat {
  elements: Element[]
  /** Of the typed arrays and tensors among them. */
  dtypes: Set<DType>
  /** Whether some elements are of plain arrays. */
  hasPlain: boolean
}

/** The elements of nested arrays of this shape. */
export function flatten(data: NestedData, shape: readonly number[]): Flat {
  const elements: Element[] = []
  const dtypes = new Set<DType>()
  let hasPlain = false
  const visit = (value: unknown, depth: number, path: string) => {
    if (depth < shape.length) {
      const row = rowOf(value)
      const expected = shape[depth]!
      if (row?.length !== expected) throw raggedError(path, expected, row)
      if (!Array.isArray(row)) addTyped(row as unknown as NumberArray)
      else for (let i = 0; i < expected; i++) visit(row[i], depth + 1, `${path}[${i}]`)
    } else if (isElement(value)) {
      hasPlain = true
      elements.push(value)
    } else if (tensor.fits(value)) {
      dtypes.add((value as Tensor).dtype)
      elements.push(elementOf(value as Tensor, path))
    } else throw argumentError(`tensor: data${path}`, 'a number, bigint, boolean or { re, im }', value)
  }
  const addTyped = (row: NumberArray) => {
    requireMemory(row)
    dtypes.add(dtypeOfArray(row))
    for (const each of row as unknown as Iterable<Element>) elements.push(each)
  }
  visit(data, 0, '')
  return { elements, dtypes, hasPlain }
}

function raggedError(path: string, expected: number, row: ArrayLike<unknown> | undefined): AlambicError {
  const got = row === undefined ? 'a single value' : `${row.length}`
  return new AlambicError(
    'ERR_SHAPE_MISMATCH',
    `tensor: expected ${expected} elements at data${path} as at its first neighbour, got ${got}`,
  )
}

/** The value of a tensor without dimensions; integers beyond 2^53 are bigints. */
function elementOf(element: Tensor, path: string): Element {
  if (element.ndim === 0) return readElements(element.toTypedArray(), element.dtype)[0]!
  throw new AlambicError(
    'ERR_ARGUMENT',
    `tensor: data${path}: expected a tensor without dimensions, got ${element.dtype} (${element.shape.join(', ')}); ` +
      (path === '' ? 'x.detach().clone() copies one' : 'torch.stack([…]) makes one tensor of several'),
  )
}

/**
 * The dtype of the typed arrays and tensors that nested arrays hold; undefined where there are none.
 *
 * @throws AlambicError `ERR_ARGUMENT` where they differ, or stand beside plain numbers
 */
export function jointDtype({ dtypes, hasPlain }: Flat): DType | undefined {
  const [first] = dtypes
  if (first === undefined || (dtypes.size === 1 && !hasPlain)) return first
  const parts = [...dtypes, ...(hasPlain ? ['plain values'] : [])]
  throw new AlambicError(
    'ERR_ARGUMENT',
    `tensor: data: expected parts of one dtype, got ${parts.join(' and ')}; say which they become: { dtype: '${first}' }`,
  )
}

/** What holds the elements before native code converts them to `dtype`. */
export interface Source {
  data: NumberArray
  /** Of the elements of `data`. */
  from: DType
  /** Of the tensor to be made. */
  dtype: DType
}

/**
 * Puts elements into a typed array that holds them exactly.
 *
 * @param dtype undefined: what the elements are, numbers float32
 * @throws AlambicError `ERR_ARGUMENT` for a number that the dtype does not hold
 */
export function toSource(
  flat: readonly Element[],
  dtype: DType | undefined,
  shape: readonly number[],
): Source {
  if (flat.some(isComplex)) return complexSource(flat, dtype)
  const real = flat as readonly (number | bigint | boolean)[]
  const target = dtype ?? dtypeOfElements(real)
  const range = ranges[target]
  for (let i = 0; i < real.length; i++)
    if (!fits(real[i]!, range)) throw rangeError(`tensor: data${pathOf(i, shape)}`, target, real[i]!)
  const hasBigint = real.some(each => typeof each === 'bigint')
  if (target === 'uint64') return { data: BigUint64Array.from(real, toBigint), from: 'uint64', dtype: target }
  if (range !== undefined && hasBigint)
    return { data: BigInt64Array.from(real, toBigint), from: 'int64', dtype: target }
  // float64 holds every integer up to 2^53 and every float32 exactly.
  return target === 'float32' && !hasBigint
    ? { data: Float32Array.from(real, Number), from: 'float32', dtype: target }
    : { data: Float64Array.from(real, Number), from: 'float64', dtype: target }
}

function dtypeOfElements(flat: readonly (number | bigint | boolean)[]): DType {
  const kinds = new Set(flat.map(each => typeof each))
  if (kinds.has('bigint') && kinds.has('number'))
    throw new AlambicError(
      'ERR_ARGUMENT',
      "tensor: data: expected either bigints or numbers, got both; say which dtype they become: { dtype: 'int64' }",
    )
  if (kinds.has('bigint')) return 'int64'
  return kinds.has('boolean') && kinds.size === 1 ? 'bool' : 'float32'
}

function complexSource(flat: readonly Element[], dtype: DType = 'complex64'): Source {
  if (!dtype.startsWith('complex'))
    throw argumentError('tensor: data', `real numbers for dtype ${dtype}`, flat)
  const data = new Float64Array(2 * flat.length)
  flat.forEach((each, i) => {
    data[2 * i] = isComplex(each) ? each.re : Number(each)
    data[2 * i + 1] = isComplex(each) ? each.im : 0
  })
  return { data, from: 'complex128', dtype }
}

function toBigint(value: number | bigint | boolean): bigint {
  return typeof value === 'number' ? BigInt(Math.trunc(value)) : BigInt(value)
}

/** `[1][0]`, of an element by its number in row-major order. */
function pathOf(index: number, shape: readonly number[]): string {
  let path = ''
  for (let rest = index, dim = shape.length - 1; dim >= 0; dim--) {
    path = `[${rest % shape[dim]!}]${path}`
    rest = Math.floor(rest / shape[dim]!)
  }
  return path
}

// ---- What integer dtypes hold ------------------------------------------------------------------------------------------

interface Range {
  low: bigint
  high: bigint
  /** The same for numbers: the largest of them within the range. */
  lowNumber: number
  highNumber: number
}

function range(low: bigint, high: bigint, highNumber = Number(high)): Range {
  return { low, high, lowNumber: Number(low), highNumber }
}

const ranges: Partial<Record<DType, Range>> = {
  uint8: range(0n, 255n),
  int8: range(-128n, 127n),
  int16: range(-32768n, 32767n),
  uint16: range(0n, 65535n),
  int32: range(-(2n ** 31n), 2n ** 31n - 1n),
  uint32: range(0n, 2n ** 32n - 1n),
  int64: range(-(2n ** 63n), 2n ** 63n - 1n, 2 ** 63 - 1024),
  uint64: range(0n, 2n ** 64n - 1n, 2 ** 64 - 2048),
}

function fits(value: number | bigint | boolean, range: Range | undefined): boolean {
  if (range === undefined) return typeof value !== 'bigint' || Number.isFinite(Number(value))
  if (typeof value === 'number') return value >= range.lowNumber && value <= range.highNumber
  return typeof value === 'boolean' || (value >= range.low && value <= range.high)
}

function rangeError(what: string, dtype: DType, value: unknown): AlambicError {
  const limits = ranges[dtype]
  const expected = limits === undefined ? 'a number of' : `a number from ${limits.low} to ${limits.high} for`
  return argumentError(what, `${expected} dtype ${dtype}`, value)
}

/** The largest number of float32. */
const largestFloat = (2 - 2 ** -23) * 2 ** 127

/** Whether a finite number would become infinite. Narrower dtypes take it so, as in Python. */
function overflows(value: number | bigint | boolean, dtype: DType): boolean {
  if (dtype !== 'float32' && dtype !== 'complex64') return false
  const size = Math.abs(Number(value))
  return size > largestFloat && (size < Infinity || typeof value === 'bigint')
}

function overflowError(what: string, dtype: DType, value: unknown): AlambicError {
  return argumentError(
    what,
    `a number from -3.4028235e38 to 3.4028235e38, or an infinite one, for dtype ${dtype}`,
    value,
  )
}

/**
 * Refuses a number that a tensor of this dtype does not hold: for integers what is out of range, NaN and infinities; for
 * float32 and complex64 what would become infinite. What has a fraction is cut off, as in Python.
 *
 * @throws AlambicError `ERR_ARGUMENT`
 */
export function requireFits(what: string, value: unknown, dtype: DType): void {
  if (isComplex(value)) {
    for (const part of [value.re, value.im])
      if (overflows(part, dtype)) throw overflowError(what, dtype, part)
    if (!dtype.startsWith('complex') && value.im !== 0)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${what}: expected a real number for dtype ${dtype}, got ${value.re}${value.im < 0 ? '' : '+'}${value.im}j`,
      )
  } else if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean')
    throw new AlambicError('ERR_ARGUMENT', `${what}: expected a number, got ${show(value)}`)
  else if (!fits(value, ranges[dtype])) throw rangeError(what, dtype, value)
  else if (overflows(value, dtype)) throw overflowError(what, dtype, value)
}

/** `{ re: 1, im: 0 }` may go into a real tensor. */
export function realFor(dtype: DType, value: Scalar): Scalar {
  return isComplex(value) && !dtype.startsWith('complex') ? value.re : value
}

// ---- Out of tensors ----------------------------------------------------------------------------------------------------

/** The elements of a tensor of this dtype, as {@link Tensor.item} gives them; integers beyond 2^53 are bigints. */
export function readElements(array: TypedArray, dtype: DType): (number | bigint | boolean | Complex)[] {
  if (dtype === 'bool') return Array.from(array as Uint8Array, value => value !== 0)
  if (dtype.startsWith('complex')) {
    const parts = array as Float64Array
    return Array.from({ length: parts.length / 2 }, (_, i) => ({ re: parts[2 * i]!, im: parts[2 * i + 1]! }))
  }
  if (array instanceof BigInt64Array || array instanceof BigUint64Array)
    return Array.from(array, value => {
      const number = Number(value)
      return Number.isSafeInteger(number) ? number : value
    })
  return Array.from(array as Float64Array)
}

/** A flat list as nested arrays of this shape. */
export function nest(flat: readonly unknown[], shape: readonly number[]): unknown {
  if (shape.length === 0) return flat[0]
  let offset = 0
  const build = (depth: number): unknown[] => {
    const size = shape[depth]!
    if (depth === shape.length - 1) return flat.slice(offset, (offset += size))
    return Array.from({ length: size }, () => build(depth + 1))
  }
  return build(0)
}
