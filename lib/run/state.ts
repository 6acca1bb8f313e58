/** What a run keeps. */
import type { TrainingState } from '../distill/keeper.js'
import type { Stage } from './check-options.js'
import type { Environment } from './environment.js'
import type { DistillerOptions } from './options.js'
import type { BestEpoch, RunEpoch } from './results.js'

/** Sums of the steps since the last line of metrics: by name, and of how many steps. */
export interface MetricState {
  steps: number
  images: number
  sums: Record<string, [sum: number, count: number]>
}

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
  /** Bytes of `metrics.jsonl`. */
  metrics: number
  metric: MetricState
  /** Of options that are plain values. */
  options: Record<string, unknown>
  recipe: string | null
  environment: Environment
  changes: string[]
  training: TrainingState
}

/** What can be compared when a run goes on: the options that are plain values, of the run and of its stages. */
export function plainOptions(options: DistillerOptions, stages: readonly Stage[]): Record<string, unknown> {
  const plain: Record<string, unknown> = { samples: options.train.length }
  const take = (prefix: string, from: object) => {
    for (const [name, value] of Object.entries(from))
      if (isPlain(value) && name !== 'folder') plain[`${prefix}${name}`] = value
  }
  take('', options)
  stages.forEach((stage, i) => {
    take(`stages[${i}].`, stage)
    plain[`stages[${i}].terms`] = stage.objective.terms.entries().map(([name]) => name)
  })
  return plain
}

function isPlain(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isPlain)
  return ['string', 'number', 'boolean'].includes(typeof value)
}
