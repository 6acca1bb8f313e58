import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { releaseBatch, Subset, type Batch, type Dataset } from '../lib/data/dataset.js'
import { ImageDataset } from '../lib/data/image-dataset.js'
import { DataLoader, type DataLoaderOptions } from '../lib/data/loader.js'
import { manualSeed, memory, rand, scope, tensor } from '../lib/index.js'
import { failure } from './data.fixtures.js'
import { settledTensors } from './settle.js'

/** One-pixel images, each of which is its own number. */
function numbered(length: number): ImageDataset {
  return new ImageDataset({
    pixels: Uint8Array.from({ length }, (_, index) => index),
    labels: Uint8Array.from({ length }, (_, index) => index),
    shape: [1, 1, 1],
  })
}

function loaderOf(length: number, options: DataLoaderOptions = {}): DataLoader<ImageDataset> {
  return new DataLoader(numbered(length), options)
}

function labelsOf(batch: Batch): number[] {
  const labels = batch.labels.tolist() as number[]
  releaseBatch(batch)
  return labels
}

function epochOf(loader: DataLoader): number[][] {
  return Array.from(loader, labelsOf)
}

/** What a refused result held is nobody's: garbage collection takes it. */
async function dropUnowned(): Promise<void> {
  alive = await settledTensors()
}

let alive = 0
beforeEach(async () => {
  alive = await settledTensors()
})
afterEach(() => {
  expect(memory().tensors).toBe(alive)
})

describe('DataLoader', () => {
  it('gives batches in order, the last one shorter', () => {
    const loader = loaderOf(7, { batchSize: 3 })
    expect(loader.length).toBe(3)
    expect(epochOf(loader)).toEqual([[0, 1, 2], [3, 4, 5], [6]])
    expect(loader.dataset).toBeInstanceOf(ImageDataset)
  })

  it('leaves the short batch out when asked to', () => {
    const loader = loaderOf(7, { batchSize: 3, dropLast: true })
    expect(loader.length).toBe(2)
    expect(epochOf(loader)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ])
  })

  it('gives single samples unless told otherwise, and nothing for a dataset without samples', () => {
    expect(epochOf(loaderOf(2))).toEqual([[0], [1]])
    const empty = new DataLoader(new Subset(numbered(2), []), { batchSize: 4, shuffle: true })
    expect(empty.length).toBe(0)
    expect(epochOf(empty)).toEqual([])
  })

  it('gives the same batches in for and in for await', async () => {
    const options = { batchSize: 4, shuffle: true, seed: 3 }
    const awaited: number[][] = []
    for await (const batch of loaderOf(10, options)) awaited.push(labelsOf(batch))
    expect(awaited).toEqual(epochOf(loaderOf(10, options)))
  })

  it('lets timers run between the batches of for await', async () => {
    let ticks = 0
    const timer = setInterval(() => ticks++, 0)
    const end = Date.now() + 30_000 // where they do not run at all
    try {
      while (ticks <= 5 && Date.now() < end) for await (const batch of loaderOf(4)) releaseBatch(batch)
    } finally {
      clearInterval(timer)
    }
    expect(ticks).toBeGreaterThan(5)
  })
})

describe('shuffling', () => {
  const options = { batchSize: 5, shuffle: true, seed: 11 }

  it('takes every sample once, in a new order each epoch', () => {
    const loader = loaderOf(50, options)
    const epochs = [epochOf(loader), epochOf(loader), epochOf(loader)].map(batches => batches.flat())
    for (const order of epochs)
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, index) => index))
    expect(new Set(epochs.map(order => order.join())).size).toBe(3)
    expect(loader.epoch).toBe(3)
  })

  it('makes the order of epoch k from seed and k: repeated by another loader, or by setting the epoch', () => {
    const first = loaderOf(50, options)
    epochOf(first)
    const second = epochOf(first)
    const other = loaderOf(50, options)
    other.epoch = 1
    expect(epochOf(other)).toEqual(second)
    expect([...other.order(1)]).toEqual(second.flat())
    expect(epochOf(loaderOf(50, { ...options, seed: 12 })).flat()).not.toEqual([...other.order(0)])
  })

  it('has nothing to do with the generator of libtorch', () => {
    manualSeed(1)
    const before = epochOf(loaderOf(50, options))
    manualSeed(2)
    const drawn = rand([100])
    drawn.dispose()
    expect(epochOf(loaderOf(50, options))).toEqual(before)
    manualSeed(5)
    using expected = rand([3])
    manualSeed(5)
    epochOf(loaderOf(50, options))
    using actual = rand([3])
    expect(actual.tolist()).toEqual(expected.tolist())
  })

  it('goes on to the next epoch after a loop that ended early', () => {
    const loader = loaderOf(50, options)
    for (const batch of loader) {
      releaseBatch(batch)
      break
    }
    expect(epochOf(loader).flat()).toEqual([...loader.order(1)])
  })
})

describe('augmentation in a loader', () => {
  const dataset = new ImageDataset({
    pixels: Uint8Array.from({ length: 20 * 9 }, (_, index) => index),
    labels: new Uint8Array(20),
    shape: [1, 3, 3],
    augment: { cropPadding: 2 },
  })
  const epochs = (seed: number) => {
    const loader = new DataLoader(dataset, { batchSize: 20, seed })
    return [0, 1].map(() =>
      scope(() => Array.from(loader, ({ data }) => (data.toTypedArray() as Float32Array).join()).join()),
    )
  }

  it('differs between epochs and seeds, and is repeated by the same seed', () => {
    const [first, second] = epochs(1)
    expect(second).not.toBe(first)
    expect(epochs(1)).toEqual([first, second])
    expect(epochs(2)[0]).not.toBe(first)
  })
})

describe('lifetime of batches', () => {
  it('has no tensors alive but those of the batch at hand', async () => {
    const before = memory().tensors
    for (const batch of loaderOf(8, { batchSize: 2 })) {
      expect(memory().tensors).toBe(before + 2)
      releaseBatch(batch)
    }
    for await (const batch of loaderOf(8, { batchSize: 2 })) {
      expect(memory().tensors).toBe(before + 2)
      releaseBatch(batch)
    }
  })

  it('leaves nothing behind when a loop breaks or throws', async () => {
    const before = memory().tensors
    for (const batch of loaderOf(8)) {
      releaseBatch(batch)
      break
    }
    const failing = async () => {
      for await (const batch of loaderOf(8)) {
        releaseBatch(batch)
        throw new Error('stop')
      }
    }
    await expect(failing()).rejects.toThrow('stop')
    expect(memory().tensors).toBe(before)
  })

  it('lets a scope around each step release the batch', () => {
    const iterator = loaderOf(4, { batchSize: 2 })[Symbol.iterator]()
    const before = memory().tensors
    scope(() => {
      const { value } = iterator.next()
      expect((value as Batch).data.shape).toEqual([2, 1, 1, 1])
    })
    expect(memory().tensors).toBe(before)
  })
})

describe('device and transform', () => {
  it('moves batches to the device', () => {
    for (const batch of loaderOf(2, { batchSize: 2, device: 'meta' })) {
      expect([batch.data.device, batch.labels.device]).toEqual(['meta', 'meta'])
      expect(batch.data.shape).toEqual([2, 1, 1, 1])
      releaseBatch(batch)
    }
  })

  it('applies the transform last and releases what it made on the way', () => {
    const transform = ({ data, labels }: Batch) => ({ data: data.mul(255).add(1).flatten(), labels })
    const before = memory().tensors
    for (const batch of loaderOf(4, { batchSize: 2, device: 'cpu', transform })) {
      expect(memory().tensors).toBe(before + 2)
      const labels = batch.labels.tolist() as number[]
      expect(batch.data.tolist()).toEqual(labels.map(label => label + 1))
      releaseBatch(batch)
    }
  })

  it('hands on a batch that the transform returns as it came', () => {
    for (const batch of loaderOf(2, { batchSize: 2, transform: batch => batch })) {
      expect(batch.data.isDisposed).toBe(false)
      expect(labelsOf(batch)).toEqual([0, 1])
    }
  })

  it('releases the batch when the transform throws', () => {
    const transform = ({ data }: Batch): Batch => {
      data.add(1)
      throw new Error('bad transform')
    }
    const before = memory().tensors
    expect(() => epochOf(loaderOf(4, { transform }))).toThrow('bad transform')
    expect(memory().tensors).toBe(before)
  })

  it('releases a batch that only passed through when an outer scope ends', () => {
    const before = memory().tensors
    scope(() => {
      for (const batch of loaderOf(4, { transform: batch => batch })) expect(batch.data.numel()).toBe(1)
    })
    expect(memory().tensors).toBe(before)
  })
})

describe("a user's own dataset", () => {
  it('needs no more than a length and batches', () => {
    const squares: Dataset = {
      length: 5,
      batch: indices => ({
        data: tensor(Array.from(indices, index => [index, index * index])),
        labels: tensor(Array.from(indices, index => BigInt(index % 2))),
      }),
    }
    const rows: unknown[] = []
    for (const batch of new DataLoader(squares, { batchSize: 2 })) {
      rows.push(...(batch.data.tolist() as unknown[]))
      releaseBatch(batch)
    }
    expect(rows).toEqual([[0, 0], [1, 1], [2, 4], [3, 9], [4, 16]]) // prettier-ignore
  })
})

describe('DataLoader refuses', () => {
  it.each([0, -1, 1.5, Number.NaN])('the batch size %d', async batchSize => {
    const error = await failure(() => loaderOf(4, { batchSize }))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toBe(`DataLoader: batchSize: expected an integer of at least 1, got ${batchSize}`)
  })

  it('a negative seed', async () => {
    const error = await failure(() => loaderOf(4, { seed: -1 }))
    expect(error.message).toBe('DataLoader: seed: expected an integer from 0 to 2^53 − 1, got -1')
  })

  const whole = { data: () => tensor([1]), labels: () => tensor([1n]) }
  const nonsense: [string, () => unknown, string][] = [
    ['null', () => null, 'null'],
    ['a number', () => 5, '5'],
    ['a list', () => [], '[]'],
    ['numbers', () => ({ data: 1, labels: [2] }), '{ data: 1, labels: [2] }'],
    ['no labels', () => ({ data: tensor([1]) }), '{ data: Tensor, labels: undefined }'],
  ]

  it.each(nonsense)('what is no batch, from a transform and from a data set: %s', async (_, make, got) => {
    const make2 = make as () => Batch
    for (const what of ['transform', 'batch() of the data set']) {
      const loader = () =>
        what === 'transform' ? loaderOf(2, { transform: make2 }) : new DataLoader({ length: 2, batch: make2 })
      const both = [
        await failure(() => scope(() => void [...loader()])),
        await failure(() => loader()[Symbol.asyncIterator]().next()),
      ]
      for (const error of both) {
        expect(error.code).toBe('ERR_ARGUMENT')
        expect(error.message).toBe(
          `DataLoader: expected ${what} to return a batch { data, labels } of two tensors, got ${got}`,
        )
      }
    }
    await dropUnowned()
  })

  it('a batch that comes later, in a plain for', async () => {
    const later = () => Promise.resolve({ data: whole.data(), labels: whole.labels() })
    const dataset = { length: 1, batch: later as unknown as Dataset['batch'] }
    expect((await failure(() => [...new DataLoader(dataset)])).code).toBe('ERR_ASYNC_CALLBACK')
    for await (const batch of new DataLoader(dataset)) releaseBatch(batch)
    await dropUnowned()
  })

  it.each([-1, 1.5, Number.NaN, 2 ** 40, Infinity])('a data set of length %d', async length => {
    const dataset = { length, batch: () => ({ data: whole.data(), labels: whole.labels() }) }
    expect((await failure(() => new DataLoader(dataset))).message).toBe(
      `DataLoader: length of the data set: expected an integer from 0 to 2147483647, got ${length}`,
    )
    const growing = { ...dataset, length: 1 }
    const loader = new DataLoader(growing)
    growing.length = length
    expect((await failure(() => [...loader])).code).toBe('ERR_ARGUMENT')
  })

  it.each([-1, '3', 0.5, null])('the epoch %s', async epoch => {
    const loader = loaderOf(2)
    const error = await failure(() => (loader.epoch = epoch as number))
    expect(error.message).toContain('DataLoader: epoch: expected an integer from 0 to 2^53 − 1, got')
    expect(loader.epoch).toBe(0)
  })
})

it('what a data set gives beside pictures and labels goes to the device with them', () => {
  const dataset = {
    length: 2,
    batch: () => ({
      data: rand([2]),
      labels: tensor([0n, 1n]),
      indices: tensor([5n, 7n]),
      targets: rand([2, 2]),
    }),
  }
  const [batch] = [...new DataLoader(dataset, { batchSize: 2, device: 'cpu' })]
  expect(batch!.indices!.tolist()).toEqual([5, 7])
  expect(batch!.targets!.shape).toEqual([2, 2])
  releaseBatch(batch!)
})

it('what is no tensor in the place of one is refused', async () => {
  const batch = () => ({ data: rand([1]), labels: tensor([0n]), indices: [5] })
  const loader = new DataLoader({ length: 1, batch: batch as unknown as Dataset['batch'] })
  expect((await failure(() => [...loader])).message).toMatch(/got \{ data: .*, labels: .*, indices: \[5\] \}/)
  await dropUnowned()
})
