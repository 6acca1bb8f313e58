/** Optimizers, schedules and clipping against the values that `reference/optim.py` got from PyTorch. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { optim, type DType, type Tensor } from '../lib/index.js'
import { fromTypedArray } from './device.js'

interface SavedGroup {
  params: number[]
  [option: string]: unknown
}

interface OptimizerCase {
  optimizer: 'SGD' | 'Adam' | 'AdamW'
  options: Record<string, unknown> & { groups?: Record<string, unknown>[] }
  dtype: DType
  /** Parameters after two steps. */
  second: number[][]
  /** After 15. */
  half: {
    parameters: number[][]
    stateDict: { state: Record<string, Record<string, number[] | null>>; param_groups: SavedGroup[] }
  }
  /** After 30. */
  last: number[][]
}

interface ScheduleCase {
  schedule: string
  optimizer: 'SGD' | 'Adam'
  lrs: number[][]
  momenta: number[][]
}

interface ClippingCase {
  maxNorm: number
  normType: number | 'Infinity'
  norm: number
  gradients: number[][]
}

const reference = JSON.parse(readFileSync(new URL('reference/optim.json', import.meta.url), 'utf8')) as {
  shapes: number[][]
  parameters: number[][]
  gradients: number[][][]
  optimizers: OptimizerCase[]
  metrics: number[]
  schedules: ScheduleCase[]
  clipping: ClippingCase[]
}

const steps = reference.gradients.length
const tolerances: Partial<Record<DType, number>> = { float64: 1e-12, float32: 2e-5 }

/** Kernels to compare: the fused ones where libtorch has them, multi-tensor ones, one tensor after the other. */
const kernels: [string, { fused?: boolean; foreach?: boolean }][] = [
  ['automatic', {}],
  ['foreach', { foreach: true }],
  ['loop', { fused: false, foreach: false }],
]

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

function camelCased(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [camelCase(name), value]))
}

function makeParameters(dtype: DType, values: number[][] = reference.parameters): Tensor[] {
  return values.map((each, i) =>
    fromTypedArray(Float64Array.from(each), reference.shapes[i]!, { dtype, requiresGrad: true }),
  )
}

function makeOptimizer(
  { optimizer, options: { groups, ...options } }: OptimizerCase,
  params: Tensor[],
  kernel: { fused?: boolean; foreach?: boolean } = {},
): optim.Optimizer {
  const constructor: new (params: never, options: object) => optim.Optimizer = optim[optimizer]
  const list = groups ? groups.map((group, i) => ({ ...camelCased(group), params: [params[i]!] })) : params
  return new constructor(list as never, { ...camelCased(options), ...kernel })
}

/** The second parameter has no gradient in step 1, as in the script. */
function takeSteps(optimizer: optim.Optimizer, params: Tensor[], first: number, last: number): void {
  for (let step = first; step < last; step++) {
    params.forEach((parameter, i) => {
      const values = Float64Array.from(reference.gradients[step]![i]!)
      const isSkipped = step === 1 && i === 1
      parameter.grad = isSkipped
        ? null
        : fromTypedArray(values, reference.shapes[i]!, { dtype: parameter.dtype })
    })
    optimizer.step()
  }
}

function expectNear(actual: Iterable<unknown>, expected: number[], tolerance: number, where: string): void {
  const values = Array.from(actual, Number)
  expect(values.length, where).toBe(expected.length)
  const isNear = (value: number, i: number) =>
    Math.abs(value - expected[i]!) <= tolerance * Math.max(Math.abs(expected[i]!), 0.1)
  const wrong = values.findIndex((value, i) => !isNear(value, i))
  if (wrong >= 0) expect.fail(`${where}[${wrong}]: expected ${expected[wrong]}, got ${values[wrong]}`)
}

function expectParameters(params: Tensor[], expected: number[][], dtype: DType, where: string): void {
  params.forEach((parameter, i) =>
    expectNear(parameter.toTypedArray(), expected[i]!, tolerances[dtype]!, `${where}, parameter ${i}`),
  )
}

describe.each(reference.optimizers)('$optimizer $options in $dtype', sample => {
  const { dtype } = sample

  test.each(kernels)('takes the steps that PyTorch takes (%s kernels)', (_, kernel) => {
    const params = makeParameters(dtype)
    const optimizer = makeOptimizer(sample, params, kernel)
    takeSteps(optimizer, params, 0, 2)
    expectParameters(params, sample.second, dtype, 'after 2 steps')
    takeSteps(optimizer, params, 2, steps)
    expectParameters(params, sample.last, dtype, `after ${steps} steps`)
  })

  test("has PyTorch's state after 15 steps", () => {
    const params = makeParameters(dtype)
    const optimizer = makeOptimizer(sample, params)
    takeSteps(optimizer, params, 0, 15)
    const { state, param_groups: groups } = optimizer.stateDict()
    const expected = sample.half.stateDict
    expect(Object.keys(state)).toEqual(Object.keys(expected.state))
    for (const [index, entries] of Object.entries(expected.state)) {
      expect(Object.keys(state[index]!).sort()).toEqual(Object.keys(entries).sort())
      for (const [name, values] of Object.entries(entries)) {
        const actual = state[index]![name] as Tensor
        expect(actual.dtype).toBe(name === 'step' ? 'float32' : dtype)
        expectNear(actual.toTypedArray(), values!, tolerances[dtype]!, `${name} of ${index}`)
      }
    }
    groups.forEach((group, i) => expect(expected.param_groups[i]).toMatchObject(group))
  })

  test("goes on from PyTorch's state dict", () => {
    const params = makeParameters(dtype, sample.half.parameters)
    const { groups, ...others } = sample.options
    const optimizer = makeOptimizer({ ...sample, options: { groups: groups?.map(() => ({})) } }, params)
    const { state, param_groups } = sample.half.stateDict
    optimizer.loadStateDict({
      state: Object.fromEntries(
        Object.entries(state).map(([index, entries]) => [index, toTensors(entries, Number(index), dtype)]),
      ),
      param_groups,
    })
    takeSteps(optimizer, params, 15, steps)
    expectParameters(params, sample.last, dtype, JSON.stringify(others))
  })
})

function toTensors(
  entries: Record<string, number[] | null>,
  index: number,
  dtype: DType,
): Record<string, Tensor | null> {
  return Object.fromEntries(
    Object.entries(entries).map(([name, values]) => {
      if (values === null) return [name, null]
      const shape = name === 'step' ? [] : reference.shapes[index]!
      return [
        name,
        fromTypedArray(Float64Array.from(values), shape, { dtype: name === 'step' ? 'float32' : dtype }),
      ]
    }),
  )
}

// ---- Schedules -----------------------------------------------------------------------------------------------------

const {
  CosineAnnealingLR,
  ExponentialLR,
  LambdaLR,
  LinearLR,
  MultiStepLR,
  OneCycleLR,
  ReduceLROnPlateau,
  SequentialLR,
  StepLR,
} = optim.lrScheduler

type Schedule = optim.lrScheduler.LRScheduler | InstanceType<typeof SequentialLR | typeof ReduceLROnPlateau>

const schedules: Record<string, (o: optim.Optimizer) => Schedule[]> = {
  LambdaLR: o => [new LambdaLR(o, [epoch => 0.95 ** epoch, epoch => 1 / (1 + epoch)])],
  StepLR: o => [new StepLR(o, 5, { gamma: 0.3 })],
  MultiStepLR: o => [new MultiStepLR(o, [3, 7, 7, 12], { gamma: 0.5 })],
  ExponentialLR: o => [new ExponentialLR(o, 0.93)],
  CosineAnnealingLR: o => [new CosineAnnealingLR(o, 7, { etaMin: 0.001 })],
  LinearLR: o => [new LinearLR(o)],
  'LinearLR down': o => [new LinearLR(o, { startFactor: 1, endFactor: 0.2, totalIters: 8 })],
  OneCycleLR: o => [new OneCycleLR(o, 0.4, { totalSteps: 24 })],
  'OneCycleLR linear, three phases': o => [
    new OneCycleLR(o, [0.4, 0.1], {
      epochs: 4,
      stepsPerEpoch: 6,
      pctStart: 0.4,
      annealStrategy: 'linear',
      baseMomentum: 0.7,
      maxMomentum: 0.9,
      divFactor: 10,
      finalDivFactor: 100,
      threePhase: true,
    }),
  ],
  'OneCycleLR without momentum': o => [new OneCycleLR(o, 0.4, { totalSteps: 24, cycleMomentum: false })],
  ReduceLROnPlateau: o => [new ReduceLROnPlateau(o, { patience: 2 })],
  'ReduceLROnPlateau with all options': o => [
    new ReduceLROnPlateau(o, {
      mode: 'max',
      factor: 0.5,
      patience: 1,
      threshold: 0.05,
      thresholdMode: 'abs',
      cooldown: 2,
      minLr: [0.03, 0.001],
      eps: 1e-3,
    }),
  ],
  'ReduceLROnPlateau max rel': o => [new ReduceLROnPlateau(o, { mode: 'max', factor: 0.5, patience: 1 })],
  SequentialLR: o => [
    new SequentialLR(
      o,
      [
        new LinearLR(o, { startFactor: 0.1, totalIters: 4 }),
        new CosineAnnealingLR(o, 9, { etaMin: 0.001 }),
        new ExponentialLR(o, 0.9),
      ],
      [4, 13],
    ),
  ],
  'SequentialLR of steps': o => [
    new SequentialLR(
      o,
      [
        new LambdaLR(o, epoch => 1 / (1 + epoch)),
        new StepLR(o, 2, { gamma: 0.5 }),
        new MultiStepLR(o, [2, 5]),
      ],
      [3, 9],
    ),
  ],
  'StepLR and ExponentialLR together': o => [new StepLR(o, 4, { gamma: 0.5 }), new ExponentialLR(o, 0.9)],
}

function makeScheduled({ schedule, optimizer: name }: ScheduleCase): {
  optimizer: optim.Optimizer
  schedule: Schedule[]
} {
  const [first, second] = makeParameters('float64')
  const groups = [{ params: [first!] }, { params: [second!], lr: 0.02 }]
  const optimizer = name === 'SGD' ? new optim.SGD(groups, { lr: 0.1 }) : new optim.Adam(groups, { lr: 0.1 })
  return { optimizer, schedule: schedules[schedule]!(optimizer) }
}

function advance(schedule: Schedule[], epoch: number): void {
  for (const each of schedule)
    if (each instanceof ReduceLROnPlateau) each.step(reference.metrics[epoch]!)
    else each.step()
}

function momentum(group: object): number {
  const options = group as { betas?: number[]; momentum?: number }
  return options.betas ? options.betas[0]! : options.momentum!
}

describe.each(reference.schedules)('$schedule on $optimizer', sample => {
  function expectEpoch(optimizer: optim.Optimizer, epoch: number): void {
    optimizer.paramGroups.forEach((group, i) => {
      const where = `epoch ${epoch}, group ${i}`
      expectNear([group.lr], [sample.lrs[epoch]![i]!], 1e-13, `${where}, lr`)
      expectNear([momentum(group)], [sample.momenta[epoch]![i]!], 1e-13, `${where}, momentum`)
    })
  }

  test("has PyTorch's sequence of learning rates and momenta", () => {
    const { optimizer, schedule } = makeScheduled(sample)
    expectEpoch(optimizer, 0)
    for (let epoch = 0; epoch < sample.lrs.length - 1; epoch++) {
      advance(schedule, epoch)
      expectEpoch(optimizer, epoch + 1)
      expect(schedule[0]!.getLastLr().length).toBe(2)
    }
  })

  test('goes on in another process from its state dict, as JSON, and that of the optimizer', () => {
    const before = makeScheduled(sample)
    for (let epoch = 0; epoch < 10; epoch++) advance(before.schedule, epoch)
    const states = JSON.parse(JSON.stringify(before.schedule.map(each => each.stateDict()))) as never[]

    const after = makeScheduled(sample)
    after.schedule.forEach((each, i) => each.loadStateDict(states[i]!))
    after.optimizer.loadStateDict(before.optimizer.stateDict())
    for (let epoch = 10; epoch < sample.lrs.length - 1; epoch++) {
      advance(after.schedule, epoch)
      expectEpoch(after.optimizer, epoch + 1)
    }
  })
})

// ---- Clipping ------------------------------------------------------------------------------------------------------

test.each(reference.clipping)(
  'clipGradNorm_ to $maxNorm in the $normType-norm does what PyTorch does',
  sample => {
    const params = makeParameters('float64')
    params.forEach((parameter, i) => {
      const values = Float64Array.from(reference.gradients[0]![i]!)
      parameter.grad = fromTypedArray(values, reference.shapes[i]!)
    })
    const norm = optim.clipGradNorm_(params, sample.maxNorm, { normType: Number(sample.normType) })
    expectNear([norm.item()], [sample.norm], 1e-12, 'norm')
    params.forEach((parameter, i) =>
      expectNear(parameter.grad!.toTypedArray(), sample.gradients[i]!, 1e-12, `gradient ${i}`),
    )
  },
)
