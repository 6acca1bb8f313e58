/** Optimizers, learning-rate schedules and gradient clipping. See `docs/optimizers.md`. */
export { SGD, type SGDOptions } from './sgd.js'
export { Adam, AdamW, type AdamOptions } from './adam.js'
export { clipGradNorm_, clipGradValue_, type ClipGradNormOptions } from './clip.js'
export {
  Optimizer,
  type OptimizerOptions,
  type OptimizerStateDict,
  type ParamGroup,
  type ParamGroupInit,
  type Params,
} from './optimizer.js'
export { create, names, register, type OptimizerFactory } from './registry.js'
export * as lrScheduler from './lrScheduler/index.js'
