/** What libtorch's allocator counts on a GPU. */
import { describe, expect, test } from 'vitest'
import { deviceMemory, zeros } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOf } from './codes.js'

const MiB = 1 << 20
const gpus = native.systemInfo().cudaDevices

describe('deviceMemory', () => {
  test.each(['cpu', 'meta', 'gpu', `cuda:${gpus}`, 'cuda:-1'])('refuses %s', device => {
    expect(codeOf(() => deviceMemory(device))).toBe('ERR_DEVICE')
  })

  test('says what counts the memory of the CPU', () => {
    expect(() => deviceMemory('cpu')).toThrow(
      'deviceMemory: device: expected a GPU such as "cuda" or "cuda:0", got "cpu"; memory() counts',
    )
  })

  test('refuses what is no name of a device', () => {
    expect(codeOf(() => deviceMemory(0 as unknown as string))).toBe('ERR_ARGUMENT')
  })

  test.skipIf(gpus > 0)('says that there is no GPU', () => {
    expect(codeOf(() => deviceMemory())).toBe('ERR_DEVICE')
    expect(() => deviceMemory()).toThrow('finds no CUDA device')
  })
})

const problem = gpus === 0 ? 'there is no GPU that libtorch can use' : native.cudaLibrary().problem

describe.skipIf(problem !== undefined)(`deviceMemory on a GPU (${problem ?? 'there is one'})`, () => {
  test('is there before anything is on the GPU', () => {
    expect(deviceMemory()).toEqual({ allocated: 0, reserved: 0, peakAllocated: 0, peakReserved: 0 })
  })

  test('counts what tensors hold, keeps what they leave, and remembers the most', () => {
    const before = deviceMemory()
    const x = zeros([8 * (MiB / 4)], { device: 'cuda' })
    const held = deviceMemory()
    expect(held.allocated - before.allocated).toBe(8 * MiB)
    expect(held.reserved).toBeGreaterThanOrEqual(held.allocated)
    x.dispose()
    const after = deviceMemory()
    expect(after.allocated).toBe(before.allocated)
    expect(after.reserved).toBe(held.reserved)
    expect(after.peakAllocated).toBe(held.allocated)
    expect(after.peakReserved).toBe(held.reserved)
  })

  test('is of the current GPU unless another is named', () => {
    expect(deviceMemory('cuda')).toEqual(deviceMemory('cuda:0'))
  })
})
