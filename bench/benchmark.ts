import type { Python } from './python.js'

export interface BenchmarkContext {
  /** Null where this libtorch has no Python. */
  python: Python | null
  /** How often each measurement is taken. */
  rounds: number
  /** Says what is going on. */
  progress: (text: string) => void
}

export interface Benchmark {
  name: string
  description: string
  /** How often each measurement is taken unless the user says so. */
  defaultRounds: number
  run: (context: BenchmarkContext) => Promise<BenchmarkResult>
}

export interface BenchmarkResult {
  /** For programs. */
  data: unknown
  /** For people. */
  table: string
}
