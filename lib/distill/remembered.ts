/**
 * What trials found, by machine, libtorch and models, in a file in the user's cache folder. It spares time and nothing
 * else hangs on it: a file that cannot be read counts as empty, one that cannot be written is not written.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { processorQuota } from '../system/machine.js'
import { nvidiaGpus } from '../native/addon.js'
import { cacheFolder, minorVersion } from '../native/libtorch.js'
import { locateBinaries, native } from '../native/loader.js'
import { fileIdentity } from '../native/state.js'
import { tensorsOfBatch } from '../data/dataset.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Choice, Plan, Way } from './speed.js'
import type { Findings, Subject } from './trials.js'

export interface Remembered extends Findings {
  /** When it was tried: `2026-11-27`. */
  day: string
}

/** The oldest go first. */
const mostEntries = 200

/** The file: `speed.json` in the cache folder, which `ALAMBIC_CACHE` moves. */
export function memoryFile(): string {
  return join(cacheFolder(), 'speed.json')
}

/**
 * What trials found under a {@link keyOf key}; undefined where there were none. What they found on a busy machine counts
 * for that day.
 */
export function recall(key: string): Remembered | undefined {
  const entry = readEntries()[key]
  return isRemembered(entry) && (entry.isSure || entry.day === today()) ? entry : undefined
}

/** Remembers what trials found, if that can be written. */
export function rememberTrials(key: string, findings: Findings): void {
  const others = Object.entries(readEntries()).filter(([each]) => each !== key)
  const entries = Object.fromEntries([...others.slice(1 - mostEntries), [key, { ...findings, day: today() }]])
  write(memoryFile(), JSON.stringify({ version: 1, entries }, null, 1))
}

function today(): string {
  return new Date().toISOString().slice(0, 10)
}

function readEntries(): Record<string, unknown> {
  try {
    const { version, entries } = JSON.parse(readFileSync(memoryFile(), 'utf8')) as Record<string, unknown>
    if (version === 1 && typeof entries === 'object' && entries !== null && !Array.isArray(entries))
      return entries as Record<string, unknown>
  } catch {
    // Missing, unreadable, cut short: there is nothing to know.
  }
  return {}
}

/** Readers see the old content or the new one. */
function write(path: string, content: string): void {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(temporary, content)
    renameSync(temporary, path)
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code !== 'string') throw error // not the system's
    try {
      rmSync(temporary, { force: true })
    } catch {
      // Where the folder cannot be written to, there is nothing to remove.
    }
  }
}

// ---- What it depends on ----------------------------------------------------------------------------------------------

/** Of a plan before its trials. */
export function keyOf(plan: Plan, { modules, optimizer, batch, clipGradNorm, key }: Subject): string {
  const what = {
    machine: machineOf(plan),
    start: [plan.way, [...plan.open].sort()],
    trained: modules.trained.map(signatureOf),
    used: modules.used.map(signatureOf),
    batch: tensorsOfBatch(batch).map(formOf),
    method: [key, optimizer.constructor.name, clipGradNorm !== undefined],
  }
  return createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32)
}

function machineOf({ device }: Plan): unknown {
  const { torchVersion, libtorchPath, cpuCapability } = native.systemInfo()
  const { loader, cores } = locateBinaries()
  const core = cores[minorVersion(torchVersion)]
  const settings = Object.entries(process.env).filter(([name]) =>
    /^(OMP|GOMP|KMP|MKL|ONEDNN|DNNL)_/.test(name),
  )
  return [
    [process.platform, process.arch, cpus()[0]?.model, availableParallelism(), processorQuota()],
    [core && fileIdentity(core), torchVersion, libtorchPath, cpuCapability],
    [device, device === 'cpu' ? [] : nvidiaGpus(loader)],
    settings.sort(),
  ]
}

/** Classes, options and shapes: what its steps take depends on these, and not on the weights. */
function signatureOf(module: Module): unknown {
  return [
    String(module),
    module.namedModules().map(([path, part]) => [path, part.constructor.name]),
    module.namedParameters().map(([name, parameter]) => [name, formOf(parameter), parameter.requiresGrad]),
  ]
}

function formOf({ shape, dtype, device }: Tensor): unknown {
  return [shape, dtype, device]
}

// ---- Reading what anybody may have written ---------------------------------------------------------------------------

function isRemembered(entry: unknown): entry is Remembered {
  if (!isObject(entry) || !isObject(entry['way']) || !isObject(entry['choices'])) return false
  const choices = Object.entries(entry['choices'])
  return (
    typeof entry['day'] === 'string' &&
    typeof entry['isSure'] === 'boolean' &&
    isWay(entry['way']) &&
    choices.every(([name, choice]) => Object.hasOwn(entry['way'] as object, name) && isChoice(choice))
  )
}

function isWay(way: Record<string, unknown>): boolean {
  const { precision, memoryFormat, prepareTeacher, threads, compile }: Partial<Record<keyof Way, unknown>> =
    way
  return (
    ['float32', 'bfloat16', 'float16'].includes(precision as string) &&
    ['contiguous', 'channelsLast'].includes(memoryFormat as string) &&
    typeof prepareTeacher === 'boolean' &&
    Number.isInteger(threads) &&
    (threads as number) >= 1 &&
    (threads as number) <= 4096 &&
    typeof compile === 'boolean'
  )
}

function isChoice(choice: unknown): choice is Choice {
  return isObject(choice) && typeof choice['what'] === 'string' && typeof choice['why'] === 'string'
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
