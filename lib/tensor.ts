import { inspect } from 'node:util'
import {
  dtypeOfArray,
  flatten,
  nest,
  readElements,
  shapeOf,
  storageOf,
  toSource,
  type NestedData,
  type Source,
  type TypedArray,
} from './elements.js'
import { AlambicError } from './errors.js'
import { formatTensor } from './format.js'
import { indexTensor, setIndexed, type Index } from './indexing.js'
import { release, track } from './memory.js'
import type { Handle } from './native/contract.js'
import { native } from './native/loader.js'
import { installMethods, Operator, toFunction } from './torch/call.js'
import type { TensorMethods } from './torch/operators.generated.js'
import type { Device, DType, Layout, MemoryFormat, Scalar, TensorOptions } from './types.js'

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

export type { NestedData, TypedArray } from './elements.js'

export interface BackwardOptions {
  /** dLoss/dThis, of this tensor's shape. Default: 1, for a tensor with one element. */
  gradient?: Tensor
  /** Keep the graph for another backward. Default: the value of `createGraph`. */
  retainGraph?: boolean
  /** Make the gradients differentiable themselves. Default: false. */
  createGraph?: boolean
}

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
    if (typeof value === 'bigint') throw tooLarge('item', value)
    return value as T
  }

  /**
   * The elements as nested arrays, in the types of {@link item}.
   *
   * @throws AlambicError `ERR_PRECISION` for an int64 beyond 2^53
   */
  tolist(): unknown {
    const values = readElements(this.toTypedArray(), this.dtype)
    const large = values.find(each => typeof each === 'bigint')
    if (large !== undefined) throw tooLarge('tolist', large)
    return nest(values, this.shape)
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
   * As Python's `x[...]`: integers and integer tensors without dimensions select, {@link slice} takes a range, `null`
   * adds a dimension, `'...'` stands for all dimensions not named, integer tensors and arrays pick elements, boolean
   * ones mask as many dimensions as they have. A boolean adds a dimension, of size 1 where true and 0 where false.
   * All but picks, masks and booleans give views.
   *
   * @example x.at(0), x.at('...', slice(0, 2)), x.at(mask), x.at(mask, [0, 1])
   * @throws AlambicError `ERR_INDEX` for an index out of range, too many indices, or a mask of another shape than the
   *   dimensions that it stands for
   */
  at(...indices: Index[]): Tensor {
    return indexTensor(this, indices)
  }

  /**
   * As Python's `x[...] = value`, in place: the value is broadcast, and converted to this tensor's dtype and device. An
   * array is a list of indices, one per dimension: `x.setAt([[0, 2]], 5)` writes to the rows 0 and 2.
   *
   * @returns this tensor
   * @throws AlambicError as {@link at}; `ERR_ARGUMENT` for a number that the dtype does not hold, `ERR_SHAPE_MISMATCH`
   *   for a value that does not broadcast
   */
  setAt(indices: Index | readonly Index[], value: Tensor | Scalar): this {
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
  backward({ gradient, createGraph = false, retainGraph = createGraph }: BackwardOptions = {}): void {
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
 * A tensor from numbers, nested arrays or a typed array, which is copied. Numbers become float32, bigints int64, booleans
 * bool and `{ re, im }` complex64, unless a dtype is given. For an integer dtype fractions are cut off.
 *
 * @example tensor([[1, 2], [3, 4]]), tensor(0.5, { requiresGrad: true }), tensor([1n, 2n]) // int64
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for ragged arrays, `ERR_ARGUMENT` for elements that are no numbers, for a mix
 *   of bigints and numbers without a dtype, and for a number that an integer dtype does not hold: 300 or −1 for uint8,
 *   NaN for int64
 */
export function tensor(data: NestedData | TypedArray, options: TensorOptions = {}): Tensor {
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, [data.length], options)
  const { dtype, ...others } = options
  const shape = shapeOf(data)
  return make(toSource(flatten(data, shape), dtype, shape), shape, others)
}

/**
 * A tensor of the given shape from a typed array in row-major order, which is copied. The dtype is the array's unless
 * given; another one converts as {@link Tensor.to} does, where integers that do not fit wrap around.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` when the sizes do not multiply to the array's length
 */
export function fromTypedArray(
  data: TypedArray,
  shape: readonly number[],
  { dtype, ...others }: TensorOptions = {},
): Tensor {
  const from = dtypeOfArray(data)
  return make({ data, from, dtype: dtype ?? from }, shape, others)
}

function make(
  { data, from, dtype }: Source,
  shape: readonly number[],
  { device = 'cpu', requiresGrad = false }: TensorOptions,
): Tensor {
  const result = new Tensor(native.tensorFromData(data, from, shape, dtype, device))
  if (requiresGrad) result.requiresGrad = true
  return result
}

function tooLarge(what: string, value: bigint): AlambicError {
  return new AlambicError(
    'ERR_PRECISION',
    `${what}: ${value} does not fit into a JavaScript number; read it with toTypedArray()`,
  )
}

const convert = toFunction(new Operator('aten::to', 'dtype_layout'))

let dtypeNames: Set<string> | undefined

function toOptions(target: DType | Device | ToOptions | Tensor): ToOptions {
  if (target instanceof Tensor) return { dtype: target.dtype, device: target.device }
  if (typeof target !== 'string') return target
  dtypeNames ??= new Set(native.dtypes())
  return dtypeNames.has(target) ? { dtype: target as DType } : { device: target }
}

native.setErrorClass(AlambicError)
installMethods(Tensor)
