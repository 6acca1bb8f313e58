import { inspect } from 'node:util'
import { AlambicError, argumentError } from './errors.js'
import { formatTensor } from './format.js'
import { indexTensor, setIndexed, type Index } from './indexing.js'
import { release, track } from './memory.js'
import type { Handle } from './native/contract.js'
import { native } from './native/loader.js'
import {
  boolean,
  device,
  dtype,
  oneOf,
  orNull,
  readOptions,
  tensor as tensorKind,
  tensorOptions,
  type Kinds,
} from './options.js'
import { installMethods, Operator, toFunction } from './torch/call.js'
import type { TensorMethods } from './torch/operators.generated.js'
import type { Device, DType, Layout, MemoryFormat, TensorOptions } from './types.js'

/** What {@link Tensor.to} can change. */
export interface ToOptions {
  dtype?: DType
  device?: Device
  memoryFormat?: MemoryFormat
  /** Copy to a GPU without waiting, from pinned memory. Default: false. */
  nonBlocking?: boolean
  /** Copy even when nothing changes. Default: false. */
  copy?: boolean
}

export interface BackwardOptions {
  /** dLoss/dThis, of this tensor's shape. Default: 1, for a tensor with one element. */
  gradient?: Tensor
  /** Keep the graph for another backward. Default: the value of `createGraph`. */
  retainGraph?: boolean
  /** Make the gradients differentiable themselves. Default: false. */
  createGraph?: boolean
}

const memoryFormat = oneOf('contiguous', 'preserve', 'channelsLast', 'channelsLast3d')

export const toOptionKinds: Kinds<ToOptions> = {
  dtype: orNull(dtype),
  device: orNull(device),
  memoryFormat: orNull(memoryFormat),
  nonBlocking: boolean,
  copy: boolean,
}

const backwardOptions: Kinds<BackwardOptions> = {
  gradient: tensorKind,
  retainGraph: boolean,
  createGraph: boolean,
}

const contiguousOptions = { memoryFormat }

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

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-empty-object-type -- operators are methods
export interface Tensor extends TensorMethods {}

/**
 * A multi-dimensional array on a device, as in PyTorch; made by {@link tensor}, {@link zeros} and their like, and by
 * operators. Every ATen operator whose first argument is a tensor is a method: `x.matmul(y)`, `x.sum()`.
 *
 * A tensor holds memory outside of JavaScript's heap: see `docs/memory.md` for when it is released.
 */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging
export class Tensor {
  /** Into the native handle table; 0 after {@link dispose}. @internal */
  handle: Handle

  /** Takes over a handle; `scoped` false keeps it out of the scope around. @internal */
  constructor(handle: Handle, scoped = true) {
    this.handle = handle
    track(this, scoped)
  }

  /** Sizes of the dimensions; `[]` for a scalar. */
  get shape(): number[] {
    return native.shape(this.handle)
  }

  /** Elements to skip in memory to get to the next one along each dimension. */
  get strides(): number[] {
    return native.strides(this.handle)
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length
  }

  /** Number of dimensions, as in PyTorch. */
  dim(): number {
    return this.ndim
  }

  /** The shape, or the size of one dimension; negative dimensions count from the last. */
  size(): number[]
  size(dim: number): number
  size(dim?: number): number | number[] {
    const { shape } = this
    if (dim === undefined) return shape
    const size = shape.at(dim)
    if (size === undefined || dim < -shape.length)
      throw new AlambicError(
        'ERR_INDEX',
        `size: expected a dimension from ${-shape.length} to ${shape.length - 1}, got ${dim}`,
      )
    return size
  }

  /** Number of elements. */
  numel(): number {
    return native.numel(this.handle)
  }

  get dtype(): DType {
    return native.dtype(this.handle) as DType
  }

  /** `'cpu'`, `'cuda:0'` … */
  get device(): Device {
    return native.device(this.handle)
  }

  get layout(): Layout {
    return native.layout(this.handle) as Layout
  }

  /** Whether elements are in row-major order without gaps, or in the order of another memory format. */
  isContiguous(options: { memoryFormat?: MemoryFormat } = {}): boolean {
    readOptions('isContiguous', options, contiguousOptions)
    return native.isContiguous(this.handle, options.memoryFormat ?? 'contiguous')
  }

  /** Whether this was disposed of. */
  get isDisposed(): boolean {
    return this.handle === 0
  }

  // ---- Reading ---------------------------------------------------------------------------------------------------

  /**
   * The value of a tensor with one element: a number; a boolean for dtype `bool`; `{ re, im }` for complex ones.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH` for several elements, `ERR_PRECISION` for an int64 beyond 2^53 (read it
   *   with {@link toTypedArray})
   */
  item<T extends number | boolean | { re: number; im: number } = number>(): T {
    const value = native.item(this.handle)
    if (typeof value === 'bigint')
      throw new AlambicError(
        'ERR_PRECISION',
        `item: ${value} does not fit into a JavaScript number; read it with toTypedArray()`,
      )
    return value as T
  }

  /**
   * The elements as nested arrays, in the types of {@link item}.
   *
   * @throws AlambicError `ERR_PRECISION` for an int64 beyond 2^53
   */
  tolist(): unknown {
    return nest(flatValues(this), this.shape)
  }

  /**
   * The elements in row-major order, copied into the typed array that fits the dtype: `BigInt64Array` for int64,
   * `Uint8Array` (0 and 1) for bool, `Float32Array` for float16, bfloat16 and float8, and real and imaginary parts in
   * turn for complex dtypes.
   */
  toTypedArray(): TypedArray {
    const [ArrayType, dtype] = storageOf(this.dtype)
    if (dtype === this.dtype) return new ArrayType(native.tensorToData(this.handle))
    const converted = this.to(dtype)
    try {
      return new ArrayType(native.tensorToData(converted.handle))
    } finally {
      converted.dispose()
    }
  }

  /** As PyTorch prints it. */
  toString(): string {
    return formatTensor(this)
  }

  [inspect.custom](): string {
    return this.toString()
  }

  // ---- Indexing ----------------------------------------------------------------------------------------------------

  /**
   * As Python's `x[...]`: integers select, {@link slice} takes a range, `null` adds a dimension, `'...'` stands for
   * all dimensions not named, tensors and arrays pick elements, boolean tensors mask. All but the last two are views.
   *
   * @example x.at(0), x.at('...', slice(0, 2)), x.at(mask)
   * @throws AlambicError `ERR_INDEX` for an index out of range or too many indices
   */
  at(...indices: Index[]): Tensor {
    return indexTensor(this, indices)
  }

  /** As Python's `x[...] = value`, in place. Returns this tensor. */
  setAt(indices: Index | readonly Index[], value: Tensor | number | boolean): this {
    setIndexed(this, Array.isArray(indices) ? (indices as Index[]) : [indices as Index], value)
    return this
  }

  // ---- Conversion --------------------------------------------------------------------------------------------------

  /**
   * This tensor with another dtype, on another device, in another memory format. Where nothing changes the result
   * shares this tensor's data.
   *
   * @example x.to('cuda'), x.to('float64'), x.to({ device: 'cpu', memoryFormat: 'channelsLast' }), x.to(other)
   */
  to(target: DType | Device | ToOptions | Tensor): Tensor {
    const options = toOptions(target)
    return convert(this, options) as Tensor
  }

  cpu(): Tensor {
    return this.to('cpu')
  }

  /** On the current GPU, or the one given. */
  cuda(index?: number): Tensor {
    return this.to(index === undefined ? 'cuda' : `cuda:${index}`)
  }

  // ---- Gradients ---------------------------------------------------------------------------------------------------

  /** Whether operations on this tensor are recorded. Only leaves can be told not to. */
  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle)
  }

  set requiresGrad(value: boolean) {
    native.setRequiresGrad(this.handle, value)
  }

  /** The gradient accumulated by {@link backward}, or null. Every read makes a new tensor object. */
  get grad(): Tensor | null {
    const handle = native.gradient(this.handle)
    return handle === 0 ? null : new Tensor(handle)
  }

  set grad(gradient: Tensor | null) {
    native.setGradient(this.handle, gradient?.handle ?? 0)
  }

  /** Whether this was made by the user rather than by a recorded operation. */
  get isLeaf(): boolean {
    return native.isLeaf(this.handle)
  }

  /** The operation that made this tensor, such as `'AddBackward0'`, or null. */
  get gradFn(): string | null {
    return native.gradFn(this.handle)
  }

  /**
   * Adds dThis/dLeaf to the `grad` of every leaf that this tensor depends on.
   *
   * @throws AlambicError `ERR_AUTOGRAD` when this depends on no leaf with `requiresGrad`, is not a scalar and has no
   *   `gradient`, or its graph was used up by an earlier backward without `retainGraph`
   */
  backward(options: BackwardOptions = {}): void {
    const {
      gradient,
      createGraph = false,
      retainGraph = createGraph,
    } = readOptions('backward', options, backwardOptions)
    native.backward([this.handle], gradient && [gradient.handle], retainGraph, createGraph)
  }

  // ---- Lifetime ----------------------------------------------------------------------------------------------------

  /** Releases the memory now (unless other tensors share it). Using the tensor afterwards is an error. */
  dispose(): void {
    release(this)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

// Node 20 has no Symbol.dispose of its own everywhere; compilers that lower `using` look it up under this name.
declare global {
  interface SymbolConstructor {
    readonly dispose: unique symbol
  }
}

/**
 * A tensor from numbers, nested arrays or a typed array, which is copied.
 *
 * @example tensor([[1, 2], [3, 4]]), tensor(0.5, { requiresGrad: true }), tensor([1n, 2n]) // int64
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for ragged arrays, `ERR_ARGUMENT` for elements that are no numbers
 */
export function tensor(data: NestedData | TypedArray, options: TensorOptions = {}): Tensor {
  readOptions('tensor', options, tensorOptions)
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, [data.length], options)
  const shape = shapeOf(data)
  const flat = flatten(data, shape)
  const values = toTypedArray(flat, options.dtype)
  return fromTypedArray(values.data, shape, { ...options, dtype: options.dtype ?? values.dtype })
}

export type NestedData = number | bigint | boolean | readonly NestedData[]

/**
 * A tensor of the given shape from a typed array in row-major order, which is copied. The dtype is the array's unless
 * given.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` when the sizes do not multiply to the array's length
 */
export function fromTypedArray(
  data: TypedArray,
  shape: readonly number[],
  options: TensorOptions = {},
): Tensor {
  const {
    dtype,
    device = 'cpu',
    requiresGrad = false,
  } = readOptions('fromTypedArray', options, tensorOptions)
  const source = dtypeOfArray(data)
  const result = new Tensor(native.tensorFromData(data, source, shape, dtype ?? source, device))
  if (requiresGrad) result.requiresGrad = true
  return result
}

// ---- Between JavaScript's arrays and dtypes ------------------------------------------------------------------------

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
function storageOf(dtype: DType): [ArrayConstructor, DType] {
  const direct = arrayTypes[dtype]
  if (direct) return [direct, dtype]
  return dtype === 'complex32' ? [Float32Array, 'complex64'] : [Float32Array, 'float32']
}

function dtypeOfArray(array: TypedArray): DType {
  switch (array.constructor) {
    case Float32Array:
      return 'float32'
    case Float64Array:
      return 'float64'
    case Int8Array:
      return 'int8'
    case Uint8Array:
    case Uint8ClampedArray:
    case Buffer:
      return 'uint8'
    case Int16Array:
      return 'int16'
    case Uint16Array:
      return 'uint16'
    case Int32Array:
      return 'int32'
    case Uint32Array:
      return 'uint32'
    case BigInt64Array:
      return 'int64'
    case BigUint64Array:
      return 'uint64'
    default:
      throw argumentError('data', 'a typed array of numbers', array)
  }
}

function shapeOf(data: NestedData): number[] {
  const shape: number[] = []
  for (let level: unknown = data; Array.isArray(level); level = (level as unknown[])[0])
    shape.push(level.length)
  return shape
}

function flatten(data: NestedData, shape: number[]): (number | bigint | boolean)[] {
  const flat: (number | bigint | boolean)[] = []
  const visit = (value: NestedData, depth: number, path: string) => {
    if (depth < shape.length) {
      const expected = shape[depth]!
      if (!Array.isArray(value) || value.length !== expected) {
        const got = Array.isArray(value) ? `${value.length}` : 'a single value'
        throw new AlambicError(
          'ERR_SHAPE_MISMATCH',
          `tensor: expected ${expected} elements at data${path} as at its first neighbour, got ${got}`,
        )
      }
      value.forEach((each: NestedData, i) => visit(each, depth + 1, `${path}[${i}]`))
    } else if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') {
      flat.push(value)
    } else throw argumentError(`tensor: data${path}`, 'a number, bigint or boolean', value)
  }
  visit(data, 0, '')
  return flat
}

function toTypedArray(
  flat: (number | bigint | boolean)[],
  dtype?: DType,
): { data: TypedArray; dtype: DType } {
  const bigints = flat.filter(value => typeof value === 'bigint').length
  if (bigints > 0) {
    if (bigints < flat.length && dtype === undefined)
      throw argumentError('tensor: data', 'either bigints or numbers, or a dtype', 'both')
    return { data: BigInt64Array.from(flat, value => BigInt(value)), dtype: 'int64' }
  }
  if (flat.length > 0 && flat.every(value => typeof value === 'boolean'))
    return { data: Uint8Array.from(flat, Number), dtype: 'bool' }
  // float64 holds every integer up to 2^53 and every float32 exactly; the native side converts.
  const exact = dtype !== undefined && dtype !== 'float32'
  return { data: exact ? Float64Array.from(flat, Number) : Float32Array.from(flat, Number), dtype: 'float32' }
}

function flatValues(tensor: Tensor): unknown[] {
  const { dtype } = tensor
  const array = tensor.toTypedArray()
  if (dtype === 'bool') return Array.from(array as Uint8Array, value => value !== 0)
  if (dtype.startsWith('complex')) {
    const parts = array as Float64Array
    return Array.from({ length: parts.length / 2 }, (_, i) => ({ re: parts[2 * i]!, im: parts[2 * i + 1]! }))
  }
  if (array instanceof BigInt64Array || array instanceof BigUint64Array)
    return Array.from(array, toSafeNumber)
  return Array.from(array as Float64Array)
}

function toSafeNumber(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number)) return number
  throw new AlambicError(
    'ERR_PRECISION',
    `tolist: ${value} does not fit into a JavaScript number; read it with toTypedArray()`,
  )
}

function nest(flat: unknown[], shape: number[]): unknown {
  if (shape.length === 0) return flat[0]
  let offset = 0
  const build = (depth: number): unknown[] => {
    const size = shape[depth]!
    if (depth === shape.length - 1) return flat.slice(offset, (offset += size))
    return Array.from({ length: size }, () => build(depth + 1))
  }
  return build(0)
}

const convert = toFunction(new Operator('aten::to', 'dtype_layout'))

let dtypeNames: Set<string> | undefined

function toOptions(target: DType | Device | ToOptions | Tensor): ToOptions {
  if (target instanceof Tensor) return { dtype: target.dtype, device: target.device }
  if (typeof target !== 'string') return readOptions('to', target, toOptionKinds)
  dtypeNames ??= new Set(native.dtypes())
  return dtypeNames.has(target) ? { dtype: target as DType } : { device: target }
}

installMethods(Tensor)
