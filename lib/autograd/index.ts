/** Gradients: which operations are recorded, their gradients, and the dtypes of mixed precision. */
export { enableGrad, isGradEnabled, noGrad } from '../tensors/grad-mode.js'
export { autocast, type AutocastOptions } from './autocast.js'
export { grad, type GradOptions } from './grad.js'
