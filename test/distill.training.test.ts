import { describe, expect, it } from 'vitest'
import {
  AdaptationLayer,
  AttentionTransfer,
  data,
  evaluate,
  FeatureDistillationLoss,
  LogitsDistillationLoss,
  manualSeed,
  memory,
  nn,
  optim,
  randn,
  StudentWithFeatureExtraction,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type Tensor,
} from '../lib/index.js'
import { codeOf, codeOfAsync } from './codes.js'
import * as onDevice from './device.js'
import { settledTensors } from './settle.js'

/** Two conv stages with named features. */
class Net extends nn.Module<[Tensor], Tensor> {
  stage1: nn.Sequential
  stage2: nn.Sequential
  fc: nn.Linear

  constructor(width: number) {
    super()
    const stage = (from: number, to: number) =>
      new nn.Sequential(
        new nn.Conv2d(from, to, 3, { padding: 1, stride: 2 }),
        new nn.BatchNorm2d(to),
        new nn.ReLU(),
      )
    this.stage1 = stage(1, width)
    this.stage2 = stage(width, 2 * width)
    this.fc = new nn.Linear(2 * width, 3)
  }

  forward(x: Tensor): Tensor {
    return this.fc.forward(this.stage2.forward(this.stage1.forward(x)).mean([2, 3]))
  }
}

const makeNet = (width: number) => new Net(width).to(onDevice.device)

/** Three classes of 8×8 images on the CPU: a bright row at the top, in the middle, at the bottom. */
function makeData(count: number, seed: number): data.TensorDataset {
  manualSeed(seed)
  const labels = Array.from({ length: count }, (_, i) => i % 3)
  const images = randn([count, 1, 8, 8]).mul(0.3)
  labels.forEach((label, i) => images.at(i, 0, 3 * label).add_(1.5))
  return new data.TensorDataset(images, tensor(labels, { dtype: 'int64' }))
}

const train = () => new data.DataLoader(makeData(96, 1), { batchSize: 16, shuffle: true, seed: 5 })
const validation = () => new data.DataLoader(makeData(48, 2), { batchSize: 16 })
const quiet = { log: null } as const

describe('trainClassifier() and evaluate()', () => {
  it('learn an easy task, report each epoch, and leave train mode as it was', async () => {
    manualSeed(0)
    const net = makeNet(4)
    const lines: string[] = []
    const { history, stopped } = await trainClassifier(net, train(), validation(), {
      epochs: 11,
      lr: 1e-2,
      log: line => lines.push(line),
    })
    expect(stopped).toBe(false)
    expect(history).toHaveLength(11)
    expect(history.at(-1)!.accuracy).toBeGreaterThan(90)
    expect(history.at(-1)!.loss).toBeLessThan(history[0]!.loss)
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^Epoch 1: Loss=\d\.\d{4}, Acc=\d+\.\d\d%$/)
    expect(lines[1]).toMatch(/^Epoch 11: /)
    net.train()
    net.stage1.eval()
    expect(await evaluate(net, validation())).toBeCloseTo(history.at(-1)!.accuracy!, 1)
    expect([net.training, net.stage1.training, net.stage2.training]).toEqual([true, false, true])
  })

  // On a GPU some kernels add in changing order.
  it.skipIf(onDevice.isOnGpu)('repeat bit for bit from the same seed', async () => {
    const run = async () => {
      manualSeed(3)
      const net = makeNet(4)
      const { history } = await trainClassifier(net, train(), null, { ...quiet, epochs: 2 })
      return [history.map(({ loss }) => loss), net.fc.weight.tolist()]
    }
    expect(await run()).toEqual(await run())
  })

  it('leave no tensors behind', async () => {
    const net = makeNet(4)
    const [loader, held] = [train(), validation()]
    await trainClassifier(net, loader, held, { ...quiet, epochs: 1 })
    const before = await settledTensors()
    await trainClassifier(net, loader, held, { ...quiet, epochs: 2 })
    expect(memory().tensors).toBe(before)
  })

  it('stop when the signal says so, with what was done', async () => {
    const controller = new AbortController()
    const result = await trainClassifier(makeNet(2), train(), null, {
      ...quiet,
      epochs: 50,
      signal: controller.signal,
      onStep: ({ epoch, step }) => {
        if (epoch === 2 && step === 2) controller.abort()
      },
    })
    expect(result.stopped).toBe(true)
    expect(result.history).toHaveLength(1)
  })

  it('keep the event loop turning', async () => {
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    await trainClassifier(makeNet(2), train(), null, { ...quiet, epochs: 3 })
    clearInterval(timer)
    expect(turns).toBeGreaterThan(5)
  })

  it('refuse loaders without batches', async () => {
    expect(await codeOfAsync(() => trainClassifier(makeNet(2), [], null, quiet))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => evaluate(makeNet(2), []))).toBe('ERR_ARGUMENT')
  })
})

describe('trainWithFeatureDistillation()', () => {
  const featureLayers = ['stage1', 'stage2']

  it('trains student and adaptation, and leaves the teacher alone', async () => {
    manualSeed(0)
    const [teacher, student] = [makeNet(8), makeNet(4)]
    await trainClassifier(teacher, train(), null, { ...quiet, epochs: 8, lr: 1e-2 })
    teacher.zeroGrad()
    const taught = teacher.fc.weight.tolist()
    const statistics = teacher.stateDict()['stage1.1.running_mean']!.tolist()
    const { adaptation, history } = await trainWithFeatureDistillation(
      teacher,
      student,
      train(),
      validation(),
      {
        ...quiet,
        featureLayers,
        epochs: 10,
        lr: 1e-2,
      },
    )
    expect(history.at(-1)!.accuracy).toBeGreaterThan(85)
    expect(history.at(-1)!.parts['feature']).toBeLessThan(history[0]!.parts['feature']!)
    expect([...adaptation].map(layer => (layer.adapt as nn.Conv2d).weight.shape)).toEqual([
      [4, 8, 1, 1],
      [8, 16, 1, 1],
    ])
    expect(teacher.fc.weight.tolist()).toEqual(taught)
    expect(teacher.stateDict()['stage1.1.running_mean']!.tolist()).toEqual(statistics)
    expect(teacher.fc.weight.grad).toBeNull()
    expect(Object.hasOwn(student.stage1, 'forward')).toBe(false)
  })

  it('adapts the student with FitNets’ regressors, by a kernel of any size', async () => {
    const { adaptation } = await trainWithFeatureDistillation(makeNet(8), makeNet(4), train(), null, {
      ...quiet,
      featureLayers: [{ student: 'stage1', teacher: 'stage1' }],
      adapt: 'student',
      adaptKernelSize: 3,
      epochs: 1,
    })
    expect((adaptation.at(0).adapt as nn.Conv2d).weight.shape).toEqual([8, 4, 3, 3])
  })

  it('transfers attention without adaptation', async () => {
    const { adaptation, history } = await trainWithFeatureDistillation(
      makeNet(8),
      makeNet(4),
      train(),
      null,
      {
        ...quiet,
        featureLayers,
        loss: new AttentionTransfer({ alpha: 0.9 }),
        epochs: 1,
      },
    )
    expect(adaptation.length).toBe(0)
    expect(history[0]!.parts['attention']).toBeGreaterThan(0)
  })

  it('takes StudentWithFeatureExtraction by the names of its features', async () => {
    const [teacher, student] = [
      new StudentWithFeatureExtraction({ inChannels: 1, classes: 3 }).to(onDevice.device),
      makeNet(4),
    ]
    const { history } = await trainWithFeatureDistillation(teacher, student, train(), null, {
      ...quiet,
      featureLayers: [{ student: 'stage1', teacher: 'relu1' }],
      epochs: 1,
      clipGradNorm: 1,
      optimizer: parameters => new optim.SGD(parameters, { lr: 0.01, momentum: 0.9 }),
    })
    expect(history[0]!.loss).toBeGreaterThan(0)
  })

  it('stops at a loss that is not finite, saying where, with the weights of the step before', async () => {
    const student = makeNet(4)
    const poisoned = makeData(32, 1)
    const loader = new data.DataLoader(poisoned, {
      batchSize: 16,
      transform: batch => {
        steps++
        return steps === 2 ? { ...batch, data: batch.data.mul(NaN) } : batch
      },
    })
    let steps = 0
    let weights: unknown
    const run = () =>
      trainWithFeatureDistillation(makeNet(8), student, loader, null, {
        ...quiet,
        featureLayers,
        epochs: 1,
        onStep: () => (weights = student.fc.weight.tolist()),
      })
    await expect(run()).rejects.toThrow(/epoch 1, step 2: total=NaN, feature=NaN.*learning rate 0.001/)
    expect(student.fc.weight.tolist()).toEqual(weights)
    steps = 0
    expect(await codeOfAsync(run)).toBe('ERR_NAN_LOSS')
  })

  it('names near layers for an unknown one, and takes its hooks off', async () => {
    const student = makeNet(4)
    const run = () =>
      trainWithFeatureDistillation(makeNet(4), student, train(), null, {
        ...quiet,
        featureLayers: ['stage1', 'stag3'],
      })
    await expect(run()).rejects.toThrow(/no layer "stag3"; near names: stage1, stage2/)
    expect(await codeOfAsync(run)).toBe('ERR_UNKNOWN_LAYER')
    expect(Object.hasOwn(student.stage1, 'forward')).toBe(false)
  })

  it('refuses settings that make no sense', async () => {
    const run = (options: object) => () =>
      trainWithFeatureDistillation(makeNet(2), makeNet(2), train(), null, {
        featureLayers,
        ...quiet,
        ...options,
      })
    expect(await codeOfAsync(run({ featureLayers: [] }))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(run({ adapt: 'both' }))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(run({ epochs: 0 }))).toBe('ERR_ARGUMENT')
  })
})

describe('trainWithLogitsDistillation()', () => {
  it('follows the teacher’s outputs', async () => {
    manualSeed(0)
    const [teacher, student] = [makeNet(8), makeNet(4)]
    await trainClassifier(teacher, train(), null, { ...quiet, epochs: 8, lr: 1e-2 })
    const { history } = await trainWithLogitsDistillation(teacher, student, train(), validation(), {
      ...quiet,
      epochs: 8,
      lr: 1e-2,
      loss: new LogitsDistillationLoss({ alpha: 1, temperature: 2 }), // labels play no part
    })
    expect(history.at(-1)!.accuracy).toBeGreaterThan(85)
  })
})

describe('AdaptationLayer', () => {
  it('is the identity for equal channels', () => {
    const x = onDevice.randn([2, 4, 3, 3])
    const layer = new AdaptationLayer(4, 4).to(onDevice.device)
    expect(layer.parameters()).toHaveLength(0)
    expect(layer.forward(x).tolist()).toEqual(x.tolist())
  })

  it('changes channels and keeps the size for odd kernels, with Xavier-uniform weights', () => {
    manualSeed(0)
    const layer = new AdaptationLayer(256, 128).to(onDevice.device)
    expect(layer.forward(onDevice.randn([2, 256, 8, 8])).shape).toEqual([2, 128, 8, 8])
    const bound = Math.sqrt(6 / (256 + 128))
    const largest = layer.parameters()[0]!.abs().max().item()
    expect(largest).toBeLessThanOrEqual(bound)
    expect(largest).toBeGreaterThan(0.95 * bound)
    expect(
      new AdaptationLayer(4, 2, 3).to(onDevice.device).forward(onDevice.randn([1, 4, 5, 7])).shape,
    ).toEqual([1, 2, 5, 7])
    expect(Object.keys(layer.stateDict())).toEqual(['adapt.weight', 'adapt.bias'])
  })

  it('names the channels that it expects', () => {
    const layer = new AdaptationLayer(256, 128).to(onDevice.device)
    expect(codeOf(() => layer.forward(onDevice.randn([1, 32, 2, 2])))).toBe('ERR_CHANNEL_MISMATCH')
  })
})

describe('StudentWithFeatureExtraction', () => {
  it('has its documented shapes and state-dict keys', () => {
    const student = new StudentWithFeatureExtraction().to(onDevice.device)
    const [logits, features] = student.forward(onDevice.randn([2, 3, 8, 8]), { returnFeatures: true })
    expect(logits.shape).toEqual([2, 10])
    expect(features.map(feature => feature.shape)).toEqual([
      [2, 64, 8, 8],
      [2, 128, 8, 8],
      [2, 256, 8, 8],
    ])
    expect(features.every(feature => feature.min().item() >= 0)).toBe(true)
    expect(Object.keys(student.stateDict())).toEqual(
      ['conv1', 'conv2', 'conv3', 'fc'].flatMap(name => [`${name}.weight`, `${name}.bias`]),
    )
    expect(student.forward(onDevice.randn([1, 3, 4, 4])).shape).toEqual([1, 10])
    expect(student.parameterCount()).toBe(373_386)
  })
})

describe('losses', () => {
  const s = onDevice.randn([2, 4, 6, 6])
  const logits = onDevice.randn([2, 3])
  const labels = onDevice.tensor([0n, 2n])

  it.each([
    [
      'differing channels',
      'ERR_CHANNEL_MISMATCH',
      [s],
      [onDevice.randn([2, 8, 6, 6])],
      labels,
      /\(2, 4, 6, 6\).*\(2, 8, 6, 6\).*AdaptationLayer\(8, 4\)/,
    ],
    ['lists of different length', 'ERR_LENGTH_MISMATCH', [s, s], [s], labels, /\(2\), got 1/],
    ['empty lists', 'ERR_LENGTH_MISMATCH', [], [], labels, /at least one feature/],
    [
      'other batch sizes',
      'ERR_SHAPE_MISMATCH',
      [s],
      [onDevice.randn([3, 4, 6, 6])],
      labels,
      /one batch size/,
    ],
    [
      'other shapes that are not 4-D',
      'ERR_SHAPE_MISMATCH',
      [onDevice.randn([2, 5, 3])],
      [onDevice.randn([2, 5, 4])],
      labels,
      /only 4-D/,
    ],
    [
      'integer features',
      'ERR_DTYPE',
      [onDevice.tensor([[1n], [2n]])],
      [onDevice.tensor([[1n], [2n]])],
      labels,
      /floating point/,
    ],
    ['a label out of range', 'ERR_LABEL_RANGE', [s], [s], onDevice.tensor([0n, 3n]), /3/],
    ['a negative label', 'ERR_LABEL_RANGE', [s], [s], onDevice.tensor([-1n, 0n]), /-1/],
    ['labels of another dtype', 'ERR_DTYPE', [s], [s], onDevice.tensor([0, 2]), /int64/],
  ] as const)('refuse %s', (_, code, student, teacher, target, message) => {
    for (const loss of [new FeatureDistillationLoss(), new AttentionTransfer()]) {
      if (code === 'ERR_CHANNEL_MISMATCH' && loss instanceof AttentionTransfer) continue // may differ there
      const run = () => loss.forward([...student], [...teacher], logits, target)
      expect(codeOf(run)).toBe(code)
      expect(run).toThrow(
        code === 'ERR_SHAPE_MISMATCH' && loss instanceof AttentionTransfer ? /expected/ : message,
      )
    }
  })

  it('refuse options out of range', () => {
    expect(codeOf(() => new FeatureDistillationLoss({ alpha: 1.5 }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new FeatureDistillationLoss({ criterion: 'l1' as 'mse' }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new AttentionTransfer({ weights: [-1, 2] }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new AttentionTransfer({ weights: [0, 0] }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new LogitsDistillationLoss({ temperature: 0 }))).toBe('ERR_ARGUMENT')
    expect(
      codeOf(() => new FeatureDistillationLoss({ weights: [1, 2] }).forward([s], [s], logits, labels)),
    ).toBe('ERR_LENGTH_MISMATCH')
  })
})
