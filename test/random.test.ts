import { describe, expect, it } from 'vitest'
import {
  Generator,
  getRngState,
  manualSeed,
  rand,
  randn,
  randperm,
  setRngState,
  torch,
} from '../lib/index.js'
import { codeOf } from './codes.js'

describe('random numbers', () => {
  it('repeat after the same seed', () => {
    manualSeed(5)
    const first = [randn([4]).tolist(), randperm(9).tolist()]
    manualSeed(5)
    expect([randn([4]).tolist(), randperm(9).tolist()]).toEqual(first)
    manualSeed(6)
    expect(randn([4]).tolist()).not.toEqual(first[0])
  })

  it('go on from a saved state', () => {
    const state = getRngState()
    const first = rand([3]).tolist()
    setRngState(state)
    expect(rand([3]).tolist()).toEqual(first)
  })

  it('come from a generator of one’s own without touching the default one', () => {
    manualSeed(1)
    const expected = randn([2]).tolist()
    manualSeed(1)
    const own = randn([2], { generator: new Generator(7) }).tolist()
    expect(randn([2]).tolist()).toEqual(expected)
    expect(torch.randn([2], { generator: new Generator(7) }).tolist()).toEqual(own)
  })

  it('take all seeds of 64 bits', () => {
    for (const seed of [0, -1, 2n ** 63n, 2n ** 64n - 1n])
      expect(randn([1], { generator: new Generator(seed) }).shape).toEqual([1])
    expect(codeOf(() => new Generator(2n ** 64n))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => manualSeed(0.5))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new Generator(1, 'nowhere'))).toBe('ERR_DEVICE')
  })
})
