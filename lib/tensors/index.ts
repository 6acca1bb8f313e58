/** Tensors: the class, how they are made, indexed and printed. */
export * from './types.js'
export { Tensor } from './tensor-class.js'
export { tensor, fromTypedArray } from './tensor.js'
export type {
  BackwardOptions,
  ConversionOptions,
  Float16ArrayLike,
  NestedData,
  NumberArray,
  ToOptions,
  TypedArray,
} from './tensor.js'
export type { HookHandle, TensorHook } from './tensor-hooks.js'
export * from './factories.js'
export { slice, Slice, type Index, type IndexArray } from './indexing.js'
