import { describe, expect, it } from 'vitest'
import { permutation, Random } from '../lib/data/random.js'
import { failure } from './data.fixtures.js'

const draws = (random: Random, count: number) => Array.from({ length: count }, () => random.uint32())

describe('Random', () => {
  it('is xoshiro128**: gives the published sequence for the state 1, 2, 3, 4', () => {
    // From the reference implementation, as the rand_xoshiro crate's tests quote it.
    expect(draws(Random.fromState(1, 2, 3, 4), 10)).toEqual([
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ])
  })

  it('repeats for the same seed and stream, and differs for any other', () => {
    const of = (...args: [number, ...number[]]) => draws(new Random(...args), 4).join()
    expect(of(7, 3)).toBe(of(7, 3))
    const all = [of(0), of(1), of(7), of(7, 0), of(7, 3), of(3, 7), of(7, 3, 0), of(2 ** 32), of(2 ** 32 + 1)]
    expect(new Set(all).size).toBe(all.length)
  })

  it('has no two equal streams among many seeds and streams', () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 100; seed++)
      for (let stream = 0; stream < 200; stream++) seen.add(draws(new Random(seed, stream), 2).join())
    expect(seen.size).toBe(20_000)
  })

  it('spreads uniform() evenly over its interval', () => {
    const random = new Random(1)
    const bins = new Array<number>(10).fill(0)
    for (let draw = 0; draw < 100_000; draw++) {
      bins[Math.floor((random.uniform(-2, 3) + 2) * 2)]!++
    }
    // Five standard deviations of a bin's count.
    expect(bins).toHaveLength(10)
    for (const count of bins) expect(Math.abs(count - 10_000)).toBeLessThan(5 * Math.sqrt(9000))
  })

  it('draws below() without preferring small numbers, even where 2^32 is no multiple', () => {
    const random = new Random(2)
    const limit = 3 * 2 ** 30
    let small = 0
    for (let draw = 0; draw < 30_000; draw++) if (random.below(limit) < 2 ** 30) small++
    // A plain remainder would give one half instead of one third.
    expect(Math.abs(small - 10_000)).toBeLessThan(500)
  })

  it('puts every item at every place equally often when it shuffles', () => {
    const counts = Array.from({ length: 5 }, () => new Array<number>(5).fill(0))
    for (let seed = 0; seed < 10_000; seed++)
      permutation(5, seed).forEach((item, place) => counts[place]![item]!++)
    for (const count of counts.flat()) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(1600))
  })

  it('permutes: every number once, in an order of its own for each stream', () => {
    const first = permutation(1000, 5, 0)
    expect([...first].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, index) => index))
    expect(permutation(1000, 5, 0)).toEqual(first)
    expect(permutation(1000, 5, 1)).not.toEqual(first)
  })

  it.each([-1, 0.5, Number.NaN, 2 ** 53])('refuses the seed %d', async seed => {
    const error = await failure(() => new Random(seed))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toMatch(/^seed: expected an integer from 0 to 2\^53 − 1, got/)
  })
})
