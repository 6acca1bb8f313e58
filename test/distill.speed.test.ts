/** The option `speed`: the same training, faster; both models are afterwards as they were. */
import { describe, expect, test } from 'vitest'
import {
  data,
  manualSeed,
  memory,
  nn,
  noGrad,
  randn,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type FeatureDistillationOptions,
  type FitOptions,
  type Speed,
  type StepProgress,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOfAsync } from './codes.js'
import { useOwnCache } from './own-cache.js'
import { settledTensors } from './settle.js'

class Net extends nn.Module<[Tensor], Tensor> {
  conv1 = new nn.Conv2d(1, 4, 3, { padding: 1, bias: false })
  bn1 = new nn.BatchNorm2d(4)
  stage2 = new nn.Sequential(
    new nn.Conv2d(4, 8, 3, { stride: 2 }),
    new nn.BatchNorm2d(8, { affine: false }),
    new nn.ReLU(),
  )
  fc = new nn.Linear(8, 3)

  forward(x: Tensor): Tensor {
    return this.fc.forward(this.stage2.forward(this.bn1.forward(this.conv1.forward(x)).relu()).mean([2, 3]))
  }
}

/** The output of its convolution goes to the batch norm and around it. */
class Around extends nn.Module<[Tensor], Tensor> {
  conv1 = new nn.Conv2d(1, 4, 3, { padding: 1 })
  bn1 = new nn.BatchNorm2d(4)
  fc = new nn.Linear(4, 3)

  forward(x: Tensor): Tensor {
    const features = this.conv1.forward(x)
    return this.fc.forward(this.bn1.forward(features).add(features).mean([2, 3]))
  }
}

/** Statistics that are not those of a new module: folding has something to do. */
function withStatistics<M extends nn.Module>(model: M): M {
  noGrad(() => {
    for (const module of model.modules())
      if (module instanceof nn.BatchNorm2d) {
        module.running_mean!.copy_(randn([module.numFeatures]))
        module.running_var!.uniform_({ from: 0.5, to: 2 })
        module.weight?.uniform_({ from: 0.5, to: 1.5 })
        module.bias?.uniform_({ from: -1, to: 1 })
      }
  })
  return model
}

useOwnCache()

function loader(): data.DataLoader {
  manualSeed(1)
  const labels = Array.from({ length: 48 }, (_, i) => i % 3)
  const images = randn([48, 1, 8, 8])
  labels.forEach((label, i) => images.at(i, 0, 3 * label).add_(2))
  const dataset = new data.TensorDataset(images, tensor(labels, { dtype: 'int64' }))
  return new data.DataLoader(dataset, { batchSize: 16, shuffle: true, seed: 5 })
}

interface Run {
  losses: number[]
  log: string[]
  student: Net
}

async function distil(
  speed: Speed | undefined,
  teacher: nn.Module<[Tensor], Tensor>,
  options: Partial<FeatureDistillationOptions> = {},
): Promise<Run> {
  manualSeed(7)
  const student = new Net()
  const log: string[] = []
  const losses: number[] = []
  await trainWithFeatureDistillation(teacher, student, loader(), null, {
    featureLayers: ['bn1'],
    epochs: 2,
    log: line => log.push(line),
    onStep: ({ loss }) => losses.push(loss),
    speed,
    ...options,
  })
  return { losses, log, student }
}

function teacherNet(): Net {
  manualSeed(3)
  return withStatistics(new Net())
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  expect(a).toHaveLength(b.length)
  return Math.max(...a.map((each, i) => Math.abs(each - b[i]!) / Math.abs(b[i]!)))
}

/** Nothing is left to trials. */
const exact = {
  precision: 'float32',
  memoryFormat: 'channelsLast',
  prepareTeacher: true,
  threads: 2,
} as const

describe('speed in float32', () => {
  test.each([
    ['behind a batch norm', ['bn1']],
    ['behind a convolution, which then keeps its batch norm', ['conv1', 'stage2.0']],
    ['behind a stage', ['stage2']],
  ])('trains as without it, with features taken %s', async (_, featureLayers) => {
    const plain = await distil(undefined, teacherNet(), { featureLayers })
    const fast = await distil(exact, teacherNet(), { featureLayers })
    expect(largestDifference(fast.losses, plain.losses)).toBeLessThan(1e-3)
  })

  test('says in one line what it chose and why', async () => {
    const { log } = await distil(exact, teacherNet())
    expect(log[0]).toMatch(
      /^speed: precision float32 \(as given\); memoryFormat channelsLast \(as given\); threads 2 \(as given\); 2 of the teacher's 2 batch norms folded \(exact to \de-\d+\)$/,
    )
    expect(log[1]).toMatch(/^Epoch 1: /)
  })

  test('folds no batch norm behind a convolution whose features are taken', async () => {
    const { log } = await distil(exact, teacherNet(), { featureLayers: ['conv1'] })
    expect(log[0]).toContain("1 of the teacher's 2 batch norms folded")
  })

  test('leaves batch norms alone where their input is used elsewhere as well', async () => {
    manualSeed(3)
    const make = () => {
      manualSeed(3)
      return withStatistics(new Around())
    }
    const plain = await distil(undefined, make())
    const fast = await distil(exact, make())
    expect(fast.log[0]).toMatch(/batch norms left alone \(folding would change what it gives by \d/)
    expect(largestDifference(fast.losses, plain.losses)).toBeLessThan(1e-3)
  })

  test('works with logits alone, and without a teacher', async () => {
    for (const train of [
      (speed: Speed | undefined, student: Net, losses: number[]) =>
        trainWithLogitsDistillation(teacherNet(), student, loader(), null, {
          epochs: 1,
          log: null,
          onStep: ({ loss }) => losses.push(loss),
          speed,
        }),
      (speed: Speed | undefined, student: Net, losses: number[]) =>
        trainClassifier(student, loader(), null, {
          epochs: 1,
          log: null,
          onStep: ({ loss }) => losses.push(loss),
          speed,
        }),
    ]) {
      const losses = [undefined, exact].map(() => [] as number[])
      for (const [i, speed] of [undefined, exact].entries()) {
        manualSeed(7)
        await train(speed, new Net(), losses[i]!)
      }
      expect(largestDifference(losses[1]!, losses[0]!)).toBeLessThan(1e-3)
    }
  })
})

describe('speed in bfloat16', () => {
  test('trains as without it up to that precision, with parameters in float32', async () => {
    const options = { featureLayers: ['bn1', 'stage2'] }
    const plain = await distil(undefined, teacherNet(), options)
    const fast = await distil({ ...exact, precision: 'bfloat16' }, teacherNet(), options)
    const difference = largestDifference(fast.losses, plain.losses)
    expect(difference).toBeGreaterThan(0)
    expect(difference).toBeLessThan(0.05)
    expect(fast.student.parameters().every(parameter => parameter.dtype === 'float32')).toBe(true)
  })

  test('works with adaptation layers, which stay float32 too', async () => {
    manualSeed(7)
    const student = new Net()
    const { adaptation } = await trainWithFeatureDistillation(teacherNet(), student, loader(), null, {
      featureLayers: [{ student: 'stage2', teacher: 'bn1' }],
      epochs: 1,
      log: null,
      speed: { ...exact, precision: 'bfloat16' },
    })
    expect(adaptation.parameters().map(parameter => parameter.dtype)).toEqual(['float32', 'float32'])
  })
})

describe('after a training with speed', () => {
  test('the teacher computes what it did, with its own weights', async () => {
    const teacher = teacherNet().eval()
    const x = randn([2, 1, 8, 8])
    const weights = teacher.parameters()
    const before = noGrad(() => teacher.forward(x)).tolist()
    await distil('auto', teacher)
    expect(noGrad(() => teacher.forward(x)).tolist()).toEqual(before)
    expect(teacher.parameters().every((parameter, i) => parameter === weights[i])).toBe(true)
  })

  test('and between its steps, others see the teacher as it is', async () => {
    const teacher = teacherNet().eval()
    const x = randn([2, 1, 8, 8])
    const before = noGrad(() => teacher.forward(x)).tolist()
    const during: unknown[] = []
    await distil({ ...exact, precision: 'bfloat16' }, teacher, {
      onStep: () => during.push(noGrad(() => teacher.forward(x)).tolist()),
    })
    expect(during).toEqual(during.map(() => before))
  })

  test("the student's weights are contiguous again, and the threads as many as before", async () => {
    const threads = native.numThreads()
    const { student } = await distil({ ...exact, threads: threads + 1 }, teacherNet(), {
      onStep: () => {
        expect(native.numThreads()).toBe(threads + 1)
      },
    })
    expect(native.numThreads()).toBe(threads)
    expect(student.parameters().every(parameter => parameter.isContiguous())).toBe(true)
  })

  test('nothing is left behind, even of a batch that was asked for and not needed', async () => {
    const [teacher, student, batches] = [teacherNet(), new Net(), loader()]
    const controller = new AbortController()
    const run = (signal?: AbortSignal) =>
      trainWithFeatureDistillation(teacher, student, batches, null, {
        featureLayers: ['bn1'],
        adapt: 'none',
        epochs: 1,
        log: null,
        speed: 'auto',
        onStep: () => {
          if (signal) controller.abort()
        },
        signal,
      })
    await run()
    const tensors = await settledTensors()
    await run()
    expect(memory().tensors).toBe(tensors)
    await run(controller.signal)
    expect(memory().tensors).toBe(tensors)
  })
})

describe('batches that are asked for ahead', () => {
  test('come in the same order, each once', async () => {
    const seen: number[] = []
    const batches = {
      *[Symbol.iterator]() {
        for (let i = 0; i < 5; i++)
          yield { data: randn([2, 1, 8, 8]), labels: tensor([0, 1], { dtype: 'int64' }) }
      },
      length: 5,
    }
    const progress: (number | undefined)[] = []
    await trainClassifier(new Net(), batches, null, {
      epochs: 2,
      log: null,
      speed: { ...exact, prefetch: true },
      onStep: ({ step, steps }) => {
        seen.push(step)
        progress.push(steps)
      },
    })
    expect(seen).toEqual([1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    expect(progress).toEqual(progress.map(() => 5))
  })

  test("pass on the loader's error", async () => {
    const failing = {
      *[Symbol.iterator]() {
        yield { data: randn([2, 1, 8, 8]), labels: tensor([0, 1], { dtype: 'int64' }) }
        throw new Error('the disk is gone')
      },
    }
    await expect(
      trainClassifier(new Net(), failing, null, { epochs: 1, log: null, speed: 'auto' }),
    ).rejects.toThrow('the disk is gone')
  })

  describe.each([
    ['prefetch', { speed: { ...exact, prefetch: true } }],
    ['compile', { compile: true }],
  ])('of a training that stops (%s)', (_, how) => {
    const quick = 6 // a compiled step is recorded first
    const makeBatch = () => ({ data: randn([2, 1, 8, 8]), labels: tensor([0, 1], { dtype: 'int64' }) })

    /** Quick batches, then one that comes when the test wants it to. */
    function slowLoader() {
      let deliver!: (batch: data.Batch) => void
      let fail!: (error: Error) => void
      const last = new Promise<data.Batch>((resolve, reject) => {
        deliver = resolve
        fail = reject
      })
      const state = { isClosed: false }
      const loader = {
        async *[Symbol.asyncIterator]() {
          try {
            for (let i = 0; i < quick; i++) yield makeBatch()
            yield await last
          } finally {
            state.isClosed = true
          }
        },
      }
      return { loader, deliver, fail, state }
    }

    const train = (loader: AsyncIterable<data.Batch>, options: FitOptions) =>
      trainClassifier(new Net(), loader, null, { epochs: 1, log: null, ...how, ...options })

    /** Ends when the last batch has been asked for. */
    const stop = async (loader: AsyncIterable<data.Batch>) => {
      const controller = new AbortController()
      const onStep = ({ step }: StepProgress) => {
        if (step === quick) controller.abort()
      }
      const { stopped } = await train(loader, { signal: controller.signal, onStep })
      expect(stopped).toBe(true)
    }

    const turns = async () => {
      for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve))
    }

    test('is not waited for when a step fails', async () => {
      const onStep = ({ step }: StepProgress) => {
        if (step === quick) throw new Error('no more of this')
      }
      await expect(train(slowLoader().loader, { onStep })).rejects.toThrow('no more of this')
    })

    test('is not waited for when the signal stops it', async () => {
      await stop(slowLoader().loader)
    })

    test('is released when it comes, and the loader closed', async () => {
      const { loader, deliver, state } = slowLoader()
      await stop(loader)
      const late = makeBatch()
      deliver(late)
      await turns()
      expect([late.data.handle, late.labels.handle]).toEqual([0, 0])
      expect(state.isClosed).toBe(true)
    })

    test("may fail, which is nobody's error any more", async () => {
      const { loader, fail, state } = slowLoader()
      const unhandled: unknown[] = []
      const listen = (error: unknown) => unhandled.push(error)
      process.on('unhandledRejection', listen)
      try {
        await stop(loader)
        fail(new Error('the disk is gone'))
        await turns()
      } finally {
        process.off('unhandledRejection', listen)
      }
      expect(unhandled).toEqual([])
      expect(state.isClosed).toBe(true)
    })
  })
})

test.each([
  { precison: 'float32' },
  { precision: 'float64' },
  { memoryFormat: 'nhwc' },
  { threads: 0 },
  { prefetch: 1 },
  'fast',
])('the option %j is refused', async speed => {
  expect(await codeOfAsync(() => distil(speed as Speed, teacherNet()))).toBe('ERR_ARGUMENT')
})
