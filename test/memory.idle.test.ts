/** CPU memory that is kept for later tensors. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { limitIdleMemory, memory, nn, randn, releaseIdleMemory, scope, zeros } from '../lib/index.js'
import { codeOf } from './codes.js'

const MiB = 1 << 20
const floats = MiB / 4

beforeEach(() => {
  limitIdleMemory(64 * MiB)
  releaseIdleMemory()
})
afterEach(() => {
  limitIdleMemory(256 * MiB)
})

describe('idle memory', () => {
  test('is what a large tensor leaves, and what the next of its size takes', () => {
    expect(memory().idle).toBe(0)
    zeros([8 * floats]).dispose()
    expect(memory().idle).toBe(8 * MiB)
    const next = zeros([2, 4 * floats])
    expect(memory().idle).toBe(0)
    next.dispose()
    expect(memory().idle).toBe(8 * MiB)
  })

  test('serves a tensor that is a little smaller, and not one that is much smaller', () => {
    zeros([8 * floats]).dispose()
    const smaller = zeros([8 * floats - 1000])
    expect(memory().idle).toBe(0)
    const much = zeros([4 * floats])
    smaller.dispose()
    expect(memory().idle).toBe(8 * MiB)
    much.dispose()
    expect(memory().idle).toBe(12 * MiB)
  })

  test('of small tensors is not counted', () => {
    zeros([1000]).dispose()
    expect(memory().idle).toBe(0)
  })

  test('holds new zeros, whatever was there before', () => {
    const first = zeros([floats]).fill_(7)
    first.dispose()
    const second = zeros([floats])
    expect(second.abs().sum().item()).toBe(0)
  })

  test('stays below its limit, and loses first what has been idle longest', () => {
    const sizes = [1, 2, 3, 4]
    const tensors = sizes.map(size => zeros([size * floats]))
    limitIdleMemory(9 * MiB)
    for (const each of tensors) each.dispose() // 1, 2 and 3 MiB fit; the fourth drives out the first
    expect(memory().idle).toBe(9 * MiB)
    limitIdleMemory(7 * MiB) // now the second goes
    expect(memory().idle).toBe(7 * MiB)
    zeros([4 * floats]).dispose()
    limitIdleMemory(4 * MiB)
    expect(memory().idle).toBe(4 * MiB)
  })

  test('is not driven out by a tensor that is larger than the limit', () => {
    zeros([4 * floats]).dispose()
    zeros([65 * floats]).dispose()
    expect(memory().idle).toBe(4 * MiB)
  })

  test('is nothing with a limit of 0, for tensors made before as well', () => {
    const before = zeros([floats])
    zeros([floats]).dispose()
    limitIdleMemory(0)
    expect(memory().idle).toBe(0)
    before.dispose()
    zeros([floats]).dispose()
    expect(memory().idle).toBe(0)
  })

  test('is not drained by the scratch memory of convolutions', () => {
    limitIdleMemory(1024 * MiB)
    const images = randn([16, 16, 32, 32])
    const convolution = new nn.Conv2d(16, 16, 3, { padding: 1, bias: false })
    const step = () => {
      const loss = scope(() => convolution.forward(images).relu().sum())
      loss.backward()
      loss.dispose()
      convolution.zeroGrad()
      return memory().idle
    }
    step()
    const idle = step()
    for (let i = 0; i < 3; i++) expect(step()).toBe(idle)
    expect(idle).toBeGreaterThanOrEqual(3 * images.numel() * 4)
  })

  test('is given back by releaseIdleMemory, and its limit stays', () => {
    zeros([floats]).dispose()
    releaseIdleMemory()
    expect(memory().idle).toBe(0)
    zeros([floats]).dispose()
    expect(memory().idle).toBe(MiB)
  })

  test.each([-1, 1.5, NaN, Infinity, '1' as unknown as number])('refuses the limit %s', limit => {
    expect(codeOf(() => limitIdleMemory(limit))).toBe('ERR_ARGUMENT')
  })
})

describe('ALAMBIC_IDLE_MEMORY', () => {
  /** What a process prints in which tensors of 1 and 2 MiB were freed. */
  function idleWith(limit: string) {
    const index = fileURLToPath(new URL('../lib/index.ts', import.meta.url))
    const program = `
      import { memory, zeros } from ${JSON.stringify(index)}
      const tensors = [1, 2].map(size => zeros([size * ${floats}]))
      for (const each of tensors) each.dispose()
      console.log(memory().idle)`
    return spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      encoding: 'utf8',
      env: { ...process.env, ALAMBIC_IDLE_MEMORY: limit },
    })
  }

  test.each([
    ['0', 0],
    ['1.5', MiB],
    ['', 3 * MiB],
  ])("sets the limit at the start, in MiB: '%s'", (given, expected) => {
    const { stdout, stderr } = idleWith(given)
    expect(stderr).toBe('')
    expect(Number(stdout)).toBe(expected)
  })

  test.each(['not a number', '-1', '64MiB', 'Infinity'])("is refused when it is '%s'", given => {
    const { stdout, stderr, status } = idleWith(given)
    expect(stderr).toContain(`ALAMBIC_IDLE_MEMORY: expected a number of MiB, at least 0, got "${given}"`)
    expect(stderr).toContain("code: 'ERR_ARGUMENT'")
    expect([stdout, status]).toEqual(['', 1])
  })
})
