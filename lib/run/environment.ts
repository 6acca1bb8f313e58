/** Where a run takes place: what its numbers may depend on besides its recipe. */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { native, packageRoot } from '../native/loader.js'

/** What `environment.json` holds. */
export interface Environment {
  alambic: string
  libtorch: string
  node: string
  platform: string
  processor: string
  threads: number
}

export function currentEnvironment(): Environment {
  const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }
  return {
    alambic: manifest.version,
    libtorch: native.systemInfo().torchVersion,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model ?? 'unknown',
    threads: native.numThreads(),
  }
}

/** `threads: 2 → 4`: what is not as it was. */
export function differences(before: object, now: object): string[] {
  const [old, current] = [before, now] as [Record<string, unknown>, Record<string, unknown>]
  const text = (value: unknown) =>
    value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value)
  return [...new Set([...Object.keys(old), ...Object.keys(current)])]
    .filter(name => JSON.stringify(old[name]) !== JSON.stringify(current[name]))
    .map(name => `${name}: ${text(old[name])} → ${text(current[name])}`)
}
