/** Resident memory of a process that trains: whether it stays, and how high it gets. */
import {
  atMost,
  type Benchmark,
  type BenchmarkContext,
  type BenchmarkResult,
  type Target,
} from './benchmark.js'
import type { Device, DeviceMemory } from '../lib/index.js'
import { runChild, type TrainTask } from './child.js'
import { isGpu } from './device.js'
import { PythonPeer, type Python } from './python.js'
import { median } from './statistics.js'
import { formatTable } from './table.js'

const long = { kind: 'train', teacher: 'resnet20', student: 'resnet8', batch: 8, size: 32 } as const
const large = { kind: 'train', teacher: 'resnet56', student: 'resnet20', batch: 64, size: 32 } as const

/** Memory may differ by so much between the beginning and the end of a long training that counts as flat. */
const flatWithin = 0.02

interface MemoryResult {
  networks: string
  batch: number
  steps: number
  /** Bytes after the first fifth of the steps, and at the end. */
  early: number
  late: number
  peak: number
  pythonPeak: number | null
}

async function measure(task: TrainTask, python: Python | null): Promise<MemoryResult> {
  const { resident, peak } = await runChild(task)
  return {
    networks: `${task.teacher} → ${task.student}`,
    batch: task.batch,
    steps: task.steps,
    ...growthOf(resident),
    peak,
    pythonPeak: python && (await peakOfPython(python, task)),
  }
}

async function peakOfPython(
  python: Python,
  { teacher, student, batch, size, steps }: TrainTask,
): Promise<number> {
  const peer = new PythonPeer(python, 'steps.py')
  try {
    const prepare = { student, teacher, batch, size, dtype: 'float32', device: 'cpu', compiled: false }
    await peer.ask({ prepare })
    await peer.ask({ steps })
    return (await peer.ask<{ peak: number }>({ memory: true })).peak * 1024
  } finally {
    peer.close()
  }
}

/** Two trainings, eager and compiled: what the GPU's memory holds early and late. */
async function runOnGpu(device: Device, { rounds, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const results: GpuMemoryResult[] = []
  for (const compile of [false, true]) {
    const how = compile ? 'compiled' : 'eager'
    progress(`${rounds} steps, ${how}`)
    const { gpu, resident } = await runChild({ ...long, steps: rounds, device, compile })
    results.push({ how, steps: rounds, ...summarize(resident, gpu) })
  }
  return {
    data: results,
    table: renderGpu(results),
    targets: results.flatMap(({ how, steps, ...kinds }) =>
      memoryKinds.map(kind => flat(`${memoryNames[kind]}, ${how}`, steps, kinds[kind])),
    ),
  }
}

const memoryKinds = ['allocated', 'reserved', 'resident'] as const
const memoryNames = {
  allocated: 'allocated GPU memory',
  reserved: 'reserved GPU memory',
  resident: 'resident memory',
}

/** Bytes after the first fifth of the steps, and at the end. */
interface Growth {
  early: number
  late: number
}

interface GpuMemoryResult extends Record<(typeof memoryKinds)[number], Growth> {
  how: string
  steps: number
}

function summarize(resident: number[], gpu: DeviceMemory[]): Omit<GpuMemoryResult, 'how' | 'steps'> {
  return {
    allocated: growthOf(gpu.map(({ allocated }) => allocated)),
    reserved: growthOf(gpu.map(({ reserved }) => reserved)),
    resident: growthOf(resident),
  }
}

function growthOf(samples: number[]): Growth {
  const fifth = Math.ceil(samples.length / 5)
  return { early: median(samples.slice(fifth, 2 * fifth)), late: median(samples.slice(-fifth)) }
}

function renderGpu(results: GpuMemoryResult[]): string {
  return formatTable(
    ['training', 'steps', 'memory', 'early MiB', 'late MiB'],
    results.flatMap(({ how, steps, ...kinds }) =>
      memoryKinds.map(kind => [
        `${long.teacher} → ${long.student}, batch ${long.batch}, ${how}`,
        String(steps),
        memoryNames[kind],
        mebibytes(kinds[kind].early),
        mebibytes(kinds[kind].late),
      ]),
    ),
    3,
  )
}

async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const { device, python, rounds, progress } = context
  if (process.platform !== 'linux')
    return { data: null, table: 'memory is read from /proc, which only Linux has' }
  if (isGpu(device)) return runOnGpu(device, context)
  progress(`${rounds} steps`)
  const stays = await measure({ ...long, steps: Math.max(20, rounds) }, python)
  progress('peak')
  const high = await measure({ ...large, steps: 5 }, python)
  const results = [stays, high]
  return {
    data: results,
    table: render(results),
    targets: [flat('resident memory', stays.steps, stays), ...results.flatMap(peakTarget)],
  }
}

function flat(what: string, steps: number, { early, late }: Growth): Target {
  const growth = (late - early) / early
  return {
    what: `${what} over ${steps} steps, growth`,
    target: `≤ ${100 * flatWithin} %`,
    measured: `${(100 * growth).toFixed(1)} %`,
    met: growth <= flatWithin,
  }
}

function peakTarget({ networks, batch, peak, pythonPeak }: MemoryResult): Target[] {
  return atMost(
    `peak of memory, ${networks}, batch ${batch}, of Python's`,
    1,
    pythonPeak && peak / pythonPeak,
  )
}

function mebibytes(bytes: number | null): string {
  return bytes === null ? '–' : (bytes / 2 ** 20).toFixed(0)
}

function render(results: MemoryResult[]): string {
  return formatTable(
    ['training', 'steps', 'early MiB', 'late MiB', 'peak MiB', 'Python peak MiB'],
    results.map(({ networks, batch, steps, early, late, peak, pythonPeak }) => [
      `${networks}, batch ${batch}`,
      String(steps),
      ...[early, late, peak, pythonPeak].map(mebibytes),
    ]),
    1,
  )
}

export const memory: Benchmark = {
  name: 'memory',
  description: 'resident memory of distillation in a process of its own; rounds are steps',
  defaultRounds: 1000,
  onGpu: true,
  run,
}
