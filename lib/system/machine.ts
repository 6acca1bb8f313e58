/** What this machine is good at, where libtorch does not say it. */
import { readFileSync } from 'node:fs'
import { native } from '../native/loader.js'
import type { Device } from '../tensors/types.js'

/** What computes in bfloat16 faster than in float32 on a device; null if nothing does, or nobody knows. */
export function bfloat16Unit(device: Device): string | null {
  if (device.startsWith('cuda')) return native.systemInfo().cudaBFloat16 ? 'the GPU' : null
  return native.systemInfo().onednn ? bfloat16Instructions(read('/proc/cpuinfo')) : null
}

/** From the first processor in Linux's `/proc/cpuinfo`. */
export function bfloat16Instructions(cpuInfo: string): string | null {
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuInfo)?.[1]?.split(' ') ?? []
  return ['amx_bf16', 'avx512_bf16', 'bf16'].find(each => flags.includes(each)) ?? null
}

/** How many processors this process may keep busy, where its control group has a quota (containers); else null. */
export function processorQuota(): number | null {
  return quotaOf(read('/sys/fs/cgroup/cpu.max'))
}

/** From a `cpu.max`: microseconds per period, `max` without a limit. */
export function quotaOf(cpuMax: string): number | null {
  const [quota, period] = cpuMax.split(/\s+/).map(Number)
  return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? quota / period : null
}

/** Empty where there is no such file: another system, or nothing to read. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
