export * from './adaptation.js'
export type { Batches } from './batches.js'
export type { CompilationReport, GraphReport } from './compiled.js'
export * from './evaluate.js'
export {
  formatEpoch,
  type EpochReport,
  type FitOptions,
  type LossParts,
  type StepProgress,
  type TrainingResult,
} from './fit.js'
export * from './losses.js'
export type { ModelInput } from './model-input.js'
export type { Schedule } from './schedule.js'
export type { Speed, SpeedOptions } from './speed.js'
export * from './student.js'
export * from './train.js'
