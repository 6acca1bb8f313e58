import type { Device } from '../lib/index.js'
import type { Floors } from './floors.js'
import type { Python } from './python.js'

export interface BenchmarkContext {
  /** Where both sides compute. */
  device: Device
  /** Null where this libtorch has no Python. */
  python: Python | null
  /** Whether to compare with torch.compile, which takes minutes to be ready. */
  torchCompile: boolean
  /** How often each measurement is taken. */
  rounds: number
  /** What the machine can do at best. */
  floors: Floors
  /** Whether a measurement of this name is asked for. */
  wanted: (name: string) => boolean
  /** Says what is going on. */
  progress: (text: string) => void
}

export interface Benchmark {
  name: string
  description: string
  /** How often each measurement is taken unless the user says so. */
  defaultRounds: number
  /** Whether it measures GPUs as well; the others are about this process and the CPU. */
  onGpu?: boolean
  run: (context: BenchmarkContext) => Promise<BenchmarkResult>
}

export interface BenchmarkResult {
  /** For programs. */
  data: unknown
  /** For people. */
  table: string
  /** What is drawn, and compared between runs. */
  ratios?: Ratio[]
  /** What the project promises. */
  targets?: Target[]
  /** What is drawn as points with lines through them. */
  growth?: GrowthPoint[]
}

/** How many times as fast as the other side, from medians of one run. */
export interface Ratio {
  /** Rows that belong together. */
  group: string
  name: string
  /** Python's time by Alambic's. */
  timesAsFast: number
}

export interface Target {
  what: string
  /** As it is promised: `≥ 7×`. */
  target: string
  /** As it was measured: `8.1×`. */
  measured: string
  met: boolean
}

export interface GrowthPoint {
  /** What grows: `batch`. */
  along: string
  what: string
  x: number
  /** Of a loss's forward and backward, or of a training step. */
  milliseconds: number
  /** 2²⁰ bytes: by how much the peak of resident memory is above what the process held before. */
  megabytes: number
}

/** A promise of at least `least` times as fast; nothing to judge where the other side is missing. */
export function atLeast(what: string, least: number, timesAsFast: number | null): Target[] {
  if (timesAsFast === null) return []
  return [{ what, target: `≥ ${least}×`, measured: `${timesAsFast.toFixed(2)}×`, met: timesAsFast >= least }]
}

/** A promise about something that was to be measured: without a measurement it is missed. */
export function atLeastMeasured(what: string, least: number, timesAsFast: number | null): Target[] {
  if (timesAsFast !== null) return atLeast(what, least, timesAsFast)
  return [{ what, target: `≥ ${least}×`, measured: 'not measured', met: false }]
}

/** A promise of at most `most` times the other side's cost. */
export function atMost(what: string, most: number, share: number | null): Target[] {
  if (share === null) return []
  return [{ what, target: `≤ ${most}`, measured: share.toFixed(2), met: share <= most }]
}
