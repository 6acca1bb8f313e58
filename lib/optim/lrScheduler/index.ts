/** Learning-rate schedules, with PyTorch's sequences of values. */
export { LRScheduler, type SchedulerOptions } from './scheduler.js'
export type { SchedulerStateDict, StateField, StateFields } from './state.js'
export {
  CosineAnnealingLR,
  ExponentialLR,
  LambdaLR,
  LinearLR,
  MultiStepLR,
  StepLR,
  type CosineAnnealingLROptions,
  type LinearLROptions,
  type StepLROptions,
} from './decay.js'
export { OneCycleLR, type OneCycleLROptions } from './oneCycleLR.js'
export { ReduceLROnPlateau, type ReduceLROnPlateauOptions } from './reduceLROnPlateau.js'
export { SequentialLR } from './sequentialLR.js'
export {
  create,
  names,
  register,
  type CreateScheduleOptions,
  type NamedSchedule,
  type ScheduleContext,
  type ScheduleFactory,
} from './registry.js'
