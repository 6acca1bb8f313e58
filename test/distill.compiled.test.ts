import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { describe, expect, it } from 'vitest'
import {
  AttentionTransfer,
  data,
  exportTorchScript,
  FeatureDistillationLoss,
  keep,
  loadTorchScript,
  LogitsDistillationLoss,
  manualSeed,
  memory,
  models,
  nn,
  optim,
  randint,
  randn,
  scope,
  Tensor,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type FeatureCriterion,
  type FitOptions,
  type TrainingResult,
} from '../lib/index.js'
import { codeOfAsync } from './codes.js'
import { device, isOnGpu } from './device.js'
import { useOwnCache } from './own-cache.js'
import { settledTensors } from './settle.js'

useOwnCache()

/** Batch norm, dropout, an in-place operator, a branch and a buffer of its own. */
class Net extends nn.Module<[Tensor], Tensor> {
  conv1: nn.Conv2d
  bn1: nn.BatchNorm2d
  drop = new nn.Dropout(isOnGpu ? 0 : 0.3) // other random numbers than those of single launches
  conv2: nn.Conv2d
  bn2: nn.BatchNorm2d
  dropChannels = new nn.Dropout2d(isOnGpu ? 0 : 0.2)
  head: nn.Linear
  constructor(width: number) {
    super()
    this.conv1 = new nn.Conv2d(3, width, 3, { padding: 1 })
    this.bn1 = new nn.BatchNorm2d(width)
    this.conv2 = new nn.Conv2d(width, 2 * width, 3, { padding: 1, stride: 2, bias: false })
    this.bn2 = new nn.BatchNorm2d(2 * width)
    this.head = new nn.Linear(2 * width, 5)
    this.registerBuffer('seen', tensor([0]))
  }
  override forward(x: Tensor): Tensor {
    ;(this['seen' as never] as Tensor).add_(1)
    const first = this.drop.forward(this.bn1.forward(this.conv1.forward(x)).relu_())
    const second = this.dropChannels.forward(this.bn2.forward(this.conv2.forward(first)).relu())
    return this.head.forward(second.mean([2, 3]))
  }
}

/** Batches of 8 samples, the last of 4: two shapes. */
function loader(samples = 36): data.DataLoader {
  const images = randn([samples, 3, 8, 8])
  const labels = randint(5, [samples])
  return new data.DataLoader(new data.TensorDataset(images, labels), { batchSize: 8, shuffle: true, seed: 4 })
}

interface Trained {
  result: TrainingResult
  /** Of student and adaptation, after training. */
  state: Record<string, Float32Array>
  lines: string[]
}

type Train = (
  teacher: Net,
  student: Net,
  batches: data.DataLoader,
  options: FitOptions,
) => Promise<TrainingResult & { adaptation?: nn.Module }>

/** From the same weights, data and random numbers: eager or compiled. */
async function train(compile: boolean, run: Train, options: FitOptions = {}): Promise<Trained> {
  manualSeed(7)
  const teacher = new Net(6).to(device)
  const student = new Net(4).to(device)
  const lines: string[] = []
  const result = await run(teacher, student, loader(), {
    epochs: 10,
    log: line => lines.push(line),
    logEvery: 1000,
    compile,
    ...options,
  })
  const { adaptation = new nn.ModuleList([]) } = result
  const tensors = { ...student.stateDict(), ...adaptation.stateDict() }
  const state = Object.fromEntries(
    Object.entries(tensors).map(([name, each]) => [name, each.to('float32').toTypedArray() as Float32Array]),
  )
  return { result, state, lines }
}

async function expectEqualRuns(run: Train, options: FitOptions = {}): Promise<Trained> {
  const eager = await train(false, run, options)
  const compiled = await train(true, run, options)
  expect(compiled.result.compilation?.reason).toBeUndefined()
  expectCompilation(compiled.result, { steps: 47, recordings: 3 }) // 10 epochs of 5 steps; the first shape is recorded twice, the other once
  expectEqualResults(compiled, eager)
  return compiled
}

/** How many steps come before the compiled ones on a GPU is told in tests of CUDA graphs. */
function expectCompilation(
  { compilation }: TrainingResult,
  expected: { steps: number; recordings: number },
): void {
  if (!isOnGpu) expect(compilation).toEqual(expected)
  else expect(compilation!.steps).toBeGreaterThan(0)
}

/** On the CPU bit for bit. A GPU adds in changing order: the epochs' losses are near. */
function expectEqualResults(actual: Trained, expected: Trained): void {
  const histories = [actual, expected].map(({ result }) =>
    result.history.map(({ loss, parts }) => ({ loss, parts })),
  )
  if (!isOnGpu) {
    expect(actual.state).toEqual(expected.state)
    expect(histories[0]).toEqual(histories[1])
    return
  }
  histories[0]!.forEach(({ loss }, epoch) => {
    const wanted = histories[1]![epoch]!.loss
    expect(Math.abs(loss - wanted) / wanted, `epoch ${epoch + 1}`).toBeLessThan(0.05)
  })
}

function withFeatures(loss: FeatureCriterion, adapt?: 'teacher' | 'student' | 'none'): Train {
  return (teacher, student, batches, options) =>
    trainWithFeatureDistillation(teacher, student, batches, null, {
      featureLayers: ['bn1', { student: 'bn2', teacher: 'bn2' }],
      loss,
      adapt,
      ...options,
    })
}

const alone: Train = (_, student, batches, options) => trainClassifier(student, batches, null, options)

describe('50 compiled steps give the weights of 50 eager steps, bit for bit', () => {
  it.each([
    ['classification', alone],
    [
      'logits',
      (t, s, b, o) =>
        trainWithLogitsDistillation(t, s, b, null, { loss: new LogitsDistillationLoss(), ...o }),
    ],
    ['mean squared error', withFeatures(new FeatureDistillationLoss())],
    [
      'cosine, weights, regressors',
      withFeatures(new FeatureDistillationLoss({ criterion: 'cosine', weights: [1, 2] }), 'student'),
    ],
    ['attention', withFeatures(new AttentionTransfer({ alpha: 0.9 }))],
    ['attention, pooled', withFeatures(new AttentionTransfer({ pool: true }))],
  ] satisfies [string, Train][])('with the loss of %s', async (_, run) => {
    await expectEqualRuns(run)
  })

  const mse = withFeatures(new FeatureDistillationLoss())
  it.each([
    [
      'SGD with momentum and weight decay',
      { optimizer: p => new optim.SGD(p, { lr: 0.05, momentum: 0.9, weightDecay: 1e-2 }) },
    ],
    ['AdamW', { optimizer: p => new optim.AdamW(p, { lr: 0.01, amsgrad: true }) }],
    [
      'groups',
      {
        optimizer: p =>
          new optim.Adam([
            { params: p.slice(0, 3), lr: 0.1 },
            { params: p.slice(3), weightDecay: 0.1 },
          ]),
      },
    ],
    ['clipping', { clipGradNorm: 0.05 }],
    [
      'a schedule per step',
      { scheduler: o => new optim.lrScheduler.CosineAnnealingLR(o, 50), schedulerInterval: 'step' },
    ],
    ['a schedule per epoch', { scheduler: o => new optim.lrScheduler.StepLR(o, 3) }],
  ] satisfies [string, FitOptions][])('with %s', async (_, options) => {
    await expectEqualRuns(mse, options)
  })

  it('with numbers beside half precision, in place too', async () => {
    class Halved extends Net {
      override forward(x: Tensor): Tensor {
        const half = x.to('bfloat16')
        half.mul_(0.9)
        half.add_(0.3).sub_(0.1).div_(1.1)
        return super.forward(half.mul(0.7).to('float32'))
      }
    }
    const run: Train = (_, student, batches, options) => {
      Object.setPrototypeOf(student, Halved.prototype)
      return trainClassifier(student, batches, null, options)
    }
    await expectEqualRuns(run)
  })

  it('with a loss written in TypeScript', async () => {
    class Own extends nn.Module<[Tensor[], Tensor[], Tensor, Tensor], { total: Tensor; features: Tensor }> {
      override forward(student: Tensor[], teacher: Tensor[], logits: Tensor, labels: Tensor) {
        const features = student
          .map((each, i) =>
            each
              .mean([1])
              .sub(teacher[i]!.mean([1]))
              .abs()
              .mean(),
          )
          .reduce((sum, each) => sum.add(each))
        return { total: nn.functional.crossEntropy(logits, labels).add(features.mul(0.3)), features }
      }
    }
    await expectEqualRuns(withFeatures(new Own(), 'none'))
  })

  it('with a TorchScript teacher, features tapped inside', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'alambic-compiled-'))
    const path = join(directory, 'teacher.pt')
    try {
      const run: Train = async (teacher, student, batches, options) => {
        await exportTorchScript(teacher, [randn([2, 3, 8, 8], { device })], path)
        return trainWithFeatureDistillation(await loadTorchScript(path, { device }), student, batches, null, {
          featureLayers: ['bn1', 'bn2'],
          ...options,
        })
      }
      await expectEqualRuns(run)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  it.each([
    [
      'channels-last, teacher folded',
      { precision: 'float32', memoryFormat: 'channelsLast', prepareTeacher: true },
    ],
    ['bfloat16', { precision: 'bfloat16', memoryFormat: 'contiguous', prepareTeacher: true }],
  ] satisfies [string, FitOptions['speed']][])('with speed: %s', async (_, speed) => {
    await expectEqualRuns(mse, { speed })
    await expectEqualRuns(withFeatures(new AttentionTransfer()), { speed })
  })

  it('when a layer is frozen between epochs', async () => {
    let student: Net
    const run: Train = (_, net, batches, options) => {
      student = net
      return trainClassifier(net, batches, null, options)
    }
    const freeze: FitOptions = {
      onEpoch({ epoch }) {
        if (epoch !== 4) return
        student.bn1.eval()
        student.conv1.requiresGrad(false)
      },
    }
    const eager = await train(false, run, freeze)
    const compiled = await train(true, run, freeze)
    expectEqualResults(compiled, eager)
    expect(compiled.result.compilation?.reason).toBeUndefined()
  })
})

describe('what cannot be compiled is trained as ever, and one line says why', () => {
  const reads: Train = (_, student, batches, options) => {
    class Reading extends nn.Module<[Tensor], Tensor> {
      inner = student
      override forward(x: Tensor) {
        return this.inner.forward(x.mean().item() > 0 ? x : x.neg())
      }
    }
    return trainClassifier(new Reading(), batches, null, options)
  }
  const random: Train = (_, student, batches, options) => {
    let calls = 0
    class Changing extends nn.Module<[Tensor], Tensor> {
      inner = student
      override forward(x: Tensor) {
        return this.inner.forward(calls++ % 2 ? x : x.neg())
      }
    }
    return trainClassifier(new Changing(), batches, null, options)
  }
  class OwnOptimizer extends optim.SGD {
    override step(): void {
      super.step()
    }
  }

  it.each([
    [
      'a forward that reads values',
      reads,
      {},
      /the loss depends on a value that is read: item of float32 \(\) at /,
    ],
    [
      'a forward that is not the same at every call',
      random,
      {},
      /the loss does not do the same at every step/,
    ],
    [
      'an optimizer of another kind',
      alone,
      { optimizer: p => new OwnOptimizer(p, { lr: 0.1 }) },
      /optimizer OwnOptimizer/,
    ],
    [
      'a batch norm without momentum',
      (_, s, b, o) => {
        s.bn1 = new nn.BatchNorm2d(4, { momentum: null }).to(device)
        return trainClassifier(s, b, null, o)
      },
      {},
      /number of batches/,
    ],
  ] satisfies [string, Train, FitOptions, RegExp][])('%s', async (_, run, options, reason) => {
    const eager = await train(false, run, options)
    const compiled = await train(true, run, options)
    expect(compiled.result.compilation?.reason).toMatch(reason)
    expect(compiled.result.compilation?.steps).toBe(0)
    expect(compiled.lines.filter(line => line.startsWith('compile:'))).toEqual([
      expect.stringMatching(reason),
    ])
    expectEqualResults(compiled, eager)
  })

  it('and errors of the loss are those of the eager step', async () => {
    const wrong: Train = (_, student, __, options) =>
      trainClassifier(student, [{ data: randn([2, 3, 8, 8]), labels: tensor([0n, 9n]) }], null, options)
    expect(await codeOfAsync(() => train(true, wrong))).toBe('ERR_LABEL_RANGE')
  })
})

describe('while a step runs elsewhere', () => {
  function* batches(count: number, label = () => 0n) {
    for (let i = 0; i < count; i++)
      yield scope(() => ({ data: randn([4, 3, 8, 8]), labels: tensor([0n, 1n, 2n, label()]) }))
  }

  it('labels that are no classes are refused, with the step that came to them', async () => {
    let asked = 0
    const student = new Net(4).to(device)
    const error = await trainClassifier(
      student,
      batches(9, () => (asked++ < 5 ? 0n : 7n)),
      null,
      {
        compile: true,
        epochs: 1,
        log: null,
      },
    ).catch((each: unknown) => each)
    expect(error).toMatchObject({
      code: 'ERR_LABEL_RANGE',
      message: expect.stringContaining('labels[3]') as string,
    })
  })

  it('a loss that is not finite stops before weights change', async () => {
    const student = new nn.Linear(2, 2).to(device)
    const good = () => ({ data: randn([3, 2]), labels: tensor([0n, 1n, 0n]) })
    const bad = () => ({
      data: tensor([
        [NaN, 1],
        [1, 1],
        [1, 1],
      ]),
      labels: tensor([0n, 1n, 0n]),
    })
    let before: unknown
    function* mixed() {
      for (let i = 0; i < 4; i++) yield good()
      yield bad()
    }
    const error = await trainClassifier(student, mixed(), null, {
      compile: true,
      epochs: 1,
      log: null,
      onStep: () => (before = student.weight.tolist()),
    }).catch((each: unknown) => each)
    expect(error).toMatchObject({
      code: 'ERR_NAN_LOSS',
      message: expect.stringContaining('epoch 1, step 5: total=NaN') as string,
    })
    expect(student.weight.tolist()).toEqual(before)
  })

  it('an AbortSignal stops after the current step, and no batch is left behind', async () => {
    const controller = new AbortController()
    const student = new Net(4).to(device)
    const before = await settledTensors()
    const result = await trainClassifier(student, batches(1000), null, {
      compile: true,
      epochs: 1,
      log: null,
      signal: controller.signal,
      onStep: ({ step }) => {
        if (step === 6) controller.abort()
      },
    })
    expect(result.stopped).toBe(true)
    expectCompilation(result, { steps: 4, recordings: 2 })
    expect(memory().tensors).toBe(before)
    expect(student.forward(randn([2, 3, 8, 8], { device })).shape).toEqual([2, 5]) // its tensors are free again
  })

  it('more shapes than are kept are trained as ever', async () => {
    let size = 1
    function* growing() {
      for (let i = 0; i < 24; i++) {
        size = 1 + (i % 12)
        yield { data: randn([2, 3, 4 + size, 4]), labels: tensor([0n, 1n]) }
      }
    }
    const result = await trainClassifier(new Net(2).to(device), growing(), null, {
      compile: true,
      epochs: 1,
      log: null,
    })
    expectCompilation(result, { steps: 8, recordings: 8 }) // of 12 shapes, twice each
  })

  // Other processes delay it as well: what training does shows every time.
  it('the event loop stays free', { retry: 2 }, async () => {
    manualSeed(1)
    const images = keep(randn([64 * 12, 3, 32, 32]))
    const batches = new data.DataLoader(new data.TensorDataset(images, randint(10, [64 * 12])), {
      batchSize: 64,
    })
    const delay = monitorEventLoopDelay({ resolution: 5 })
    const student = models.resnet20().to(device)
    const result = await trainClassifier(student, batches, null, {
      epochs: 3,
      log: null,
      compile: true,
      onStep: ({ epoch, step }) => {
        if (epoch === 1 && step === 2) delay.enable() // recorded by now
      },
    })
    delay.disable()
    expectCompilation(result, { steps: 34, recordings: 2 })
    expect(delay.percentile(99) / 1e6 - 5).toBeLessThan(20)
  })

  it('memory stays flat', async () => {
    const student = new Net(4).to(device)
    let before: ReturnType<typeof memory> | undefined
    const held: number[] = []
    await trainClassifier(student, batches(600), null, {
      compile: true,
      epochs: 1,
      log: null,
      onStep: ({ step }) => {
        if (step === 50) before = memory()
        if (step > 50) held.push(memory().tensors)
      },
    })
    expect(Math.max(...held) - before!.tensors).toBeLessThanOrEqual(4)
  })
})
