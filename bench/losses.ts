/** The distillation losses, forward and backward, against the seed's formulas in Python. */
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  keep,
  manualSeed,
  randint,
  randn,
  scope,
  type Tensor,
} from '../lib/index.js'
import type { FeatureCriterion } from '../lib/distill/index.js'
import { atLeast, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { absent, contest } from './contest.js'
import { bytesFloor } from './floors.js'
import { PythonPeer } from './python.js'
import { formatMilliseconds, formatTable } from './table.js'

const shapes = [
  [32, 256, 32, 32],
  [32, 64, 32, 32],
  [64, 256, 8, 8],
  [16, 16, 8, 8],
] as const
type Shape = readonly number[]

const lossNames = ['mse', 'cosine', 'attention'] as const
type LossName = (typeof lossNames)[number]

/** How many times as fast as Python each is promised to be at each of the shapes. */
const promised: Record<LossName, readonly (number | null)[]> = {
  mse: [1.5, 1, 1, 1],
  cosine: [7, 10, 10, null],
  attention: [7, 3.5, 3.5, null],
}

interface LossResult {
  loss: LossName
  shape: Shape
  layout: Layout
  /** Milliseconds. */
  node: number
  python: number | null
  floor: number
  timesAsFast: number | null
}

const layouts = ['contiguous', 'channelsLast'] as const
type Layout = (typeof layouts)[number]

interface Inputs {
  student: Tensor
  teacher: Tensor
  logits: Tensor
  labels: Tensor
}

function makeLoss(name: LossName): FeatureCriterion {
  return name === 'attention' ? new AttentionTransfer() : new FeatureDistillationLoss({ criterion: name })
}

function makeInputs(shape: Shape, layout: Layout): Inputs {
  manualSeed(0)
  const features = () => {
    const value = randn(shape)
    return layout === 'channelsLast' ? value.to({ memoryFormat: 'channelsLast' }) : value
  }
  const inputs = {
    student: features(),
    teacher: features(),
    logits: randn([shape[0]!, 10]),
    labels: randint(0, 10, [shape[0]!]),
  }
  inputs.student.requiresGrad = true
  inputs.logits.requiresGrad = true
  for (const tensor of Object.values(inputs)) keep(tensor)
  return inputs
}

function step(loss: FeatureCriterion, { student, teacher, logits, labels }: Inputs): void {
  scope(() => {
    student.grad = null
    logits.grad = null
    loss.forward([student], [teacher], logits, labels).total.backward()
  })
}

function timeSteps(loss: FeatureCriterion, inputs: Inputs, repeats: number): number {
  const start = performance.now()
  for (let i = 0; i < repeats; i++) step(loss, inputs)
  return (performance.now() - start) / repeats
}

function nameOf(loss: LossName, shape: Shape, layout: Layout): string {
  return `${loss} (${shape.join(', ')}) ${layout}`
}

/** Each feature is read by the forward and again by the backward, which writes the student's gradient. */
function floorBytes(shape: Shape): number {
  return 5 * 4 * shape.reduce((product, size) => product * size, 1)
}

async function measure(
  shape: Shape,
  layout: Layout,
  peer: PythonPeer | null,
  { rounds, floors, wanted }: BenchmarkContext,
): Promise<LossResult[]> {
  const inputs = makeInputs(shape, layout)
  await peer?.ask({ shape, channels_last: layout === 'channelsLast' })
  const results: LossResult[] = []
  for (const name of lossNames) {
    if (!wanted(nameOf(name, shape, layout))) continue
    const loss = makeLoss(name)
    const repeats = Math.min(100, Math.max(1, Math.round(20 / timeSteps(loss, inputs, 3))))
    const { node, python } = await contest<'node' | 'python'>(
      {
        node: { run: () => timeSteps(loss, inputs, repeats) },
        python:
          peer === null
            ? absent
            : {
                run: async () =>
                  (await peer.ask<{ milliseconds: number }>({ loss: name, repeats })).milliseconds,
              },
      },
      { rounds, warmups: 2 },
    )
    const floor = bytesFloor(floors, floorBytes(shape))
    const pythonTime = peer && python
    results.push({
      loss: name,
      shape,
      layout,
      node,
      python: pythonTime,
      floor,
      timesAsFast: pythonTime && pythonTime / node,
    })
  }
  for (const tensor of Object.values(inputs) as Tensor[]) tensor.dispose()
  return results
}

async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const peer = context.python && new PythonPeer(context.python, 'losses.py')
  const results: LossResult[] = []
  try {
    for (const shape of shapes)
      for (const layout of layouts) {
        if (!lossNames.some(loss => context.wanted(nameOf(loss, shape, layout)))) continue
        context.progress(`(${shape.join(', ')}) ${layout}`)
        results.push(...(await measure(shape, layout, peer, context)))
      }
  } finally {
    peer?.close()
  }
  return {
    data: results,
    table: render(results),
    ratios: results.flatMap(({ loss, shape, layout, timesAsFast }) =>
      timesAsFast === null
        ? []
        : [{ group: `loss, ${loss}`, name: `(${shape.join(', ')}) ${layout}`, timesAsFast }],
    ),
    targets: results.flatMap(({ loss, shape, layout, timesAsFast }) => {
      const least = promised[loss][shapes.findIndex(each => each === shape)]
      if (least === null || least === undefined) return []
      const what = `${loss} at (${shape.join(', ')})`
      if (layout === 'contiguous') return atLeast(what, least, timesAsFast)
      return loss === 'mse' ? atLeast(`${what}, channels last`, 1, timesAsFast) : []
    }),
  }
}

function render(results: LossResult[]): string {
  return formatTable(
    ['features', 'layout', 'loss', 'Node ms', 'Python ms', 'times as fast', 'floor ms', 'of the floor'],
    results.map(({ loss, shape, layout, node, python, timesAsFast, floor }) => [
      `(${shape.join(', ')})`,
      layout,
      loss,
      formatMilliseconds(node),
      formatMilliseconds(python),
      timesAsFast === null ? '–' : `${timesAsFast.toFixed(2)}×`,
      formatMilliseconds(floor),
      `${(node / floor).toFixed(1)}×`,
    ]),
  )
}

export const losses: Benchmark = {
  name: 'losses',
  description: "distillation losses, forward and backward, float32, against the seed's formulas in Python",
  defaultRounds: 9,
  run,
}
