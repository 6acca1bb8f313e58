/** What a run keeps. */
import type { TrainingState } from '../distill/keeper.js'
import type { Environment } from './environment.js'
import type { BestEpoch, RunEpoch } from './results.js'

/** What a checkpoint holds. */
export interface RunState {
  format: 'alambic run'
  version: 1
  /** From 0. */
  stage: number
  /** Updates of all stages before this one. */
  stepsBefore: number
  epochs: RunEpoch[]
  best: BestEpoch | null
  epochsSinceBest: number
  endedEarly: boolean
  milliseconds: number
  metrics: number
  recipe: string | null
  environment: Environment
  changes: string[]
  training: TrainingState
}
