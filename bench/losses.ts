/** The distillation losses, forward and backward, against the formulas in Python. */
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  keep,
  manualSeed,
  randint,
  randn,
  scope,
  type Device,
  type Tensor,
} from '../lib/index.js'
import type { FeatureCriterion } from '../lib/distill/index.js'
import {
  atLeast,
  type Benchmark,
  type BenchmarkContext,
  type BenchmarkResult,
  type Target,
} from './benchmark.js'
import { absent, contest } from './contest.js'
import { isGpu, synchronize } from './device.js'
import { bytesFloor } from './floors.js'
import { PythonPeers } from './python.js'
import { formatMilliseconds, formatTable } from './table.js'

const shapes = [
  [32, 256, 32, 32],
  [32, 64, 32, 32],
  [64, 256, 8, 8],
  [16, 16, 8, 8],
] as const
type Shape = readonly number[]

/** Features of a ResNet-50's first stage, 392 MiB: starting kernels is little beside moving them. */
const largeOnGpu = [128, 256, 56, 56] as const

/** On Python's side, in turn. */
const pythonProcesses = 3

const lossNames = ['mse', 'cosine', 'attention'] as const
type LossName = (typeof lossNames)[number]

/** How many times as fast as Python each is promised to be at each of the shapes. */
const promised: Record<LossName, readonly (number | null)[]> = {
  mse: [1.5, 1, 1, 1],
  cosine: [7, 10, 10, null],
  attention: [7, 3.5, 3.5, null],
}

/** Of the bandwidth of a copy on the same GPU, at {@link largeOnGpu}. */
const promisedShareOfBandwidth = 0.7

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

function makeInputs(shape: Shape, layout: Layout, device: Device): Inputs {
  manualSeed(0)
  const features = () => {
    const value = randn(shape, { device })
    return layout === 'channelsLast' ? value.to({ memoryFormat: 'channelsLast' }) : value
  }
  const inputs = {
    student: features(),
    teacher: features(),
    logits: randn([shape[0]!, 10], { device }),
    labels: randint(0, 10, [shape[0]!], { device }),
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

/** As many steps as the engine needs to compile what a training runs thousands of times. */
function warmUp(loss: FeatureCriterion, inputs: Inputs): void {
  const end = performance.now() + 1000
  for (let i = 0; i < 3000 && performance.now() < end; i++) step(loss, inputs)
}

function timeSteps(loss: FeatureCriterion, inputs: Inputs, repeats: number, device: Device): number {
  synchronize(device)
  const start = performance.now()
  for (let i = 0; i < repeats; i++) step(loss, inputs)
  synchronize(device)
  return (performance.now() - start) / repeats
}

function nameOf(loss: LossName, shape: Shape, layout: Layout): string {
  return `${loss} (${shape.join(', ')}) ${layout}`
}

/**
 * The forward reads both features; the backward reads the student's again, and the teacher's unless only its map
 * matters, and writes the student's gradient.
 */
function floorBytes(loss: LossName, shape: Shape): number {
  const passes = loss === 'attention' ? 4 : 5
  return passes * 4 * shape.reduce((product, size) => product * size, 1)
}

async function measure(
  shape: Shape,
  layout: Layout,
  peers: PythonPeers | null,
  { device, rounds, floors, wanted }: BenchmarkContext,
): Promise<LossResult[]> {
  const inputs = makeInputs(shape, layout, device)
  await peers?.askAll({ shape, channels_last: layout === 'channelsLast', device })
  const results: LossResult[] = []
  for (const name of lossNames) {
    if (!wanted(nameOf(name, shape, layout))) continue
    const loss = makeLoss(name)
    warmUp(loss, inputs)
    const repeats = Math.min(100, Math.max(1, Math.round(20 / timeSteps(loss, inputs, 3, device))))
    const { node, python } = await contest<'node' | 'python'>(
      {
        node: { run: () => timeSteps(loss, inputs, repeats, device) },
        python:
          peers === null
            ? absent
            : {
                run: async () =>
                  (await peers.askNext<{ milliseconds: number }>({ loss: name, repeats })).milliseconds,
              },
      },
      { rounds, warmups: pythonProcesses },
    )
    const floor = bytesFloor(floors, floorBytes(name, shape))
    const pythonTime = peers && python
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
  const results: LossResult[] = []
  for (const shape of isGpu(context.device) ? [largeOnGpu, ...shapes] : shapes)
    for (const layout of layouts) {
      if (!lossNames.some(loss => context.wanted(nameOf(loss, shape, layout)))) continue
      context.progress(`(${shape.join(', ')}) ${layout}`)
      // Of their own: what larger features leave in Python's allocator makes it now twice as fast, now not.
      const peers = context.python && new PythonPeers(pythonProcesses, context.python, 'losses.py')
      try {
        results.push(...(await measure(shape, layout, peers, context)))
      } finally {
        peers?.close()
      }
    }
  return {
    data: results,
    table: render(results),
    ratios: results.flatMap(({ loss, shape, layout, timesAsFast }) =>
      timesAsFast === null
        ? []
        : [{ group: `loss, ${loss}`, name: `(${shape.join(', ')}) ${layout}`, timesAsFast }],
    ),
    targets: results.flatMap(isGpu(context.device) ? targetsOnGpu : targetsOnCpu),
  }
}

function targetsOnCpu({ loss, shape, layout, timesAsFast }: LossResult): Target[] {
  const least = promised[loss][shapes.findIndex(each => each === shape)]
  if (least === null || least === undefined) return []
  const what = `${loss} at (${shape.join(', ')})`
  if (layout === 'contiguous') return atLeast(what, least, timesAsFast)
  return loss === 'mse' ? atLeast(`${what}, channels last`, 1, timesAsFast) : []
}

function targetsOnGpu({ loss, shape, layout, node, floor }: LossResult): Target[] {
  if (shape !== largeOnGpu) return []
  const share = floor / node
  return [
    {
      what: `${nameOf(loss, shape, layout)}: share of a copy's bandwidth`,
      target: `≥ ${100 * promisedShareOfBandwidth} %`,
      measured: `${(100 * share).toFixed(0)} %`,
      met: share >= promisedShareOfBandwidth,
    },
  ]
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
  description: 'distillation losses, forward and backward, float32, against the formulas in Python',
  defaultRounds: 9,
  onGpu: true,
  run,
}
