/** How time and memory grow: each point is a process of its own. Linear is what they should be. */
import type { Benchmark, BenchmarkContext, BenchmarkResult, GrowthPoint, Target } from './benchmark.js'
import { runChild, type LossTask, type TrainTask } from './child.js'
import { fitLine, median, type Line } from './statistics.js'
import { formatMilliseconds, formatTable } from './table.js'

/** For some seconds, memory may be twice as fast as usual where a hypervisor moves processors. */
const passes = 3

interface Series {
  what: string
  along: string
  points: { x: number; task: TrainTask | LossTask }[]
}

function lossSeries(criterion: LossTask['criterion'], steps: number): Series[] {
  const what = `loss, ${criterion}`
  const task = (shape: number[], levels: number): LossTask => ({
    kind: 'loss',
    criterion,
    shape,
    levels,
    steps: 4 * steps,
  })
  return [
    {
      what,
      along: 'batch, images',
      points: [16, 32, 64, 128].map(x => ({ x, task: task([x, 128, 32, 32], 1) })),
    },
    {
      what,
      along: 'size of features, H × W',
      points: [16, 32, 48, 64].map(side => ({ x: side * side, task: task([32, 128, side, side], 1) })),
    },
    {
      what,
      along: 'levels of features',
      points: [1, 2, 4, 8].map(x => ({ x, task: task([32, 64, 32, 32], x) })),
    },
  ]
}

function stepSeries(steps: number): Series[] {
  const what = 'distillation step'
  const base = { kind: 'train', teacher: 'resnet20', student: 'resnet8', steps } as const
  return [
    {
      what,
      along: 'batch, images',
      points: [16, 32, 64, 128].map(x => ({ x, task: { ...base, batch: x, size: 32 } })),
    },
    {
      what,
      along: 'size of features, H × W',
      points: [16, 32, 48, 64].map(side => ({ x: side * side, task: { ...base, batch: 32, size: side } })),
    },
    {
      what,
      along: 'levels of features',
      points: [1, 2, 3].map(x => ({ x, task: { ...base, batch: 64, size: 32, levels: x } })),
    },
  ]
}

async function run({ rounds, wanted, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  if (process.platform !== 'linux')
    return { data: null, table: 'memory is read from /proc, which only Linux has' }
  const steps = rounds + 2
  const criteria = ['mse', 'cosine', 'attention'] as const
  const all = [...criteria.flatMap(criterion => lossSeries(criterion, steps)), ...stepSeries(steps)]
  const growth: GrowthPoint[] = []
  for (const { what, along, points } of all.filter(series => wanted(`${series.what} ${series.along}`))) {
    const measured = points.map(() => ({ milliseconds: [] as number[], megabytes: [] as number[] }))
    for (let pass = 0; pass < passes; pass++)
      for (const [i, { x, task }] of points.entries()) {
        progress(`${what}, ${along} ${x}`)
        const { times, before, peak } = await runChild(task)
        measured[i]!.milliseconds.push(Math.min(...times.slice(2))) // of a lone process: what disturbs it only adds
        measured[i]!.megabytes.push((peak - before) / 2 ** 20)
      }
    for (const [i, { milliseconds, megabytes }] of measured.entries())
      growth.push({
        what,
        along,
        x: points[i]!.x,
        milliseconds: median(milliseconds),
        megabytes: median(megabytes),
      })
  }
  return { data: growth, table: render(growth), growth, targets: linearity(growth) }
}

/** A line through the points of a series. */
export interface Fit extends Line {
  what: string
  along: string
  field: 'milliseconds' | 'megabytes'
  /** Where the points begin and end. */
  from: number
  to: number
}

/** Of what should be linear. Levels of a network differ in size, so a step's need not be on a line. */
export function fitsOf(growth: readonly GrowthPoint[]): Fit[] {
  return seriesOf(growth)
    .filter(([{ what, along }]) => !(what === 'distillation step' && along === 'levels of features'))
    .flatMap(([{ what, along }, points]) => {
      const xs = points.map(({ x }) => x)
      const [from, to] = [Math.min(...xs), Math.max(...xs)]
      return (['milliseconds', 'megabytes'] as const).map(field => {
        const line = fitLine(
          xs,
          points.map(point => point[field]),
        )
        return { what, along, field, from, to, ...line }
      })
    })
}

function linearity(growth: readonly GrowthPoint[]): Target[] {
  return fitsOf(growth).map(({ what, along, field, determination }) => ({
    what: `${field === 'milliseconds' ? 'time' : 'memory'} of ${what} along ${along} is linear, R²`,
    target: '≥ 0.95',
    measured: determination.toFixed(3),
    met: determination >= 0.95,
  }))
}

function seriesOf(growth: readonly GrowthPoint[]): [GrowthPoint, GrowthPoint[]][] {
  const series = new Map<string, GrowthPoint[]>()
  for (const point of growth) {
    const key = `${point.what}, ${point.along}`
    series.set(key, [...(series.get(key) ?? []), point])
  }
  return [...series.values()].map(points => [points[0]!, points])
}

function render(growth: GrowthPoint[]): string {
  return formatTable(
    ['what', 'along', 'x', 'ms', 'MiB'],
    growth.map(({ what, along, x, milliseconds, megabytes }) => [
      what,
      along,
      String(x),
      formatMilliseconds(milliseconds),
      megabytes.toFixed(0),
    ]),
    2,
  )
}

export const growth: Benchmark = {
  name: 'growth',
  description: 'time and memory against batch, size and number of features',
  defaultRounds: 4,
  run,
}
