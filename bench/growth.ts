/** How time and memory grow: each point is a process of its own. Linear is what they should be. */
import type { Benchmark, BenchmarkContext, BenchmarkResult, GrowthPoint, Target } from './benchmark.js'
import { runChild, type LossTask, type TrainTask } from './child.js'
import { formatMilliseconds, formatTable } from './table.js'

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
      along: 'batch',
      points: [16, 32, 64, 128].map(x => ({ x, task: task([x, 128, 32, 32], 1) })),
    },
    {
      what,
      along: 'pixels of a feature',
      points: [16, 32, 48, 64].map(side => ({ x: side * side, task: task([32, 128, side, side], 1) })),
    },
    {
      what,
      along: 'levels',
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
      along: 'batch',
      points: [16, 32, 64, 128].map(x => ({ x, task: { ...base, batch: x, size: 32 } })),
    },
    {
      what,
      along: 'pixels of a feature',
      points: [16, 32, 48, 64].map(side => ({ x: side * side, task: { ...base, batch: 32, size: side } })),
    },
    {
      what,
      along: 'levels',
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
  for (const { what, along, points } of all.filter(series => wanted(`${series.what} ${series.along}`)))
    for (const { x, task } of points) {
      progress(`${what}, ${along} ${x}`)
      const { times, before, peak } = await runChild(task)
      const milliseconds = Math.min(...times.slice(2)) // of a lone process: what disturbs it only adds
      growth.push({ along, what, x, milliseconds, megabytes: (peak - before) / 2 ** 20 })
    }
  return { data: growth, table: render(growth), growth, targets: linearity(growth) }
}

/** Levels of a network differ in size, so a step's need not be on a line. */
function linearity(growth: GrowthPoint[]): Target[] {
  return seriesOf(growth)
    .filter(([{ what, along }]) => !(what === 'distillation step' && along === 'levels'))
    .flatMap(([{ what, along }, points]) =>
      (['milliseconds', 'megabytes'] as const).map(field => {
        const fit = determination(
          points.map(point => point.x),
          points.map(point => point[field]!),
        )
        return {
          what: `${field === 'milliseconds' ? 'time' : 'memory'} of ${what} along ${along} is linear, R²`,
          target: '≥ 0.95',
          measured: fit.toFixed(3),
          met: fit >= 0.95,
        }
      }),
    )
}

function seriesOf(growth: GrowthPoint[]): [GrowthPoint, GrowthPoint[]][] {
  const series = new Map<string, GrowthPoint[]>()
  for (const point of growth) {
    const key = `${point.what}, ${point.along}`
    series.set(key, [...(series.get(key) ?? []), point])
  }
  return [...series.values()].map(points => [points[0]!, points])
}

/** R² of the line of least squares. */
function determination(xs: number[], ys: number[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [x0, y0] = [mean(xs), mean(ys)]
  const xy = xs.reduce((sum, x, i) => sum + (x - x0) * (ys[i]! - y0), 0)
  const xx = xs.reduce((sum, x) => sum + (x - x0) ** 2, 0)
  const yy = ys.reduce((sum, y) => sum + (y - y0) ** 2, 0)
  return yy === 0 ? 1 : xy ** 2 / (xx * yy)
}

function render(growth: GrowthPoint[]): string {
  return formatTable(
    ['what', 'along', 'x', 'ms', 'MiB'],
    growth.map(({ what, along, x, milliseconds, megabytes }) => [
      what,
      along,
      String(x),
      formatMilliseconds(milliseconds),
      megabytes?.toFixed(0) ?? '–',
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
