/**
 * Training steps, alone and taught, by the library's own trainers, against a loop in Python. One batch is
 * learned again and again; each training makes some steps in turn.
 */
import {
  keep,
  trainClassifier,
  trainWithFeatureDistillation,
  type Device,
  type Tensor,
} from '../lib/index.js'
import { describeStream } from '../lib/distill/compiled.js'
import type { FitOptions, GraphReport } from '../lib/distill/index.js'
import {
  atLeast,
  atLeastMeasured,
  type Benchmark,
  type BenchmarkContext,
  type BenchmarkResult,
  type Target,
} from './benchmark.js'
import { contest, type Contestant } from './contest.js'
import { isGpu } from './device.js'
import { countFlops } from './flops.js'
import { flopsFloor, type Floors } from './floors.js'
import { PacedTraining, stepsPerTurn } from './paced-training.js'
import { makeBatch, pairs, type Pair } from './pairs.js'
import { PythonPeers, type Python } from './python.js'
import { formatMilliseconds, formatTable, formatTimes } from './table.js'

const kinds = ['student', 'distillation'] as const
type Kind = (typeof kinds)[number]
type DType = 'float32' | 'bfloat16'

/** How Alambic runs the step. */
interface Variant {
  name: string
  dtype: DType
  options: Partial<FitOptions>
  /**
   * How many times as fast as Python's eager float32 the distillation step of the first pair is promised to be: as fast
   * as users can have it in that precision.
   */
  promised?: number
  /** The same of a GPU, where it is promised not to be slower than torch.compile either. */
  promisedOnGpu?: number
}

const fast = (precision: DType): Partial<FitOptions> => ({ speed: { precision } })

const variants: readonly Variant[] = [
  { name: 'eager', dtype: 'float32', options: {} },
  { name: 'compiled', dtype: 'float32', options: { compile: true }, promisedOnGpu: 4 },
  { name: 'speed', dtype: 'float32', options: fast('float32') },
  {
    name: 'speed, compiled',
    dtype: 'float32',
    options: { ...fast('float32'), compile: true },
    promised: 1.4,
  },
  { name: 'speed', dtype: 'bfloat16', options: fast('bfloat16') },
  {
    name: 'speed, compiled',
    dtype: 'bfloat16',
    options: { ...fast('bfloat16'), compile: true },
    promised: 2,
  },
]

/** How Python runs it. The first is what all are compared with. */
interface PythonVariant {
  name: string
  dtype: DType
  compiled: boolean
  processes: number
}

const pythonVariants: readonly PythonVariant[] = [
  { name: 'Python, eager', dtype: 'float32', compiled: false, processes: 3 },
  { name: 'Python, eager', dtype: 'bfloat16', compiled: false, processes: 1 },
  { name: 'Python, torch.compile', dtype: 'float32', compiled: true, processes: 1 },
]

/** torch.compile takes minutes for deep networks; it is given so many seconds, and only for the first pair. */
const compileSeconds = 150

interface StepResult {
  pair: string
  kind: Kind
  batch: number
  who: string
  dtype: DType
  /** Of a step. */
  milliseconds: number | null
  floor: number
  /** Against Python's eager float32. */
  timesAsFast: number | null
  /** Of a compiled step on a GPU. */
  graph?: GraphReport
}

interface Run {
  who: string
  dtype: DType
  contestant: Contestant | null
  close: () => Promise<GraphReport | undefined>
}

function startTraining(pair: Pair, kind: Kind, { name, dtype, options }: Variant, device: Device): Run {
  const student = pair.makeStudent().to(device)
  const teacher = pair.makeTeacher().to(device)
  const batch = makeBatch(pair, device)
  for (const tensor of Object.values(batch) as Tensor[]) keep(tensor)
  const training = new PacedTraining(
    (batches, paced) =>
      kind === 'student'
        ? trainClassifier(student, batches, null, { ...options, ...paced })
        : trainWithFeatureDistillation(teacher, student, batches, null, {
            ...options,
            ...paced,
            featureLayers: pair.featureLayers,
          }),
    batch,
  )
  const close = async () => (await training.stop()).compilation?.graph
  return { who: name, dtype, contestant: { run: () => training.step() }, close }
}

async function startPython(
  python: Python,
  pair: Pair,
  kind: Kind,
  { name, dtype, compiled, processes }: PythonVariant,
  device: Device,
): Promise<Run> {
  const peers = new PythonPeers(processes, python, 'steps.py')
  const prepare = {
    student: pair.python.student,
    teacher: kind === 'student' ? null : pair.python.teacher,
    batch: pair.batch,
    size: pair.size,
    dtype,
    device,
    compiled,
  }
  const isReady = await peers.askAllWithin({ prepare }, compiled ? compileSeconds : 120)
  const run = async () =>
    (await peers.askNext<{ milliseconds: number }>({ steps: stepsPerTurn })).milliseconds
  const close = () => Promise.resolve(void peers.close())
  return { who: name, dtype, contestant: isReady ? { run } : null, close }
}

async function measure(
  pair: Pair,
  kind: Kind,
  { device, python, torchCompile, rounds, floors, progress }: BenchmarkContext,
): Promise<StepResult[]> {
  const runs: Run[] = variants.map(variant => startTraining(pair, kind, variant, device))
  if (python)
    for (const variant of pythonVariants)
      if (!variant.compiled || (torchCompile && pair === pairs[0] && kind === 'distillation')) {
        progress(`${pair.name}, ${kind}: ${variant.name}, ${variant.dtype}`)
        runs.push(await startPython(python, pair, kind, variant, device))
      }
  progress(`${pair.name}, ${kind}`)
  const able = runs.filter(run => run.contestant !== null)
  const times = await contest(
    Object.fromEntries(able.map(run => [`${run.who} ${run.dtype}`, run.contestant!])),
    // On a GPU more than forty steps: by then the library knows which of its graphs is the faster.
    { rounds, warmups: isGpu(device) ? 9 : 3 },
  )
  const graphs: (GraphReport | undefined)[] = []
  for (const run of runs) graphs.push(await run.close())
  const baseline = times['Python, eager float32'] ?? null
  return runs.map(({ who, dtype }, i) => {
    const graph = graphs[i]
    const milliseconds = times[`${who} ${dtype}`] ?? null
    return {
      pair: pair.name,
      kind,
      batch: pair.batch,
      who,
      dtype,
      milliseconds,
      floor: stepFloor(pair, kind, floors, dtype),
      timesAsFast: baseline !== null && milliseconds !== null ? baseline / milliseconds : null,
      ...(graph && { graph }),
    }
  })
}

/** A training step computes a forward three times: for the output, the weights and the inputs. */
function stepFloor(pair: Pair, kind: Kind, floors: Floors, dtype: DType): number {
  const shape = [1, 3, pair.size, pair.size]
  const taught = kind === 'student' ? 0 : countFlops(pair.makeTeacher(), shape)
  const flops = pair.batch * (3 * countFlops(pair.makeStudent(), shape) + taught)
  return flopsFloor(floors, flops, dtype)
}

async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const results: StepResult[] = []
  for (const pair of pairs)
    for (const kind of kinds) {
      if (!context.wanted(`${pair.name} ${kind}`)) continue
      context.progress(`${pair.name}, ${kind}`)
      results.push(...(await measure(pair, kind, context)))
    }
  const ours = results.filter(({ who }) => !who.startsWith('Python'))
  return {
    data: results,
    table: render(results),
    ratios: ours.flatMap(({ pair, kind, who, dtype, timesAsFast }) =>
      timesAsFast === null ? [] : [{ group: `${kind} step`, name: `${pair}, ${who} ${dtype}`, timesAsFast }],
    ),
    targets: isGpu(context.device) ? targetsOnGpu(results, context) : targetsOnCpu(results),
  }
}

/** What is promised of the distillation step of the first pair. */
function promisedResults(
  results: StepResult[],
  by: 'promised' | 'promisedOnGpu',
): (StepResult & { what: string; least: number })[] {
  return results
    .filter(({ pair, kind }) => pair === pairs[0]!.name && kind === 'distillation')
    .flatMap(result => {
      const { who, dtype } = result
      const least = variants.find(each => each.name === who && each.dtype === dtype)?.[by]
      return least === undefined
        ? []
        : [{ ...result, what: `distillation step, ${pairs[0]!.name}, ${who} ${dtype}`, least }]
    })
}

function targetsOnCpu(results: StepResult[]): Target[] {
  return promisedResults(results, 'promised').flatMap(({ what, least, timesAsFast }) =>
    atLeast(what, least, timesAsFast),
  )
}

function targetsOnGpu(results: StepResult[], { torchCompile }: BenchmarkContext): Target[] {
  const rival = results.find(({ who }) => who === 'Python, torch.compile')?.milliseconds ?? null
  return promisedResults(results, 'promisedOnGpu').flatMap(({ what, least, timesAsFast, milliseconds }) => [
    ...atLeastMeasured(`${what}, against eager Python`, least, timesAsFast),
    ...(torchCompile
      ? atLeastMeasured(
          `${what}, against torch.compile(mode="reduce-overhead")`,
          1,
          rival !== null && milliseconds !== null ? rival / milliseconds : null,
        )
      : []),
  ])
}

function render(results: StepResult[]): string {
  return [renderTimes(results), ...results.flatMap(describeGraph)].join('\n')
}

/** How a step went as a CUDA graph, on a GPU. */
function describeGraph({ pair, kind, who, dtype, graph }: StepResult): string[] {
  const { reason, teacherStream } = graph ?? {}
  const how =
    reason !== undefined ? `without a CUDA graph, ${reason}` : teacherStream && describeStream(teacherStream)
  return how === undefined ? [] : [`${pair}, ${kind}, ${who} ${dtype}: ${how}`]
}

function renderTimes(results: StepResult[]): string {
  return formatTable(
    ['networks', 'step', 'by', 'dtype', 'ms', '× Python eager float32', 'floor ms', 'of the floor'],
    results.map(({ pair, kind, batch, who, dtype, milliseconds, floor, timesAsFast }) => [
      `${pair}, batch ${batch}`,
      kind,
      who,
      dtype,
      milliseconds === null ? 'not ready in time' : formatMilliseconds(milliseconds),
      formatTimes(timesAsFast),
      formatMilliseconds(floor),
      milliseconds === null ? '–' : `${(milliseconds / floor).toFixed(1)}×`,
    ]),
    4,
  )
}

export const steps: Benchmark = {
  name: 'steps',
  description: 'training steps, alone and taught, against a loop in Python',
  defaultRounds: 7,
  onGpu: true,
  run,
}
