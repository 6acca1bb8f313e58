/** What a run tells. */
import type { StepProgress } from '../distill/fit.js'
import type { RunEpoch } from './results.js'

/** A step of a run. */
export interface RunStep extends StepProgress {
  stage: string
  /** From 1, over all stages. */
  runStep: number
}

/** What a {@link Distiller} tells. Listeners may be asynchronous: the run waits for them. */
export interface DistillerEvents {
  /** A stage begins, or goes on. */
  stage: { name: string; number: number; stages: number; epochs: number }
  step: RunStep
  epoch: RunEpoch
  /** A checkpoint was written. */
  checkpoint: { path: string; step: number }
  /** Something could not be written; the run goes on. */
  problem: { message: string; error: unknown }
}

export type Emit = <Name extends keyof DistillerEvents>(
  name: Name,
  event: DistillerEvents[Name],
) => Promise<void>
