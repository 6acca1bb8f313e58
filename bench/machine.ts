import { availableParallelism, cpus, loadavg } from 'node:os'
import type { Device } from '../lib/index.js'
import { nvidiaGpus } from '../lib/native/addon.js'
import { loadAddon, native } from '../lib/native/loader.js'
import { isGpu } from './device.js'

/** What a result depends on besides the code. */
export interface Machine {
  /** Where was measured. */
  device: string
  /** The GPUs that were measured or could have been. */
  gpu: string
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

export function describeMachine(device: Device): Machine {
  const { torchVersion, cpuCapability, cudaDevices } = native.systemInfo()
  if (isGpu(device) && cudaDevices === 0)
    throw new Error(`there is no usable GPU for --device ${device}: npx alambic doctor says why`)
  return {
    device,
    gpu: nvidiaGpus(loadAddon().files.loader).join(', ') || 'none',
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    load: Math.round(loadavg()[0]! * 100) / 100,
    threads: native.numThreads(),
    node: process.version.slice(1),
    libtorch: torchVersion,
    instructions: cpuCapability,
  }
}
