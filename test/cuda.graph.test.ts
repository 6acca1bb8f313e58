/** Training with CUDA graphs, on a GPU. */
import { describe, expect, it } from 'vitest'
import {
  AttentionTransfer,
  data,
  deviceMemory,
  FeatureDistillationLoss,
  manualSeed,
  nn,
  optim,
  randint,
  randn,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  type FitOptions,
  type Tensor,
  type TrainingResult,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOfAsync } from './codes.js'

const problem = (() => {
  if (native.systemInfo().cudaDevices === 0) return 'there is no GPU that libtorch can use'
  return native.cudaLibrary().problem
})()

class Net extends nn.Module<[Tensor], Tensor> {
  conv1: nn.Conv2d
  bn1: nn.BatchNorm2d
  drop = new nn.Dropout(0.3)
  conv2: nn.Conv2d
  bn2: nn.BatchNorm2d
  head: nn.Linear
  constructor(width: number) {
    super()
    // A bias before a batch norm has a gradient of noise, which Adam would make as large as any.
    this.conv1 = new nn.Conv2d(3, width, 3, { padding: 1, bias: false })
    this.bn1 = new nn.BatchNorm2d(width)
    this.conv2 = new nn.Conv2d(width, 2 * width, 3, { padding: 1, stride: 2, bias: false })
    this.bn2 = new nn.BatchNorm2d(2 * width)
    this.head = new nn.Linear(2 * width, 5)
  }
  override forward(x: Tensor): Tensor {
    const first = this.drop.forward(this.bn1.forward(this.conv1.forward(x)).relu())
    return this.head.forward(this.bn2.forward(this.conv2.forward(first)).relu().mean([2, 3]))
  }
}

interface Trained {
  result: TrainingResult
  state: Record<string, Float32Array>
  lines: string[]
}

interface Options extends FitOptions {
  samples?: number
  loss?: FeatureDistillationLoss | AttentionTransfer
  classifier?: boolean
}

/** 10 epochs of batches of 8. */
async function train(
  compile: boolean,
  { samples = 40, loss, classifier, ...options }: Options,
): Promise<Trained> {
  manualSeed(7)
  const teacher = new Net(6).to('cuda')
  const student = new Net(4).to('cuda')
  const images = randn([samples, 3, 8, 8])
  const labels = randint(5, [samples])
  const batches = new data.DataLoader(new data.TensorDataset(images, labels), {
    batchSize: 8,
    shuffle: true,
    seed: 4,
  })
  const lines: string[] = []
  const all: FitOptions = {
    epochs: 10,
    log: line => lines.push(line),
    logEvery: 1000,
    compile,
    ...options,
  }
  const result = classifier
    ? await trainClassifier(student, batches, null, all)
    : await trainWithFeatureDistillation(teacher, student, batches, null, {
        featureLayers: ['bn1', 'bn2'],
        loss: loss ?? new FeatureDistillationLoss(),
        ...all,
      })
  const state = Object.fromEntries(
    Object.entries(student.stateDict()).map(([name, each]) => [
      name,
      each.to({ device: 'cpu', dtype: 'float32' }).toTypedArray() as Float32Array,
    ]),
  )
  return { result, state, lines }
}

function expectClose(a: Trained, b: Trained, tolerance = 2e-3): void {
  for (const [name, values] of Object.entries(a.state))
    values.forEach((value, i) => {
      const other = b.state[name]![i]!
      expect(Math.abs(value - other), `${name}[${i}]: ${value}, ${other}`).toBeLessThan(
        tolerance * Math.max(1, Math.abs(value)),
      )
    })
}

describe.skipIf(problem !== undefined)(`on a GPU${problem ? ` (skipped: ${problem})` : ''}`, () => {
  it.each([
    ['Adam', {}],
    ['dropout from the same seed, and nothing else', { classifier: true }],
    ['AdamW, amsgrad', { optimizer: p => new optim.AdamW(p, { lr: 1e-3, amsgrad: true }) }],
    [
      'SGD with momentum',
      { optimizer: p => new optim.SGD(p, { lr: 0.02, momentum: 0.9, weightDecay: 1e-2 }) },
    ],
    ['attention', { loss: new AttentionTransfer() }],
    ['cosine', { loss: new FeatureDistillationLoss({ criterion: 'cosine' }) }],
    ['clipping', { clipGradNorm: 0.05 }],
    [
      'a schedule per step',
      { scheduler: o => new optim.lrScheduler.CosineAnnealingLR(o, 50), schedulerInterval: 'step' },
    ],
    ['channels-last', { speed: { precision: 'float32', memoryFormat: 'channelsLast', prefetch: true } }],
  ] satisfies [string, Options][])('50 steps with a graph train as 50 without: %s', async (_, options) => {
    const eager = await train(false, options)
    const graph = await train(true, options)
    expect(graph.lines.filter(line => /^compile: (steps|training)/.test(line))).toEqual([])
    // Two steps are recorded, three warm up.
    const { compilation } = graph.result
    expect(compilation).toMatchObject({ steps: 48, recordings: 2, graph: { captures: 1, replays: 45 } })
    // Of the replays 32 tell whether the teacher is faster on a stream of its own.
    const teacherStream = compilation!.graph!.teacherStream
    if ('classifier' in options) expect(teacherStream).toBeUndefined()
    else {
      const { used, beside, inLine } = teacherStream!
      expect(Math.min(beside, inLine)).toBeGreaterThan(0)
      expect(used).toBe(beside < 0.98 * inLine)
      expect(graph.lines.filter(line => line.startsWith('compile: the teacher runs'))).toHaveLength(1)
    }
    expectClose(graph, eager)
    graph.result.history.forEach(({ loss }, i) =>
      expect(Math.abs(loss - eager.result.history[i]!.loss)).toBeLessThan(5e-3),
    )
  })

  it('a smaller last batch has a graph of its own', async () => {
    const eager = await train(false, { samples: 36 })
    const graph = await train(true, { samples: 36 })
    expect(graph.result.compilation?.graph).toMatchObject({ captures: 2, replays: 38 - 3 + (9 - 3) })
    expectClose(graph, eager)
  })

  it('a changed option, and state that was loaded, are captured anew', async () => {
    const changing = (): Options => {
      let optimizer: optim.Adam
      return {
        optimizer: p => (optimizer = new optim.Adam(p, { lr: 1e-3 })),
        onEpoch({ epoch }) {
          if (epoch === 3) optimizer.paramGroups[0]!.weightDecay = 0.1
          if (epoch === 6) optimizer.loadStateDict(optimizer.stateDict())
        },
      }
    }
    const eager = await train(false, changing())
    const graph = await train(true, changing())
    expect(graph.result.compilation?.graph).toMatchObject({ captures: 3, replays: 48 - 9 })
    expectClose(graph, eager)
  })

  it('a loss that is not finite changes no weight', async () => {
    const student = new Net(4).to('cuda')
    let step = 0
    let before: unknown
    const batch = () => ({
      data: randn([8, 3, 8, 8]).mul(step === 12 ? Infinity : 1),
      labels: randint(5, [8]),
    })
    function* batches() {
      for (; step < 20; step++) yield batch()
    }
    const training = trainClassifier(student, batches(), null, {
      compile: true,
      epochs: 1,
      log: null,
      onStep: () => {
        before = student.head.weight.to('cpu').tolist()
      },
    })
    expect(await codeOfAsync(() => training)).toBe('ERR_NAN_LOSS')
    expect(student.head.weight.to('cpu').tolist()).toEqual(before)
  })

  it('a label that is no class is named, changes no weight, and leaves the GPU usable', async () => {
    const student = new Net(4).to('cuda')
    let step = 0
    function* batches() {
      for (; step < 20; step++)
        yield { data: randn([4, 3, 8, 8]), labels: tensor([0n, 1n, 2n, step === 12 ? 9n : 3n]) }
    }
    const training = trainClassifier(student, batches(), null, { compile: true, epochs: 1, log: null })
    expect(await codeOfAsync(() => training)).toBe('ERR_LABEL_RANGE')
    expect(randn([3], { device: 'cuda' }).sum().isfinite().item()).toBe(true)
  })

  it('what a graph cannot hold goes on without, and one line says so', async () => {
    class Choosing extends nn.Module<[Tensor], Tensor> {
      inner = new Net(4)
      override forward(x: Tensor): Tensor {
        const logits = this.inner.forward(x)
        return logits.add(logits.detach().gt(1e6).nonzero().sum())
      }
    }
    manualSeed(1)
    const student = new Choosing().to('cuda')
    const lines: string[] = []
    const batches = new data.DataLoader(new data.TensorDataset(randn([40, 3, 8, 8]), randint(5, [40])), {
      batchSize: 8,
    })
    const { compilation } = await trainClassifier(student, batches, null, {
      compile: true,
      epochs: 4,
      log: line => lines.push(line),
      logEvery: 1000,
    })
    expect(compilation?.graph?.reason).toMatch(/a CUDA graph cannot hold the step/)
    expect(compilation?.steps).toBe(18)
    expect(lines.filter(line => line.includes('without a CUDA graph'))).toHaveLength(1)
  })

  it('memory stays as it is over 1,000 steps, and is given back', async () => {
    const held: number[] = []
    const student = new Net(8).to('cuda')
    const batches = new data.DataLoader(new data.TensorDataset(randn([80, 3, 8, 8]), randint(5, [80])), {
      batchSize: 8,
    })
    await trainClassifier(student, batches, null, {
      compile: true,
      epochs: 100,
      log: null,
      onEpoch: () => held.push(deviceMemory().allocated),
    })
    expect(held.at(-1)).toBe(held[9])
    expect(deviceMemory().allocated).toBeLessThan(held[9]!)
  })
})
