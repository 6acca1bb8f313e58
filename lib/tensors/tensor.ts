import { inspect } from 'node:util'
import {
  dtypeOfArray,
  flatten,
  jointDtype,
  nest,
  readElements,
  shapeOf,
  storageOf,
  toSource,
  type NestedData,
  type NumberArray,
  type Source,
  type TypedArray,
} from './elements.js'
import { AlambicError, argumentError, missingError, show } from '../errors.js'
import { formatTensor } from './format.js'
import { indexTensor, setIndexed, type Index } from './indexing.js'
import { release, track } from '../memory/memory.js'
import type { Handle } from '../native/contract.js'
import { native } from '../native/loader.js'
import {
  boolean,
  device,
  dtype,
  integer,
  oneOf,
  orNull,
  readOptions,
  requireKind,
  tensor as tensorKind,
  tensorOptions,
  type Kinds,
} from '../checks/options.js'
import { bytesOf } from '../checks/realms.js'
import { registerHook, withHooks, type HookHandle, type TensorHook } from './tensor-hooks.js'
import { installMethods, Operator, toFunction } from '../calls/call.js'
import type { TensorMethods } from '../calls/operators.generated.js'
import { unique, type PlainUniqueOptions, type UniqueOptions } from '../calls/unique.js'
import type { Device, DType, Layout, MemoryFormat, Scalar, TensorOptions } from './types.js'

/** What {@link Tensor.to} can change. */
export interface ToOptions {
  dtype?: DType
  device?: Device
  memoryFormat?: MemoryFormat
  /** Copy to a GPU without waiting, from pinned memory. Default: false. */
  nonBlocking?: boolean
  /** Copy even if nothing changes. Default: false. */
  copy?: boolean
}

export type { Float16ArrayLike, NestedData, NumberArray, TypedArray } from './elements.js'

/** Options of conversions to a dtype. */
export interface ConversionOptions {
  memoryFormat?: MemoryFormat
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

const requiresGradOptions: Kinds<{ requiresGrad?: boolean }> = { requiresGrad: boolean }

const backwardOptions: Kinds<BackwardOptions> = {
  gradient: tensorKind,
  retainGraph: boolean,
  createGraph: boolean,
}

const contiguousOptions = { memoryFormat }

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-empty-object-type -- operators are methods
export interface Tensor extends TensorMethods {}

/**
 * A multi-dimensional array on a device, as in PyTorch. {@link tensor}, {@link zeros} and similar functions make one,
 * and operators do. Every ATen operator whose first argument is a tensor is a method: `x.matmul(y)`, `x.sum()`.
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

  /** All {@link strides}, or the one of a dimension. */
  stride(): number[]
  stride(dim: number): number
  stride(dim?: number): number | number[] {
    const { strides } = this
    return dim === undefined ? strides : strides[dimensionOf('stride', dim, strides.length)]!
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length
  }

  /** Size of the first dimension, as Python's `len(x)`; 0 for a tensor without dimensions. */
  get length(): number {
    return this.shape[0] ?? 0
  }

  /** Number of dimensions, as in PyTorch. */
  dim(): number {
    return this.ndim
  }

  /** Number of dimensions: {@link dim}. */
  ndimension(): number {
    return this.ndim
  }

  /** The shape, or the size of one dimension; negative dimensions count from the last. */
  size(): number[]
  size(dim: number): number
  size(dim?: number): number | number[] {
    const { shape } = this
    return dim === undefined ? shape : shape[dimensionOf('size', dim, shape.length)]!
  }

  /** Number of elements. */
  numel(): number {
    return native.numel(this.handle)
  }

  /** Number of elements: {@link numel}. */
  nelement(): number {
    return this.numel()
  }

  /** Size of an element in bytes. */
  elementSize(): number {
    return native.elementSize(this.handle)
  }

  /** Bytes of an element: {@link elementSize}. */
  get itemsize(): number {
    return this.elementSize()
  }

  /** Bytes of all elements. */
  get nbytes(): number {
    return this.numel() * this.elementSize()
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

  get isCpu(): boolean {
    return this.device === 'cpu'
  }

  get isCuda(): boolean {
    return this.device.startsWith('cuda')
  }

  /** Whether this is on the device `'meta'`: a shape without data. */
  get isMeta(): boolean {
    return this.device.startsWith('meta')
  }

  /** Whether the layout is `'sparse'`. */
  get isSparse(): boolean {
    return this.layout === 'sparse'
  }

  /** Whether the layout is `'sparseCsr'`. */
  get isSparseCsr(): boolean {
    return this.layout === 'sparseCsr'
  }

  get isMkldnn(): boolean {
    return this.layout === 'mkldnn'
  }

  get isQuantized(): boolean {
    return /^qu?int/.test(this.dtype)
  }

  /** Whether this is a nested tensor: several tensors of different sizes in one. */
  get isNested(): boolean {
    return native.isNested(this.handle)
  }

  /** Whether elements are in row-major order without gaps, or in the order of another memory format. */
  isContiguous(options: { memoryFormat?: MemoryFormat } = {}): boolean {
    readOptions('isContiguous', options, contiguousOptions)
    return native.isContiguous(this.handle, options.memoryFormat ?? 'contiguous')
  }

  /** Whether this was released. */
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

  /** For `JSON.stringify`: {@link tolist}. NaN and infinities become null, because JSON does not have them. */
  toJSON(): unknown {
    return this.tolist()
  }

  /**
   * Iterates over the first dimension; gives views.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH` for a tensor without dimensions
   */
  [Symbol.iterator](): ArrayIterator<Tensor> {
    if (this.ndim === 0)
      throw new AlambicError('ERR_SHAPE_MISMATCH', 'a tensor without dimensions cannot be iterated over')
    return this.unbind()[Symbol.iterator]()
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
   * Integers, slices, `null` and `'...'` give views; the others copy.
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
   * @throws AlambicError as {@link at}; `ERR_ARGUMENT` for a number that the dtype does not hold, such as 1e39 for float32, `ERR_SHAPE_MISMATCH`
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

  /** `to('float32')`. */
  float(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'float32' })
  }

  /** `to('float64')`. */
  double(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'float64' })
  }

  /** `to('float16')`. */
  half(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'float16' })
  }

  /** `to('bfloat16')`. */
  bfloat16(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'bfloat16' })
  }

  /** `to('int64')`. */
  long(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'int64' })
  }

  /** `to('int32')`. */
  int(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'int32' })
  }

  /** `to('int16')`. */
  short(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'int16' })
  }

  /** `to('int8')`. */
  char(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'int8' })
  }

  /** `to('uint8')`. */
  byte(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'uint8' })
  }

  /** `to('bool')`. */
  bool(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'bool' })
  }

  /** `to('complex64')`. */
  cfloat(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'complex64' })
  }

  /** `to('complex128')`. */
  cdouble(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'complex128' })
  }

  /** `to('complex32')`. */
  chalf(options: ConversionOptions = {}): Tensor {
    return this.to({ ...options, dtype: 'complex32' })
  }

  /** This tensor on the current GPU, or on the one given. */
  cuda(index?: number): Tensor {
    if (index !== undefined) requireKind('cuda: index', integer(0), index)
    return this.to(index === undefined ? 'cuda' : `cuda:${index}`)
  }

  /** A tensor of other data, of this one's dtype and device unless told otherwise. */
  newTensor(data: NestedData | TypedArray, options: TensorOptions = {}): Tensor {
    return tensor(data, { dtype: this.dtype, device: this.device, ...options })
  }

  /** In the layout `'sparse'`: `toSparse()`. */
  toSparseCoo(): Tensor {
    return this.toSparse()
  }

  /** The values that occur, each once; with `returnInverse` and `returnCounts` an array. As in Python. */
  unique(options?: PlainUniqueOptions): Tensor
  unique(options: UniqueOptions): Tensor | Tensor[]
  unique(options: UniqueOptions = {}): Tensor | Tensor[] {
    return unique(this, options)
  }

  /** The `n`-th derivative of the digamma function. */
  polygamma(n: number): Tensor {
    return polygamma(n, this) as Tensor
  }

  /** How a quantized tensor is quantized: `'per_tensor_affine'`, `'per_channel_affine'` … */
  qscheme(): string {
    return quantizationSchemes[native.quantizationScheme(this.handle)]!
  }

  // ---- Views -------------------------------------------------------------------------------------------------------

  /** A view with all dimensions in reverse order. */
  get T(): Tensor {
    return this.permute(this.shape.map((_, i, { length }) => length - 1 - i))
  }

  /**
   * With the last two dimensions swapped, a view.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH` below two dimensions
   */
  get mT(): Tensor {
    requireMatrix('mT', this)
    return this.transpose(-2, -1)
  }

  /**
   * A matrix transposed and conjugated, a view.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH` for other than two dimensions, or none
   */
  get H(): Tensor {
    if (this.ndim !== 2 && this.ndim !== 0)
      throw new AlambicError(
        'ERR_SHAPE_MISMATCH',
        `H: expected two dimensions, got (${this.shape.join(', ')}); use mH for matrices in a batch`,
      )
    return this.ndim === 0 ? this.conj() : adjoint(this)
  }

  /**
   * With the last two dimensions swapped, and conjugated, a view.
   *
   * @throws AlambicError `ERR_SHAPE_MISMATCH` below two dimensions
   */
  get mH(): Tensor {
    requireMatrix('mH', this)
    return adjoint(this)
  }

  // ---- Gradients ---------------------------------------------------------------------------------------------------

  /** Whether operations on this tensor are recorded. It can be set to false for leaves only. */
  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle)
  }

  set requiresGrad(value: boolean) {
    native.setRequiresGrad(this.handle, value)
  }

  /** Sets {@link requiresGrad}, and returns this tensor. */
  requiresGrad_(value: boolean | { requiresGrad?: boolean } = true): this {
    const { requiresGrad = true } =
      typeof value === 'boolean'
        ? { requiresGrad: value }
        : readOptions('requiresGrad_', value, requiresGradOptions)
    this.requiresGrad = requiresGrad
    return this
  }

  /**
   * The gradient accumulated by {@link backward}, or null. Every read makes a new tensor object. Setting it takes a
   * tensor of the same shape, dtype and device, or null to clear it.
   *
   * @throws AlambicError when set: `ERR_SHAPE_MISMATCH`, `ERR_DTYPE`, `ERR_DEVICE`; `ERR_ARGUMENT` for this tensor
   *   itself, another layout (a sparse gradient may be set), and what is no tensor; `ERR_TENSOR_RELEASED`
   */
  get grad(): Tensor | null {
    const handle = native.gradient(this.handle)
    return handle === 0 ? null : new Tensor(handle)
  }

  set grad(gradient: Tensor | null) {
    const given: unknown = gradient ?? null
    if (given !== null && !(given instanceof Tensor)) throw argumentError('grad', 'a tensor or null', given)
    native.setGradient(this.handle, given === null ? null : given.handle)
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
    withHooks(() => native.backward([this.handle], gradient && [gradient.handle], retainGraph, createGraph))
  }

  /**
   * Calls `hook` with the gradient of this tensor whenever one is computed, in {@link backward} and `grad()`, before it
   * goes on. If the hook throws, they end and throw the same. The hook may keep the gradient. Its
   * operations are recorded only with `createGraph`, or inside `enableGrad`.
   *
   * @example const handle = x.registerHook(gradient => gradient.mul(2)); …; handle.remove()
   * @throws AlambicError `ERR_AUTOGRAD` for a tensor that requires no gradient, `ERR_NOT_IMPLEMENTED` while a step is
   *   compiled. In a compiled step and on GPUs, whose gradients are computed in other threads, a hook is an error,
   *   `ERR_OTHER_THREAD`.
   */
  registerHook(hook: TensorHook): HookHandle {
    return registerHook(this, hook)
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

/**
 * The handle of a tensor that a caller gave.
 *
 * @param name of the function and its argument: `crossEntropy: logits`
 * @throws AlambicError `ERR_ARGUMENT` for anything but a tensor
 * @internal
 */
export function handleOf(name: string, tensor: Tensor): Handle {
  requireTensor(name, tensor)
  return tensor.handle
}

/** {@link handleOf} each tensor of an array. @internal */
export function handlesOf(name: string, tensors: readonly Tensor[]): Handle[] {
  if (!isArray(tensors)) throw argumentError(name, 'an array of tensors', tensors)
  return Array.from(tensors, (each, i) => handleOf(`${name}[${i}]`, each))
}

/** @internal */
export function requireTensor(name: string, value: unknown): asserts value is Tensor {
  if (!isTensor(value)) throw argumentError(name, 'a tensor', value)
}

/** Also of what cannot be looked at, such as a revoked proxy. */
function isTensor(value: unknown): value is Tensor {
  try {
    return value instanceof Tensor
  } catch {
    return false
  }
}

function isArray(value: unknown): boolean {
  try {
    return Array.isArray(value)
  } catch {
    return false
  }
}

function dimensionOf(what: string, dim: number, dimensions: number): number {
  if (!Number.isInteger(dim) || dim < -dimensions || dim >= dimensions)
    throw new AlambicError(
      'ERR_INDEX',
      `${what}: expected a dimension from ${-dimensions} to ${dimensions - 1}, got ${show(dim)}`,
    )
  return dim < 0 ? dim + dimensions : dim
}

function requireMatrix(what: string, tensor: Tensor): void {
  if (tensor.ndim < 2)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `${what}: expected at least two dimensions, got (${tensor.shape.join(', ')})`,
    )
}

function adjoint(tensor: Tensor): Tensor {
  const transposed = tensor.transpose(-2, -1)
  if (!tensor.dtype.startsWith('complex')) return transposed
  const conjugated = transposed.conj()
  transposed.dispose()
  return conjugated
}

// Node 20 has no Symbol.dispose of its own everywhere; compilers that lower `using` look it up under this name.
declare global {
  interface SymbolConstructor {
    readonly dispose: unique symbol
  }
}

/**
 * A tensor from numbers, nested arrays or a typed array, which is copied. Numbers become float32, bigints int64,
 * booleans bool and `{ re, im }` complex64, unless a dtype is given. For an integer dtype fractions are cut off. Typed
 * arrays of one length in an array are rows, and tensors without dimensions are elements; they keep their dtype, and have
 * to be of one unless a dtype is given.
 *
 * @example tensor([[1, 2], [3, 4]]), tensor(0.5, { requiresGrad: true }), tensor([1n, 2n]) // int64
 * @throws AlambicError `ERR_SHAPE_MISMATCH` for ragged arrays, `ERR_ARGUMENT` for elements that are no numbers, for
 *   tensors with dimensions (see `torch.stack`), for a mix of bigints and numbers, or of dtypes, without a dtype, and for a number that an integer dtype does not hold: 300 or −1 for
 *   uint8, NaN for int64
 */
export function tensor(data: NestedData | NumberArray, options: TensorOptions = {}): Tensor {
  readOptions('tensor', options, tensorOptions)
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, [data.length], options)
  if (data === undefined) throw missingError('tensor: data', 'numbers, nested arrays or a typed array')
  const { dtype, ...others } = options
  const shape = shapeOf(data)
  const flat = flatten(data, shape)
  return make(toSource(flat.elements, dtype ?? jointDtype(flat), shape), shape, others)
}

/**
 * A tensor of the given shape from a typed array in row-major order, which is copied. The default dtype is the array's;
 * another one converts as {@link Tensor.to} does: integers that do not fit wrap around.
 *
 * @throws AlambicError `ERR_SHAPE_MISMATCH` when the sizes do not multiply to the array's length
 */
export function fromTypedArray(
  data: NumberArray,
  shape: readonly number[],
  options: TensorOptions = {},
): Tensor {
  const { dtype, ...others } = readOptions('fromTypedArray', options, tensorOptions)
  const from = dtypeOfArray(data)
  return make({ data, from, dtype: dtype ?? from }, shape, others)
}

function make(
  { data, from, dtype }: Source,
  shape: readonly number[],
  { device, requiresGrad = false }: TensorOptions,
): Tensor {
  const result = new Tensor(native.tensorFromData(bytesOf(data), from, shape, dtype, device ?? 'cpu'))
  if (requiresGrad) result.requiresGrad = true
  return result
}

function tooLarge(what: string, value: bigint): AlambicError {
  return new AlambicError(
    'ERR_PRECISION',
    `${what}: ${value} does not fit into a JavaScript number; read it with toTypedArray()`,
  )
}

const polygamma = toFunction(new Operator('aten::polygamma', ''))

/** By their number in libtorch. */
const quantizationSchemes = [
  'per_tensor_affine',
  'per_channel_affine',
  'per_tensor_symmetric',
  'per_channel_symmetric',
  'per_channel_affine_float_qparams',
]

const convert = toFunction(new Operator('aten::to', 'dtype_layout'))

let dtypeNames: Set<string> | undefined

function toOptions(target: DType | Device | ToOptions | Tensor): ToOptions {
  if (target instanceof Tensor) return { dtype: target.dtype, device: target.device }
  if (typeof target !== 'string') return readOptions('to', target, toOptionKinds)
  dtypeNames ??= new Set(native.dtypes())
  return dtypeNames.has(target) ? { dtype: target as DType } : { device: target }
}

installMethods(Tensor)
