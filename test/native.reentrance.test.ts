/** JavaScript that runs while native code reads its arguments: in a process of its own, for what goes wrong there ends it. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Outcome } from './native.reentrance.child.js'

const released = 'ERR_TENSOR_RELEASED'

/** What comes of each case: the result as if nothing had run meanwhile, or an error. */
const expected: Record<string, unknown> = {
  'a complex number whose getter releases the tensor beside it': released,
  'a complex number whose getter makes calls': [3, 6],
  'a complex number beside words': [3, 3],
  'a list of scalars that releases a tensor of another list': released,
  'a list of booleans that releases a tensor': released,
  'an object whose text releases the tensor beside it': 'ERR_NO_OVERLOAD',
  'an object that cannot become a text': 'ERR_NO_OVERLOAD',
  'a symbol': 'ERR_NO_OVERLOAD',
  'a function': 'ERR_NO_OVERLOAD',
  'a list of lists': 'ERR_NO_OVERLOAD',
  'a getter that throws': 'RangeError: mine',
  'a list of sizes whose getter makes calls': [
    [5, 5, 5],
    [5, 5, 5],
  ],
  'a list of sizes that is a proxy which makes calls': [
    [5, 5],
    [5, 5],
    [5, 5],
  ],
  'a list of tensors whose getter makes calls': [1, 2],
  'a list of tensors that is a proxy which makes calls': [[1], [2]],
  'a list of tensors that releases one of them': released,
  'a list of tensors whose getter releases the tensor beside it': released,
  'a tensor that is a proxy which makes calls': [7, 7],
  'a tensor that is a proxy as the option out': [7, 7],
  'a typed array whose iterator makes calls': [2, 3],
  'options whose getter makes calls': [[4, 6]],
  'an index whose getter releases the tensor': released,
  'a shape that releases the storage beside it': released,
  'a shape that takes the data away': 'ERR_SHAPE_MISMATCH',
  'gradients of outputs that release the output': [2, 2],
  'options of an optimizer that release its parameter': released,
  'options of a layer that make calls': 'ERR_ARGUMENT',
  'a handle that is no number': [released, released, released, released, released],
  afterwards: [[2, 2], true],
}

describe('a call whose arguments run JavaScript', () => {
  let outcomes: Outcome[] = []

  beforeAll(() => {
    const child = fileURLToPath(new URL('native.reentrance.child.ts', import.meta.url))
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', child], {
      encoding: 'utf8',
    })
    const lines = stdout.trim().split('\n')
    expect(status, `${signal} after ${lines.at(-1)}\n${stderr}`).toBe(0)
    outcomes = lines.map(line => JSON.parse(line) as Outcome).filter(each => each.outcome !== undefined)
  })

  it.each(Object.entries(expected))('gives its result or an error: %s', (name, outcome) => {
    expect(outcomes.find(each => each.name === name)?.outcome).toEqual(outcome)
  })

  it('is tried in all of these cases', () => {
    expect(outcomes.map(({ name }) => name)).toEqual(Object.keys(expected))
  })
})
