/** Mixup and cutmix: what they make of pictures and labels, and trainings with them. */
import { describe, expect, it } from 'vitest'
import {
  arange,
  data,
  LogitsDistillationLoss,
  manualSeed,
  methods,
  nn,
  optim,
  randint,
  randn,
  tensor,
  trainClassifier,
  trainWithLogitsDistillation,
  trainWithObjective,
  type FitOptions,
  type Tensor,
} from '../lib/index.js'
import { expectError } from './codes.js'

const { cutMix, mixUp, Random } = data

/** Each picture is its number everywhere, so that shares can be read off. */
function numbered(count: number, size = 8): data.Batch {
  const pictures = arange(count, { dtype: 'float64' })
    .reshape([count, 1, 1, 1])
    .expand([count, 2, size, size])
    .clone()
  return { data: pictures, labels: arange(count) }
}

const rows = (x: Tensor) => x.tolist() as number[][]

describe('mixUp', () => {
  it('mixes pictures and labels by one share', () => {
    const { data: mixed, targets, labels } = mixUp({ classes: 6 })(numbered(6), new Random(3))
    expect(labels.tolist()).toEqual([0, 1, 2, 3, 4, 5])
    const soft = rows(targets!)
    const share = soft[0]![0]!
    soft.forEach((row, i) => {
      expect(row.reduce((sum, each) => sum + each, 0)).toBeCloseTo(1, 12)
      const value = row.reduce((sum, each, label) => sum + each * label, 0)
      const picture = mixed.at(i)
      expect(picture.min().item()).toBeCloseTo(value, 12)
      expect(picture.max().item()).toBeCloseTo(value, 12)
    })
    expect(share).toBeGreaterThanOrEqual(0)
    expect(share).toBeLessThanOrEqual(1)
  })

  it.each([
    [0.2, 1 / (4 * 1.4)],
    [1, 1 / 12],
    [4, 1 / (4 * 9)],
  ])('draws the share from Beta(%d, %d)', (alpha, variance) => {
    const transform = mixUp({ classes: 2, alpha })
    const shares = Array.from({ length: 4000 }, (_, i) => {
      const one = { data: tensor([[1], [0]]), labels: tensor([0n, 0n]) }
      const random = new Random(7, i)
      const [first, second] = rows(transform(one, random).data).map(row => row[0]!)
      // Either share + 0 or, where a picture meets itself, 1 and 0.
      return first === 1 && second === 0 ? undefined : first!
    }).filter(each => each !== undefined)
    const mean = shares.reduce((sum, each) => sum + each, 0) / shares.length
    const spread = shares.reduce((sum, each) => sum + (each - mean) ** 2, 0) / shares.length
    expect(shares.length).toBeGreaterThan(1500)
    expect(mean).toBeCloseTo(0.5, 1)
    expect(spread / variance).toBeGreaterThan(0.9)
    expect(spread / variance).toBeLessThan(1.1)
  })
})

describe('cutMix', () => {
  it('mixes labels by the area that was replaced', () => {
    const seen = new Set<number>()
    for (let seed = 0; seed < 30; seed++) {
      const { data: mixed, targets } = cutMix({ classes: 5 })(numbered(5), new Random(seed))
      rows(targets!).forEach((row, i) => {
        const own = mixed.at(i, 0).eq(i).sum().item() / 64
        const other = row.findIndex((each, label) => each > 0 && label !== i)
        if (other < 0) return
        expect(row[i]).toBeCloseTo(own, 12)
        expect(mixed.at(i, 1).eq(other).sum().item() / 64).toBeCloseTo(row[other]!, 12)
        seen.add(row[i]!)
      })
    }
    expect(seen.size).toBeGreaterThan(5)
  })

  it('refuses what are no pictures', () => {
    const batch = { data: randn([4, 3]), labels: tensor([0n, 1n, 0n, 1n]) }
    expectError(() => cutMix({ classes: 2 })(batch, new Random(1)), 'ERR_ARGUMENT', /pictures \(N, C, H, W\)/)
  })
})

describe('a loader with mixed pictures', () => {
  class Net extends nn.Module<[Tensor], Tensor> {
    conv = new nn.Conv2d(3, 4, 3)
    head = new nn.Linear(4, 3)
    override forward(x: Tensor): Tensor {
      return this.head.forward(this.conv.forward(x).relu().mean([2, 3]))
    }
  }
  const loader = (transform: data.BatchTransform) => {
    manualSeed(5)
    const set = new data.TensorDataset(randn([20, 3, 6, 6]), randint(3, [20]))
    return new data.DataLoader(set, { batchSize: 6, shuffle: true, seed: 2, transform })
  }
  const net = () => {
    manualSeed(1)
    return new Net()
  }
  const quiet = {
    epochs: 3,
    log: null,
    optimizer: parameters => new optim.SGD(parameters, { lr: 0.1 }),
  } satisfies FitOptions

  it('gives the same batches for the same seed, and others in each epoch', () => {
    const read = (batches: data.DataLoader) => [...batches].map(({ targets }) => rows(targets!))
    const [first, second] = [loader(mixUp({ classes: 3 })), loader(mixUp({ classes: 3 }))]
    const epoch = read(first)
    expect(epoch).toEqual(read(second))
    expect(read(first)).not.toEqual(epoch)
  })

  it.each([
    ['mixUp', mixUp({ classes: 3 })],
    ['cutMix', cutMix({ classes: 3 })],
  ])('trains by soft labels, compiled as not: %s', async (_, transform) => {
    const train = async (compile: boolean) => {
      const model = net()
      const teacher = new Net()
      const { history, compilation } = await trainWithObjective(teacher, model, loader(transform), null, {
        ...quiet,
        compile,
        objective: [
          new methods.CrossEntropy({ labelSmoothing: 0.1 }),
          { term: new methods.KD(), weight: 0.5 },
        ],
      })
      if (compile) expect(compilation?.reason).toBeUndefined()
      return [history.map(({ loss }) => loss), model.parameters().map(each => each.tolist())]
    }
    expect(await train(true)).toEqual(await train(false))
  })

  it('is taken by trainClassifier: the loss is that of the soft labels', async () => {
    const transform = mixUp({ classes: 3 })
    const model = net()
    const [batch] = [...loader(transform)]
    const expected = nn.functional.crossEntropy(model.forward(batch!.data), batch!.targets!).item()
    let first: number | undefined
    await trainClassifier(model, loader(transform), null, {
      ...quiet,
      onStep: ({ loss }) => (first ??= loss),
    })
    expect(first).toBeCloseTo(expected, 6)
  })

  it('is refused by losses that know whole labels only', async () => {
    const train = trainWithLogitsDistillation(net(), net(), loader(mixUp({ classes: 3 })), null, {
      ...quiet,
      loss: new LogitsDistillationLoss(),
    })
    await expect(train).rejects.toThrow(/soft labels \(targets\); trainClassifier and trainWithObjective/)
  })

  it('says how many classes are wanted', () => {
    expectError(() => mixUp({} as { classes: number }), 'ERR_ARGUMENT', /mixUp: classes: expected an integer/)
    expectError(() => cutMix({ classes: 3, alpha: 0 }), 'ERR_ARGUMENT', /cutMix: alpha/)
  })
})
