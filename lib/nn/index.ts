/** Networks and their parts, named as in PyTorch's `torch.nn`. */
export { Module, type LoadStateDictOptions, type LoadStateDictResult, type StateDict } from './module.js'
export { Parameter } from './parameter.js'
export type { Placement, Size } from './layer.js'
export {
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose2d,
  type ConvOptions,
  type ConvTransposeOptions,
  type PaddingMode,
} from './conv.js'
export { Linear, type LinearOptions } from './linear.js'
export {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  LayerNorm,
  type BatchNormOptions,
  type GroupNormOptions,
  type LayerNormOptions,
} from './normalization.js'
export {
  AdaptiveAvgPool2d,
  AdaptiveMaxPool2d,
  AvgPool2d,
  MaxPool2d,
  type AvgPool2dOptions,
  type MaxPool2dOptions,
  type OutputSize,
  type PoolOptions,
} from './pooling.js'
export { Dropout, Dropout2d, type DropoutOptions } from './dropout.js'
export { Embedding, type EmbeddingOptions } from './embedding.js'
export * from './activations.js'
export { Flatten, Identity, Upsample } from './shape.js'
export { ModuleDict, ModuleList, Sequential } from './containers.js'
export { CrossEntropyLoss, KLDivLoss, MSELoss } from './losses.js'
export * as functional from './functional.js'
export * as init from './init.js'
