/** How time and memory grow. Linear is what they should be. */
import type { Benchmark, BenchmarkContext, BenchmarkResult, GrowthPoint, Target } from './benchmark.js'
import { runChild, type ChildResult, type LossTask, type TrainTask } from './child.js'
import { fitLine, median, type Line } from './statistics.js'
import { formatMilliseconds, formatTable } from './table.js'

interface Series {
  what: string
  along: string
  xs: number[]
  /** In the order of `xs`. */
  measure: () => Promise<{ milliseconds: number; megabytes: number }[]>
}

type Features = LossTask['points'][number]

const megabytesOf = ({ before, peak }: ChildResult) => (peak - before) / 2 ** 20

/** Memory in a process for each point; time in one process for all, because memory is now faster, now slower. */
function lossSeries(criterion: LossTask['criterion'], steps: number): Series[] {
  const series = (along: string, xs: number[], featuresOf: (x: number) => Features): Series => ({
    what: `loss, ${criterion}`,
    along,
    xs,
    async measure() {
      const points = xs.map(featuresOf)
      const megabytes: number[] = []
      for (const point of points)
        megabytes.push(megabytesOf(await runChild({ kind: 'loss', criterion, points: [point], steps: 3 })))
      const { times } = await runChild({ kind: 'loss', criterion, points, steps: 4 * steps })
      return times.map((ofPoint, i) => ({
        milliseconds: median(ofPoint.slice(2)),
        megabytes: megabytes[i]!,
      }))
    },
  })
  return [
    series('batch, images', [16, 32, 64, 128], x => ({ shape: [x, 128, 32, 32], levels: 1 })),
    series('size of features, H × W', [256, 1024, 2304, 4096], x => ({
      shape: [32, 128, Math.sqrt(x), Math.sqrt(x)],
      levels: 1,
    })),
    series('levels of features', [1, 2, 4, 8], x => ({ shape: [32, 64, 32, 32], levels: x })),
  ]
}

/** Trainings compute more than they move: each in a process of its own, the median of three. */
function stepSeries(steps: number): Series[] {
  const base = { kind: 'train', teacher: 'resnet20', student: 'resnet8', steps } as const
  const series = (along: string, xs: number[], taskOf: (x: number) => TrainTask): Series => ({
    what: 'distillation step',
    along,
    xs,
    async measure() {
      const results = xs.map(() => [] as ChildResult[])
      for (let pass = 0; pass < 3; pass++)
        for (const [i, x] of xs.entries()) results[i]!.push(await runChild(taskOf(x)))
      return results.map(ofPoint => ({
        milliseconds: median(ofPoint.map(({ times }) => Math.min(...times[0]!.slice(2)))),
        megabytes: median(ofPoint.map(megabytesOf)),
      }))
    },
  })
  return [
    series('batch, images', [16, 32, 64, 128], x => ({ ...base, batch: x, size: 32 })),
    series('size of features, H × W', [256, 1024, 2304, 4096], x => ({
      ...base,
      batch: 32,
      size: Math.sqrt(x),
    })),
    series('levels of features', [1, 2, 3], x => ({ ...base, batch: 64, size: 32, levels: x })),
  ]
}

async function run({ rounds, wanted, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  if (process.platform !== 'linux')
    return { data: null, table: 'memory is read from /proc, which only Linux has' }
  const steps = rounds + 2
  const criteria = ['mse', 'cosine', 'attention'] as const
  const all = [...criteria.flatMap(criterion => lossSeries(criterion, steps)), ...stepSeries(steps)]
  const growth: GrowthPoint[] = []
  for (const { what, along, xs, measure } of all) {
    if (!wanted(`${what} ${along}`)) continue
    progress(`${what}, ${along}`)
    for (const [i, point] of (await measure()).entries()) growth.push({ what, along, x: xs[i]!, ...point })
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
