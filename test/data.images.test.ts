import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { randomSplit, splitIndices, Subset } from '../lib/data/dataset.js'
import { ImageDataset, type ImageDatasetInit } from '../lib/data/image-dataset.js'
import { Random } from '../lib/data/random.js'
import { TensorDataset } from '../lib/data/tensor-dataset.js'
import { data, memory, scope, tensor, type Tensor } from '../lib/index.js'
import { failure, someBytes } from './data.fixtures.js'
import { settledTensors } from './settle.js'

/** Six images 2×3×4. */
function images(options: Partial<ImageDatasetInit> = {}): ImageDataset {
  return new ImageDataset({
    pixels: someBytes(6 * 24),
    labels: Uint8Array.of(0, 1, 2, 0, 1, 2),
    shape: [2, 3, 4],
    classes: ['a', 'b', 'c'],
    ...options,
  })
}

let alive = 0
beforeEach(async () => {
  alive = await settledTensors()
})
afterEach(() => {
  expect(memory().tensors).toBe(alive)
})

/** A batch's content; the batch is disposed of. */
function read({ data, labels }: ReturnType<ImageDataset['batch']>) {
  const content = {
    shape: data.shape,
    dtype: data.dtype,
    data: [...(data.toTypedArray() as Float32Array)],
    labels: labels.tolist(),
    labelType: labels.dtype,
  }
  data.dispose()
  labels.dispose()
  return content
}

describe('ImageDataset.batch', () => {
  it('gives float32 images (N, C, H, W) in the order asked for and int64 labels (N)', () => {
    const batch = read(images().batch([4, 0, 4]))
    expect(batch.shape).toEqual([3, 2, 3, 4])
    expect([batch.dtype, batch.labelType]).toEqual(['float32', 'int64'])
    expect(batch.labels).toEqual([1, 0, 1])
    const bytes = someBytes(6 * 24)
    const expected = [4, 0, 4].flatMap(index => [...bytes.subarray(index * 24, (index + 1) * 24)])
    expect(batch.data).toEqual(expected.map(byte => Math.fround(byte / 255)))
  })

  it('normalises each channel by its own mean and std', () => {
    const mean = [0.25, 0.5]
    const std = [0.5, 2]
    const { data } = read(images({ mean, std }).batch([1]))
    const expected = [...someBytes(48).subarray(24)].map((byte, at) => {
      const channel = Math.floor(at / 12)
      return Math.fround((byte / 255 - mean[channel]!) / std[channel]!)
    })
    expect(data).toEqual(expected)
  })

  it('takes an Int32Array, and batches of different sizes one after the other', () => {
    const dataset = images()
    const large = read(dataset.batch(Int32Array.of(0, 1, 2)))
    const small = read(dataset.batch(Int32Array.of(2)))
    expect(small.data).toEqual(large.data.slice(48))
    expect(read(dataset.batch([])).shape).toEqual([0, 2, 3, 4])
  })

  it('keeps a batch as it is while the next one is made', () => {
    const dataset = images()
    const first = dataset.batch([0])
    const before = first.data.tolist()
    read(dataset.batch([1]))
    expect(first.data.tolist()).toEqual(before)
    read(first)
  })

  it.each([6, -1, 0.5, Number.NaN])('refuses the index %d', async index => {
    const error = await failure(() => images().batch([0, index]))
    expect(error.code).toBe('ERR_INDEX')
    expect(error.message).toBe(`ImageDataset.batch: expected indices from 0 to 5, got ${index} at position 1`)
  })
})

describe('augmentation', () => {
  it('flips about half of the images, all channels and rows of each', () => {
    const dataset = images({ augment: { horizontalFlip: true } })
    const plain = read(dataset.batch([0])).data
    const mirrored = plain.map((_, at) => plain[at - (at % 4) + 3 - (at % 4)]!)
    const { data } = read(dataset.batch(new Array<number>(400).fill(0), new Random(1)))
    let flipped = 0
    for (let image = 0; image < 400; image++) {
      const pixels = data.slice(image * 24, (image + 1) * 24)
      if (pixels[0] === mirrored[0]) flipped++
      expect(pixels).toEqual(pixels[0] === mirrored[0] ? mirrored : plain)
    }
    expect(Math.abs(flipped - 200)).toBeLessThan(50)
  })

  it('cuts images out of themselves at every place within the padding, with black around', () => {
    const [height, width] = [3, 4]
    const bytes = someBytes(12)
    const dataset = new ImageDataset({
      pixels: bytes,
      labels: Uint8Array.of(0),
      shape: [1, height, width],
      mean: [0.5],
      augment: { cropPadding: 1 },
    })
    const expected = new Map<string, [number, number]>()
    for (const down of [-1, 0, 1])
      for (const right of [-1, 0, 1]) {
        const shifted = Array.from({ length: 12 }, (_, at) => {
          const [row, column] = [Math.floor(at / width) + down, (at % width) + right]
          const inside = row >= 0 && row < height && column >= 0 && column < width
          return Math.fround((inside ? bytes[row * width + column]! : 0) / 255 - 0.5)
        })
        expected.set(shifted.join(), [down, right])
      }
    const { data } = read(dataset.batch(new Array<number>(200).fill(0), new Random(2)))
    const seen = new Set<string>()
    for (let image = 0; image < 200; image++) seen.add(data.slice(image * 12, (image + 1) * 12).join())
    expect([...seen].sort()).toEqual([...expected.keys()].sort())
  })

  it('shifts and flips together', () => {
    const dataset = new ImageDataset({
      pixels: Uint8Array.of(10, 20, 30),
      labels: Uint8Array.of(0),
      shape: [1, 1, 3],
      augment: { cropPadding: 1, horizontalFlip: true },
    })
    const { data } = read(dataset.batch(new Array<number>(500).fill(0), new Random(3)))
    const rows = new Set<string>()
    for (let at = 0; at < data.length; at += 3)
      rows.add(
        data
          .slice(at, at + 3)
          .map(value => Math.round(value * 255))
          .join(),
      )
    expect([...rows].sort()).toEqual(
      ['0,0,0', '0,10,20', '10,20,30', '20,10,0', '20,30,0', '0,30,20', '30,20,10'].sort(),
    )
  })

  it('is repeated by the same random numbers and left out without any', () => {
    const dataset = images({ augment: { horizontalFlip: true, cropPadding: 2 } })
    const indices = [0, 1, 2, 3, 4, 5]
    const first = read(dataset.batch(indices, new Random(4))).data
    expect(read(dataset.batch(indices, new Random(4))).data).toEqual(first)
    expect(read(dataset.batch(indices, new Random(5))).data).not.toEqual(first)
    expect(read(dataset.batch(indices)).data).toEqual(read(images().batch(indices)).data)
  })
})

describe('ImageDataset', () => {
  it('makes subsets of their own, in the order asked for', () => {
    const subset = images({ mean: [0.1, 0.2] }).subset([5, 0])
    expect(subset.length).toBe(2)
    expect([...subset.labels]).toEqual([2, 0])
    expect(read(subset.batch([0, 1])).data).toEqual(read(images({ mean: [0.1, 0.2] }).batch([5, 0])).data)
  })

  it('splits into parts that together hold every image once', () => {
    const dataset = new ImageDataset({
      pixels: Uint8Array.from({ length: 100 }, (_, index) => index),
      labels: new Int32Array(100),
      shape: [1, 1, 1],
    })
    const [train, validation] = dataset.split([0.9, 0.1], { seed: 1 })
    expect([train!.length, validation!.length]).toEqual([90, 10])
    const all = [...train!.pixels, ...validation!.pixels]
    expect(all).not.toEqual([...dataset.pixels])
    expect(all.sort((a, b) => a - b)).toEqual([...dataset.pixels])
  })

  it('shares its pixels with a version of other normalisation or augmentation', () => {
    const dataset = images({ mean: [0.5, 0.5] })
    const augmented = dataset.with({ augment: { horizontalFlip: true } })
    expect(augmented.pixels).toBe(dataset.pixels)
    expect(augmented.mean).toEqual([0.5, 0.5])
    expect(augmented.augment.horizontalFlip).toBe(true)
    expect(dataset.augment.horizontalFlip).toBe(false)
  })

  it('measures mean and std of each channel', () => {
    const dataset = new ImageDataset({
      pixels: Uint8Array.of(0, 255, 51, 51, 255, 255, 51, 51),
      labels: Uint8Array.of(0, 0),
      shape: [2, 1, 2],
    })
    const { mean, std } = dataset.statistics()
    expect(mean[0]).toBeCloseTo(0.75, 12)
    expect(std[0]).toBeCloseTo(Math.sqrt(3) / 4, 12)
    expect(mean[1]).toBeCloseTo(0.2, 12)
    expect(std[1]).toBeCloseTo(0, 7)
  })

  it('prints what it is', () => {
    const dataset = images({ augment: { cropPadding: 4 } })
    const text = 'ImageDataset(6 images 2×3×4, 3 classes, mean [0, 0], std [1, 1], crop padding 4)'
    expect(String(dataset)).toBe(text)
    expect(inspect(dataset)).toBe(text)
  })

  it.each<[Partial<ImageDatasetInit>, string, RegExp]>([
    [
      { pixels: new Uint8Array(143) },
      'ERR_LENGTH_MISMATCH',
      /expected 144 bytes of pixels for 6 labels .*got 143/,
    ],
    [
      { labels: Uint8Array.of(0, 1, 2, 3, 1, 2) },
      'ERR_LABEL_RANGE',
      /labels\[3\]: expected a label from 0 to 2, got 3/,
    ],
    [{ labels: Int32Array.of(0, 1, -1, 0, 1, 2) }, 'ERR_LABEL_RANGE', /labels\[2\]: .*got -1/],
    [{ mean: [0.5] }, 'ERR_ARGUMENT', /mean: expected 2 numbers, one for each channel, got \[0.5\]/],
    [{ std: [1, 0] }, 'ERR_ARGUMENT', /std: expected 2 numbers above 0, one for each channel, got \[1, 0\]/],
    [{ shape: [2, 3, 0] }, 'ERR_ARGUMENT', /shape: expected \[channels, height, width\]/],
    [{ augment: { cropPadding: -1 } }, 'ERR_ARGUMENT', /augment.cropPadding: expected a number of pixels/],
  ])('refuses %j', async (options, code, message) => {
    const error = await failure(() => images(options))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
  })
})

describe('TensorDataset', () => {
  it('gives the rows asked for, of any shape', () => {
    scope(() => {
      const dataset = new TensorDataset(tensor([[1, 2], [3, 4], [5, 6]]), tensor([7n, 8n, 9n])) // prettier-ignore
      expect(dataset.length).toBe(3)
      const { data, labels } = dataset.batch([2, 0])
      expect(data.tolist()).toEqual([[5, 6], [1, 2]]) // prettier-ignore
      expect(labels.tolist()).toEqual([9, 7])
      expect(String(dataset)).toBe('TensorDataset(3×2 float32 on cpu)')
    })
  })

  it('makes nothing but the batch', () => {
    scope(() => {
      const dataset = new TensorDataset(tensor([[1], [2]]), tensor([0n, 1n]))
      const before = memory().tensors
      const { data, labels } = dataset.batch([1])
      expect(memory().tensors).toBe(before + 2)
      data.dispose()
      labels.dispose()
    })
  })

  it('refuses labels that are not int64 and sizes that differ', () =>
    scope(() => {
      const data = tensor([[1], [2]])
      expect(() => new TensorDataset(data, tensor([0, 1]))).toThrowError(
        "TensorDataset: expected labels of dtype int64, got float32; convert them with labels.to('int64')",
      )
      expect(() => new TensorDataset(data, tensor([0n]))).toThrowError(
        'TensorDataset: expected data (N, …) and labels (N), got [2, 1] and [1]',
      )
    }))

  it('refuses what is no tensor, and what is no list of indices, by its kind', async () => {
    const none = 1 as unknown as Tensor
    expect((await failure(() => new TensorDataset(none, none))).message).toBe(
      'TensorDataset: data: expected a tensor, got 1',
    )
    using data = tensor([[1], [2]])
    using labels = tensor([0n, 1n])
    const set = new TensorDataset(data, labels)
    const detached = new Int32Array(1)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    const nonsense: [unknown, string, string][] = [
      [[0n], 'ERR_INDEX', 'expected indices from 0 to 1, got 0n at position 0'],
      [['0'], 'ERR_INDEX', 'expected indices from 0 to 1, got "0" at position 0'],
      [0, 'ERR_ARGUMENT', 'batch: indices: expected an array of indices, got 0'],
      [undefined, 'ERR_ARGUMENT', 'batch: indices: expected an array of indices, got undefined'],
      [detached, 'ERR_ARGUMENT', 'whose memory was transferred'],
    ]
    for (const [indices, code, message] of nonsense)
      for (const each of [set, new Subset(set, [0, 1])]) {
        const error = await failure(() => each.batch(indices as number[]))
        expect(error.code).toBe(code)
        expect(error.message).toContain(message)
      }
  })

  it('refuses an index out of range', async () => {
    using data = tensor([[1], [2]])
    using labels = tensor([0n, 1n])
    const error = await failure(() => new TensorDataset(data, labels).batch([2]))
    expect(error.code).toBe('ERR_INDEX')
  })
})

describe('Subset and randomSplit', () => {
  it('choose samples of any dataset, and of subsets', () => {
    const inner = new Subset(images(), [5, 3, 1])
    const outer = new Subset(inner, [2, 0])
    expect(outer.length).toBe(2)
    expect(outer.classes).toEqual(['a', 'b', 'c'])
    expect(read(outer.batch([0, 1])).data).toEqual(read(images().batch([1, 5])).data)
    expect(String(inner)).toMatch(/^Subset\(3 of ImageDataset\(6 images/)
  })

  it('hand the random numbers on', () => {
    const dataset = images({ augment: { cropPadding: 2 } })
    const subset = new Subset(dataset, [3, 4])
    expect(read(subset.batch([0, 1], new Random(1))).data).toEqual(
      read(dataset.batch([3, 4], new Random(1))).data,
    )
  })

  it('deal out every sample once, in sizes or fractions, the same for the same seed', () => {
    const sizes = (parts: number[]) => splitIndices(11, parts, 1).map(part => part.length)
    expect(sizes([4, 7])).toEqual([4, 7])
    expect(sizes([0.5, 0.5])).toEqual([6, 5])
    expect(sizes([0.7, 0.2, 0.1])).toEqual([8, 2, 1])
    const parts = randomSplit(images(), [0.5, 0.5], { seed: 9 })
    const all = parts.flatMap(part => [...part.indices])
    expect([...all].sort()).toEqual([0, 1, 2, 3, 4, 5])
    expect(randomSplit(images(), [0.5, 0.5], { seed: 9 }).flatMap(part => [...part.indices])).toEqual(all)
  })

  it.each([[[3, 4]], [[0.5, 0.4]], [[-1, 7]], [[]]])('refuse the parts %j of six', async parts => {
    const error = await failure(() => randomSplit(images(), parts))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toContain('parts: expected sizes that add up to 6 or fractions that add up to 1')
  })
})

describe('views', () => {
  const augment = { horizontalFlip: true, cropPadding: 2, views: 2 }
  const images = data.proceduralImages({ count: 12, size: 8, seed: 1, augment })

  /** What each image looks like in an epoch. */
  const seen = (epoch: number, batchSize: number, seed = 0): string[] => {
    const loader = new data.DataLoader(images, { batchSize, shuffle: true, seed, indices: true })
    loader.epoch = epoch
    const found: string[] = []
    scope(() => {
      for (const batch of loader)
        for (const [row, index] of (batch.indices!.tolist() as bigint[]).entries())
          found[Number(index)] = String(batch.data.select(0, row).toTypedArray())
    })
    return found
  }

  it('come again in turn, whatever the order and the other images of a batch', () => {
    expect(seen(2, 5)).toEqual(seen(0, 4))
    expect(seen(3, 12)).toEqual(seen(1, 1))
    expect(seen(1, 4)).not.toEqual(seen(0, 4))
    expect(seen(0, 4, 1)).not.toEqual(seen(0, 4))
  })

  it('are 1 without augmentation, and not known where each epoch draws anew', () => {
    expect(images.views).toBe(2)
    expect(images.with({ augment: { views: 3 } }).views).toBe(1)
    expect(images.with({ augment: { horizontalFlip: true } }).views).toBeUndefined()
    expect(data.randomSplit(images, [10, 2])[0]!.views).toBe(2)
    expect(() => images.with({ augment: { views: 0 } })).toThrow('augment.views')
  })
})
