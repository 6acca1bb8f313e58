export { AlambicError, type ErrorCode } from './errors.js'
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
export {
  backends,
  getFloat32MatmulPrecision,
  isWarnAlwaysEnabled,
  setFloat32MatmulPrecision,
  setWarnAlways,
  type Float32MatmulPrecision,
} from './backends.js'
export { autocast, type AutocastOptions } from './autocast.js'
export { enableGrad, grad, isGradEnabled, noGrad, type GradOptions } from './autograd.js'
export {
  deviceMemory,
  keep,
  limitIdleMemory,
  memory,
  releaseIdleMemory,
  scope,
  unscoped,
  type DeviceMemory,
  type Memory,
} from './memory.js'
export { Generator, getRngState, manualSeed, setRngState } from './random.js'
export { torch, type OperatorPacket, type Torch } from './torch/index.js'
export * as data from './data/index.js'
export * as optim from './optim/index.js'
export * as nn from './nn/index.js'
export { attachFeatures, captureFeatures, FeatureProbe } from './capture.js'
export type { Captured, CaptureOptions, Features } from './capture.js'
export * from './script/index.js'
export * from './distill/index.js'
export { exportTorchScript, type ExportOptions, type ExportResult } from './export.js'
export * as models from './models/index.js'
export * from './io/index.js'
