/** Runs: from options to a trained student, kept in a folder. See `docs/runs.md`. */
export type { TeacherCacheMode, TeacherCacheOptions } from '../cache/options.js'
export { Distiller, type DistillerEvents, type RunStep } from './distiller.js'
export type { CheckpointOptions, DistillerOptions, StageOptions, StudentDescription } from './options.js'
export type { BestEpoch, RunEpoch, RunResult } from './results.js'
