/** Features of a model, by the dotted path of the layer that makes them. */
export { attachFeatures, captureFeatures, FeatureProbe } from './capture.js'
export type { Captured, CaptureOptions, Features } from './capture.js'
