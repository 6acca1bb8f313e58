import { availableParallelism, cpus, loadavg } from 'node:os'
import { native } from '../lib/native/loader.js'

/** What a result depends on besides the code. */
export interface Machine {
  cpu: string
  cores: number
  /** Load average of the last minute: other work disturbs timings. */
  load: number
  /** Threads of libtorch, on both sides. */
  threads: number
  node: string
  libtorch: string
  /** The instruction set that libtorch's kernels use. */
  instructions: string
}

export function describeMachine(): Machine {
  const { torchVersion, cpuCapability } = native.systemInfo()
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    load: Math.round(loadavg()[0]! * 100) / 100,
    threads: native.numThreads(),
    node: process.version.slice(1),
    libtorch: torchVersion,
    instructions: cpuCapability,
  }
}
