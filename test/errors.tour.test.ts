/** Bad input of every kind, one after the other in one process: each is refused, and the process goes on as if nothing had been. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ErrorCode } from '../lib/index.js'
import type { Refusal } from './errors.tour.child.js'

/** The code, and what the message has to name: what was expected and what came. */
const expected: Record<string, [ErrorCode, ...RegExp[]]> = {
  'mismatched channels': ['ERR_CHANNEL_MISMATCH', /\(2, 8, 4, 4\)/, /\(2, 16, 4, 4\)/, /AdaptationLayer/],
  'unequal lists': ['ERR_LENGTH_MISMATCH', /\(1\)/, /got 0/],
  'a label out of range': ['ERR_LABEL_RANGE', /\b0 to 9\b/, /\b10\b/],
  'labels of the wrong dtype': ['ERR_DTYPE', /int64/, /float32/],
  'features of the wrong dtype': ['ERR_DTYPE', /float32/, /int64/],
  'an unknown layer': ['ERR_UNKNOWN_LAYER', /layer2\.0\.con1/, /layer2\.0\.conv1/],
  'a released tensor': ['ERR_TENSOR_RELEASED', /released/],
  'an unknown operator': ['ERR_UNKNOWN_OPERATOR', /conv2\b/, /conv2d/],
  'an idx file that ends early': ['ERR_FILE_FORMAT', /17 bytes/, /\[9\]/, /after 12/],
  'a CIFAR file that ends early': ['ERR_FILE_FORMAT', /3073/, /3173/],
  'images that make the loss NaN': ['ERR_NAN_LOSS', /epoch 1, step 1/, /NaN/],
}

describe('a process that is given one bad input after the other', () => {
  let refusals: Refusal[] = []

  beforeAll(() => {
    const child = fileURLToPath(new URL('errors.tour.child.ts', import.meta.url))
    const options = ['--expose-gc', '--import', 'tsx', child]
    const { status, stdout, stderr } = spawnSync(process.execPath, options, { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
    refusals = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Refusal)
  })

  it('refuses each', () => {
    expect(refusals.map(({ input }) => input)).toEqual(Object.keys(expected))
  })

  it.each(Object.entries(expected))('names what was wrong with %s', (input, [code, ...patterns]) => {
    const refusal = refusals.find(each => each.input === input)!
    expect(refusal.code).toBe(code)
    for (const pattern of patterns) expect(refusal.message).toMatch(pattern)
  })

  it('computes as before after each', () => {
    expect(refusals.map(({ gradientAfterwards }) => gradientAfterwards)).toEqual(refusals.map(() => 6))
  })

  it('is left with no tensor more', () => {
    expect(refusals.map(({ tensorsLeft }) => tensorsLeft)).toEqual(refusals.map(() => 0))
  })
})
