import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { proceduralImages } from '../lib/data/procedural.js'
import { renderImages } from '../lib/data/procedural/render.js'
import * as shapes from '../lib/data/procedural/shapes.js'
import { failure } from './data.fixtures.js'

const IMAGE_BYTES = 3 * 32 * 32

describe('proceduralImages', () => {
  it('gives the same bytes for the same seed on every machine', () => {
    const { pixels } = renderImages(100, 1, 32, 10)
    expect(createHash('sha256').update(pixels).digest('hex')).toMatchInlineSnapshot(
      `"821757c720be3aef0c4b240bc38dc9509c7eb8de929d795d52298eb85f6602c6"`,
    )
  })

  it('makes picture i from the seed and i alone: fewer pictures are the first of more', () => {
    const few = proceduralImages({ count: 7, seed: 3 })
    const many = proceduralImages({ count: 20, seed: 3 })
    expect(Buffer.compare(few.pixels, many.pixels.subarray(0, few.pixels.length))).toBe(0)
  })

  it('has no picture twice, within a seed or between neighbouring seeds', () => {
    const seen = new Set<string>()
    for (const seed of [0, 1, 2]) {
      const { pixels } = renderImages(500, seed, 32, 10)
      for (let start = 0; start < pixels.length; start += IMAGE_BYTES)
        seen.add(
          createHash('sha1')
            .update(pixels.subarray(start, start + IMAGE_BYTES))
            .digest('hex'),
        )
    }
    expect(seen.size).toBe(1500)
  })

  it('holds as many pictures of each class, named, as 32×32 in three channels', () => {
    const images = proceduralImages({ count: 50 })
    expect(images.shape).toEqual([3, 32, 32])
    expect(images.pixels).toHaveLength(50 * IMAGE_BYTES)
    const counts = new Array<number>(10).fill(0)
    for (const label of images.labels) counts[label]!++
    expect(counts).toEqual(new Array(10).fill(5))
    expect(images.classes).toEqual([
      'disc',
      'ring',
      'half disc',
      'crescent',
      'triangle',
      'square',
      'hexagon',
      'star',
      'cross',
      'corner',
    ])
  })

  it('normalises by about what its pictures measure', () => {
    const images = proceduralImages({ count: 2000, seed: 5 })
    const { mean, std } = images.statistics()
    for (const channel of [0, 1, 2]) {
      expect(mean[channel]).toBeCloseTo(images.mean[channel]!, 1)
      expect(std[channel]).toBeCloseTo(images.std[channel]!, 1)
    }
  })

  it('makes other sizes and fewer classes', () => {
    const images = proceduralImages({ count: 6, size: 48, classes: 3 })
    expect(images.shape).toEqual([3, 48, 48])
    expect([...images.labels]).toEqual([0, 1, 2, 0, 1, 2])
    expect(images.classes).toEqual(['disc', 'ring', 'half disc'])
  })

  it('cannot be told apart by colours: the nearest class mean is right hardly more often than chance', () => {
    const train = renderImages(3000, 1, 32, 10)
    const means = Array.from({ length: 10 }, () => new Float64Array(IMAGE_BYTES))
    train.pixels.forEach((byte, at) => {
      means[train.labels[Math.floor(at / IMAGE_BYTES)]!]![at % IMAGE_BYTES]! += byte / 300
    })
    const test = renderImages(500, 2, 32, 10)
    let right = 0
    for (let image = 0; image < 500; image++) {
      const pixels = test.pixels.subarray(image * IMAGE_BYTES, (image + 1) * IMAGE_BYTES)
      const distances = means.map(mean => pixels.reduce((sum, byte, at) => sum + (byte - mean[at]!) ** 2, 0))
      if (distances.indexOf(Math.min(...distances)) === test.labels[image]) right++
    }
    expect(right / 500).toBeLessThan(0.25)
  })

  it('makes more than 2,000 pictures a second', () => {
    renderImages(200, 0, 32, 10)
    const start = process.cpuUsage()
    renderImages(1000, 1, 32, 10)
    const { user, system } = process.cpuUsage(start)
    expect((user + system) / 1e6).toBeLessThan(0.5)
  })

  it.each([
    [{ count: 0 }, 'count: expected an integer from 1 to'],
    [{ count: 10, seed: -1 }, 'seed: expected an integer from 0 to'],
    [{ count: 10, size: 4 }, 'size: expected an integer from 8 to 512, got 4'],
    [{ count: 10, classes: 11 }, 'classes: expected an integer from 2 to 10, got 11'],
  ])('refuses %j', async (options, message) => {
    const error = await failure(() => proceduralImages(options))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toContain(message)
  })
})

describe('each shape', () => {
  it.each(Object.entries(shapes))('%s lies within 1.14 units of its centre', (_, distance) => {
    for (let step = 0; step < 360; step++) {
      const [x, y] = [Math.cos(step), Math.sin(step)]
      expect(distance(1.14 * x, 1.14 * y)).toBeGreaterThan(0)
    }
  })

  it.each(Object.entries(shapes))('%s has distances that change no faster than one walks', (_, distance) => {
    for (let step = 0; step < 2000; step++) {
      const [x, y] = [((step * 0.618) % 2) - 1, ((step * 0.414) % 2) - 1]
      const change = Math.abs(distance(x + 1e-4, y + 1e-4) - distance(x, y))
      expect(change).toBeLessThan(1e-4 * Math.SQRT2 * 1.001)
    }
  })
})
