import { describe, expect, it } from 'vitest'
import { arange, memory, slice, tensor, zeros } from '../lib/index.js'
import { codeOf } from './codes.js'

const x = arange(24).reshape([2, 3, 4])

describe('at()', () => {
  it.each([
    [
      'x[1]',
      [1],
      [
        [12, 13, 14, 15],
        [16, 17, 18, 19],
        [20, 21, 22, 23],
      ],
    ],
    ['x[-1, 0]', [-1, 0], [12, 13, 14, 15]],
    ['x[0, 1, 2]', [0, 1, 2], 6],
    ['x[0, 1:3, 0]', [0, slice(1, 3), 0], [4, 8]],
    [
      'x[0, :2, ::2]',
      [0, slice(2), slice(undefined, undefined, 2)],
      [
        [0, 2],
        [4, 6],
      ],
    ],
    ['x[0, 0, -2:]', [0, 0, slice(-2, undefined)], [2, 3]],
    [
      'x[..., 0]',
      ['...', 0],
      [
        [0, 4, 8],
        [12, 16, 20],
      ],
    ],
    ['x[1, ..., 3]', [1, '...', 3], [15, 19, 23]],
    ['x[0, None, 0]', [0, null, 0], [[0, 1, 2, 3]]],
    ['x[:, 0, 0]', [':', 0, 0], [0, 12]],
    ['x[0, [2, 0], 1]', [0, [2, 0], 1], [9, 1]],
    [
      'x[0, [[0], [1]], [1, 2]]',
      [0, tensor([[0n], [1n]]), [1, 2]],
      [
        [1, 2],
        [5, 6],
      ],
    ],
    ['x[0, [True, False, True], 0]', [0, [true, false, true], 0], [0, 8]],
  ] as const)('reads %s', (_, indices, expected) => {
    expect(x.at(...indices).tolist()).toEqual(expected)
  })

  it('takes a mask over several dimensions', () => {
    expect(x.at(x.gt(20)).tolist()).toEqual([21, 22, 23])
    expect(x.at(x.at(':', ':', 0).gt(12)).tolist()).toEqual([
      [16, 17, 18, 19],
      [20, 21, 22, 23],
    ])
  })

  it('makes views that share memory', () => {
    const y = zeros([2, 2])
    y.at(0).add_(1)
    expect(y.tolist()).toEqual([
      [1, 1],
      [0, 0],
    ])
  })

  it('releases what it makes on the way', () => {
    const before = memory().tensors
    x.at(0, slice(1, 3), null, [1, 2]).dispose()
    expect(memory().tensors).toBe(before)
  })

  it.each([
    [[2], /from -2 to 1 for dimension 0 of size 2, got 2/],
    [[0, 1.5], /expected an integer/],
    [[0, 0, 0, 0], /at most 3 indices/],
  ] as const)('refuses %j', (indices, message) => {
    expect(() => x.at(...indices)).toThrow(message)
    expect(codeOf(() => x.at(...indices))).toBe('ERR_INDEX')
  })
})

describe('setAt()', () => {
  it('writes numbers and tensors in place', () => {
    const y = zeros([2, 3])
    y.setAt([0, slice(1, 3)], 7).setAt(1, tensor([1, 2, 3]))
    expect(y.tolist()).toEqual([
      [0, 7, 7],
      [1, 2, 3],
    ])
    y.setAt(y.gt(2), -1)
    expect(y.tolist()).toEqual([
      [0, -1, -1],
      [1, 2, -1],
    ])
    y.setAt(['...', [0, 2]], 5)
    expect(y.tolist()).toEqual([
      [5, -1, 5],
      [5, 2, 5],
    ])
  })
})

describe('size()', () => {
  it('counts dimensions from both ends and refuses others', () => {
    expect(x.size()).toEqual([2, 3, 4])
    expect(x.size(-1)).toBe(4)
    expect(() => x.size(3)).toThrow(/from -3 to 2/)
  })
})
