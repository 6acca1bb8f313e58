/** Resident memory of a process that trains: whether it stays, and how high it gets. */
import {
  atMost,
  type Benchmark,
  type BenchmarkContext,
  type BenchmarkResult,
  type Target,
} from './benchmark.js'
import { runChild, type TrainTask } from './child.js'
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
  const fifth = Math.ceil(resident.length / 5)
  return {
    networks: `${task.teacher} → ${task.student}`,
    batch: task.batch,
    steps: task.steps,
    early: median(resident.slice(fifth, 2 * fifth)),
    late: median(resident.slice(-fifth)),
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
    const prepare = { student, teacher, batch, size, dtype: 'float32', compiled: false }
    await peer.ask({ prepare })
    await peer.ask({ steps })
    return (await peer.ask<{ peak: number }>({ memory: true })).peak * 1024
  } finally {
    peer.close()
  }
}

async function run({ python, rounds, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  if (process.platform !== 'linux')
    return { data: null, table: 'memory is read from /proc, which only Linux has' }
  progress(`${rounds} steps`)
  const stays = await measure({ ...long, steps: Math.max(20, rounds) }, python)
  progress('peak')
  const high = await measure({ ...large, steps: 5 }, python)
  const results = [stays, high]
  return {
    data: results,
    table: render(results),
    targets: [flat(stays), ...results.flatMap(peakTarget)],
  }
}

function flat({ steps, early, late }: MemoryResult): Target {
  const growth = (late - early) / early
  return {
    what: `resident memory over ${steps} steps, growth`,
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

function render(results: MemoryResult[]): string {
  const mebibytes = (bytes: number | null) => (bytes === null ? '–' : (bytes / 2 ** 20).toFixed(0))
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
  run,
}
