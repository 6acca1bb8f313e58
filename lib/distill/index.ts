export { AdaptationLayer } from './adaptation.js'
export type { Batches } from './batches.js'
export type { CompilationReport, GraphReport } from './compiled.js'
export { assess, type Assessment, type AssessOptions } from './assess.js'
export { evaluate, type EvaluateOptions } from './evaluate.js'
export {
  formatEpoch,
  type EpochReport,
  type FitOptions,
  type LossParts,
  type StepProgress,
  type TrainingResult,
} from './fit.js'
export {
  AttentionTransfer,
  FeatureDistillationLoss,
  LogitsDistillationLoss,
  type AttentionLoss,
  type AttentionTransferOptions,
  type FeatureDistillationLossOptions,
  type FeatureLoss,
  type LogitsDistillationLossOptions,
  type LogitsLoss,
} from './losses.js'
export type { ModelInput } from './model-input.js'
export type { Schedule } from './schedule.js'
export type { Speed, SpeedOptions } from './speed.js'
export * from './student.js'
export { Objective, type ObjectiveTerm } from './objective.js'
export { Term, type FeatureLayer, type Observation, type View } from './term.js'
export {
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  trainWithObjective,
  type Classifier,
  type FeatureCriterion,
  type FeatureDistillationOptions,
  type FeatureDistillationResult,
  type LogitsDistillationOptions,
  type ObjectiveOptions,
  type ObjectiveResult,
  type Teachers,
} from './train.js'
export type { Weight, WeightSchedule } from './weight.js'
