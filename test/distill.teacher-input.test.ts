/** A teacher that wants other inputs than its student: the same training as with a teacher that takes them as they are. */
import { describe, expect, it } from 'vitest'
import {
  captureFeatures,
  data,
  evaluate,
  loadTorchScript,
  exportTorchScript,
  manualSeed,
  models,
  nn,
  optim,
  randn,
  tensor,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type FitOptions,
  type ModelInput,
  type Tensor,
} from '../lib/index.js'
import { join } from 'node:path'
import { folderWith } from './data.fixtures.js'
import { codeOfAsync } from './codes.js'
import * as onDevice from './device.js'
import { settledTensors } from './settle.js'

const own = { mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3] }
const others: Record<string, data.ImageFormat> = {
  'another normalisation': { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  '0 to 255, BGR': { range: [0, 255], order: 'BGR' },
  'channels last': { layout: 'NHWC' },
}

const batches = () => {
  manualSeed(3)
  const images = randn([24, 3, 8, 8])
  const labels = tensor(
    Array.from({ length: 24 }, (_, i) => i % 4),
    { dtype: 'int64' },
  )
  return new data.DataLoader(new data.TensorDataset(images, labels), { batchSize: 8 })
}

/** A teacher that takes the student's images, and the same one behind a door that takes others and brings them back. */
class Behind extends nn.Module<[Tensor], Tensor> {
  readonly net: models.ConvNet
  readonly #back: (x: Tensor) => Tensor
  constructor(net: models.ConvNet, format: data.ImageFormat) {
    super()
    this.net = net
    this.#back = data.convertImages({ from: format, to: own })
  }
  override forward(x: Tensor): Tensor {
    return this.net.forward(this.#back(x))
  }
}

const makeNet = (width: number, seed: number) => {
  manualSeed(seed)
  return new models.ConvNet({ widths: [width, 2 * width], classes: 4 }).to(onDevice.device)
}

const options = (more: FitOptions = {}): FitOptions => ({
  epochs: 2,
  log: null,
  optimizer: parameters => new optim.SGD(parameters, { lr: 0.1 }),
  ...more,
})

async function distil(
  kind: 'features' | 'logits',
  teacher: nn.Module<[Tensor], Tensor>,
  layer: string,
  teacherInput: ModelInput | undefined,
  more: FitOptions = {},
) {
  const student = makeNet(4, 2)
  manualSeed(9)
  const result =
    kind === 'logits'
      ? await trainWithLogitsDistillation(teacher, student, batches(), null, {
          ...options(more),
          teacherInput,
        })
      : await trainWithFeatureDistillation(teacher, student, batches(), null, {
          ...options(more),
          featureLayers: [{ student: 'stage2', teacher: layer }],
          teacherInput,
        })
  return { losses: result.history.map(({ loss }) => loss), result }
}

describe.each(['features', 'logits'] as const)('trainWith %s', kind => {
  it.each(Object.entries(others))('gives the teacher %s', async (_, format) => {
    const net = makeNet(8, 1)
    const { losses: expected } = await distil(kind, net, 'stage2', undefined)
    const { losses } = await distil(kind, new Behind(net, format), 'net.stage2', { from: own, to: format })
    losses.forEach((loss, i) => expect(loss).toBeCloseTo(expected[i]!, 4))
  })

  it.each([
    ['compiled', { compile: true }],
    ['made fast', { speed: { precision: 'float32', prefetch: false } as const }],
  ])('is the same %s', async (_, more: FitOptions) => {
    const format = others['0 to 255, BGR']!
    const teacher = new Behind(makeNet(8, 1), format)
    const plain = await distil(kind, teacher, 'net.stage2', { from: own, to: format })
    const other = await distil(kind, teacher, 'net.stage2', { from: own, to: format }, more)
    other.losses.forEach((loss, i) => expect(loss).toBeCloseTo(plain.losses[i]!, 5))
    if (more.compile) {
      expect(other.result.compilation!.reason).toBeUndefined()
      expect(other.result.compilation!.steps).toBeGreaterThan(0)
    }
  })

  it('takes a function, and keeps no tensor of it', async () => {
    const net = makeNet(8, 1)
    const larger: ModelInput = images => nn.functional.interpolate(images, { size: 16, mode: 'bilinear' })
    const run = () => distil(kind, net, 'stage1', larger)
    await run()
    const before = await settledTensors()
    const { losses } = await run()
    expect(losses.every(Number.isFinite)).toBe(true)
    expect(await settledTensors()).toBeLessThanOrEqual(before + 60) // the weights of a second student
    const plain = await distil(kind, net, 'stage1', undefined)
    expect(losses).not.toEqual(plain.losses)
  })

  it('refuses what is no way to make inputs', async () => {
    const net = makeNet(4, 1)
    for (const wrong of [5, 'bgr', { from: own }, () => 5])
      expect(await codeOfAsync(() => distil(kind, net, 'stage1', wrong as unknown as ModelInput))).toBe(
        'ERR_ARGUMENT',
      )
  })
})

describe('The same inputs elsewhere', () => {
  const format = others['channels last']!
  const input = { from: own, to: format }

  it('evaluate a teacher', async () => {
    const net = makeNet(8, 1)
    expect(await evaluate(new Behind(net, format), batches(), { input })).toBe(await evaluate(net, batches()))
  })

  it('show its features', () => {
    const net = makeNet(8, 1)
    net.eval()
    const x = onDevice.randn([2, 3, 8, 8])
    const { features } = captureFeatures(
      new Behind(net, format),
      ['net.stage1'],
      data.convertImages(input)(x),
    )
    const expected = captureFeatures(net, ['stage1'], x).features['stage1']!
    expect(features['net.stage1']!.sub(expected).abs().max().item()).toBeLessThan(1e-4)
  })

  it('go into a TorchScript teacher', async () => {
    const net = makeNet(8, 1)
    const wrapped = { mean: [0.1, 0.2, 0.3], std: [0.5, 0.6, 0.7] }
    const path = join(await folderWith(), 'teacher.pt')
    const behind = new Behind(net, wrapped)
    await exportTorchScript(behind, [onDevice.randn([2, 3, 8, 8])], path, { warn: null })
    const script = (await loadTorchScript(path)) as nn.Module<[Tensor], Tensor>
    const expected = await distil('logits', net, 'stage2', undefined)
    const { losses } = await distil('logits', script, 'stage2', { from: own, to: wrapped })
    losses.forEach((loss, i) => expect(loss).toBeCloseTo(expected.losses[i]!, 4))
  })
})
