import type { Tensor } from './tensor.js'

/**
 * Element types, by PyTorch's names. Some need a newer libtorch: `float8_*` 2.2 (`float8_e8m0fnu` 2.7), `uint16`,
 * `uint32` and `uint64` 2.3.
 */
export type DType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'uint8'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'bool'
  | 'complex32'
  | 'complex64'
  | 'complex128'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'float8_e4m3fn'
  | 'float8_e5m2'
  | 'float8_e4m3fnuz'
  | 'float8_e5m2fnuz'
  | 'float8_e8m0fnu'
  | 'qint8'
  | 'quint8'
  | 'qint32'

/** `'cpu'`, `'cuda'` (the current GPU), `'cuda:1'`, `'meta'` (shapes only, no data) … */
export type Device = 'cpu' | 'cuda' | 'meta' | 'mps' | (string & {})

/** The order of elements in memory, as `torch.memory_format`. */
export type MemoryFormat = 'contiguous' | 'preserve' | 'channelsLast' | 'channelsLast3d'

/** How elements are stored, as `torch.layout`. */
export type Layout = 'strided' | 'sparse' | 'sparseCsr' | 'sparseCsc' | 'sparseBsr' | 'sparseBsc' | 'mkldnn'

/** A complex number. */
export interface Complex {
  re: number
  im: number
}

/** For libtorch whole numbers are integers, others double; use a bigint for integers beyond 2^53. */
export type Scalar = number | bigint | boolean | Complex

/** What operators take as a tensor: a number or boolean is a zero-dimensional tensor. */
export type TensorLike = Tensor | number | boolean

/** A value, or arrays of values, nested to any depth. */
export type Nested<T> = T | readonly Nested<T>[]

/** Options of the functions that make tensors. */
export interface TensorOptions {
  /** Default: `float32`; for bigints `int64`, for booleans `bool`. */
  dtype?: DType
  /** Default: `'cpu'`. */
  device?: Device
  /** Record operations on this tensor, so that `backward()` reaches it. Default: false. */
  requiresGrad?: boolean
}
