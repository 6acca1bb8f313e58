import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  arange,
  full,
  memory,
  slice,
  tensor,
  zeros,
  type DType,
  type Index,
  type Tensor,
} from '../lib/index.js'
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

/** An index as `reference/indexing.py` writes it. */
type Entry =
  | number
  | boolean
  | null
  | '...'
  | { slice: [number | null, number | null, number | null] }
  | { tensor: number[]; dtype: DType }
  | { list: number[] }

interface Case {
  shape: number[]
  index: Entry[]
  error?: true
  values: number[]
}

const { reads, writes } = JSON.parse(
  readFileSync(new URL('reference/indexing.json', import.meta.url), 'utf8'),
) as {
  reads: (Case & { result: number[] })[]
  writes: (Case & { value: number | { shape: number[] } })[]
}

function decode(entry: Entry): Index {
  if (entry === null || typeof entry !== 'object') return entry
  if ('slice' in entry) return slice(...entry.slice)
  return 'tensor' in entry ? tensor(entry.tensor, { dtype: entry.dtype }) : entry.list
}

function filled(shape: number[]): Tensor {
  return arange(shape.reduce((product, size) => product * size, 1)).reshape(shape)
}

function numbered<T extends Case>(cases: T[]): (readonly [string, T])[] {
  return cases.map(each => [`(${each.shape.join(', ')}) at ${JSON.stringify(each.index)}`, each])
}

describe('at() reads what Python reads', () => {
  it.each(numbered(reads))('%s', (_, { shape, index, error, result, values }) => {
    const read = () => filled(shape).at(...index.map(decode))
    if (error) return expect(codeOf(read)).toBe('ERR_INDEX')
    const y = read()
    expect(y.shape).toEqual(result)
    expect(y.flatten().tolist()).toEqual(values)
  })
})

describe('setAt() writes what Python writes', () => {
  it.each(numbered(writes))('%s', (_, { shape, index, value, error, values }) => {
    const x = filled(shape)
    const source = typeof value === 'number' ? value : filled(value.shape).neg().sub(1)
    const write = () => x.setAt(index.map(decode), source)
    if (error) return expect(codeOf(write)).toBe('ERR_SHAPE_MISMATCH')
    expect(write().flatten().tolist()).toEqual(values)
  })
})

describe('indices of other kinds', () => {
  const mask = tensor([
    [true, false, true],
    [false, true, true],
  ])

  it('count a mask as the dimensions that it covers', () => {
    expect(x.at(mask, [0, 1, 2, 3]).tolist()).toEqual([0, 9, 18, 23])
    expect(x.at(mask, 2).tolist()).toEqual([2, 10, 18, 22])
    const y = x.clone().setAt([mask, [0, 1, 2, 3]], -1)
    expect(y.eq(-1).sum().item()).toBe(4)
    expect(codeOf(() => x.at(mask, 100))).toBe('ERR_INDEX')
    expect(codeOf(() => x.at(mask, [100]))).toBe('ERR_INDEX')
    expect(codeOf(() => x.at(mask, 0, 0))).toBe('ERR_INDEX')
  })

  it('say which dimension a mask does not fit', () => {
    expect(() => x.at(0, [true, false])).toThrow(/mask of size 3 for dimension 1, got a mask of \(2\)/)
    expect(() => x.at(0, 4)).toThrow(/from -3 to 2 for dimension 1 of size 3, got 4/)
  })

  it('select by an integer tensor without dimensions, as a view', () => {
    const y = zeros([2, 2])
    y.at(tensor(1n)).add_(1)
    expect(y.tolist()).toEqual([
      [0, 0],
      [1, 1],
    ])
    expect(codeOf(() => y.at(tensor(2n)))).toBe('ERR_INDEX')
  })

  it('add a dimension by a boolean', () => {
    expect(x.at(true).shape).toEqual([1, 2, 3, 4])
    expect(x.at(tensor(true)).shape).toEqual([1, 2, 3, 4])
    expect(x.at(tensor(false)).shape).toEqual([0, 2, 3, 4])
    expect(tensor(5).at(true).tolist()).toEqual([5])
  })

  it('take bigints, typed arrays and nested arrays', () => {
    expect(x.at(1n, 0, Int32Array.of(3, 0)).tolist()).toEqual([15, 12])
    expect(x.at(0, [[0], [1]], [1, 2]).tolist()).toEqual([
      [1, 2],
      [5, 6],
    ])
    expect(x.at([]).shape).toEqual([0, 3, 4])
  })

  it.each([
    [[tensor([0.5])], 'ERR_INDEX'],
    [[[0, 1.5]], 'ERR_INDEX'],
    [[[0, 5]], 'ERR_INDEX'],
    [[['a']], 'ERR_ARGUMENT'],
    [[{}], 'ERR_ARGUMENT'],
    [['...', '...'], 'ERR_ARGUMENT'],
    [[Float32Array.of(0)], 'ERR_ARGUMENT'],
    [[[null]], 'ERR_ARGUMENT'],
  ])('refuse %j', (indices, code) => {
    expect(codeOf(() => x.at(...(indices as Index[])))).toBe(code)
  })

  it('refuse slices that are no integers, or step backwards', () => {
    expect(codeOf(() => slice(0.5))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => slice(0, NaN))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => slice(3, 0, -1))).toBe('ERR_ARGUMENT')
  })
})

describe('values that setAt() does not take', () => {
  it.each([
    ['uint8', 300],
    ['uint8', -1],
    ['int8', 128],
    ['int64', NaN],
    ['int64', 2n ** 63n],
    ['int32', Infinity],
    ['float32', { re: 1, im: 1 }],
  ] as const)('%s takes no %s', (dtype, value) => {
    const y = zeros([2], { dtype })
    expect(codeOf(() => y.setAt(0, value))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => y.setAt([[0, 1]], value))).toBe('ERR_ARGUMENT')
    expect(y.tolist()).toEqual([0, 0])
  })

  it('cuts fractions off, and converts tensors', () => {
    expect(zeros([2], { dtype: 'int64' }).setAt(0, 1.7).tolist()).toEqual([1, 0])
    expect(
      zeros([2])
        .setAt([[0]], tensor([3n]))
        .tolist(),
    ).toEqual([3, 0])
    expect(zeros([2]).setAt(0, { re: 2, im: 0 }).tolist()).toEqual([2, 0])
  })

  it('says which shapes do not fit', () => {
    expect(() => zeros([2, 3]).setAt(0, tensor([1, 2]))).toThrow(/broadcasts to \(3\), got \(2\)/)
    expect(codeOf(() => zeros([3]).setAt([[0, 1]], tensor([1, 2, 3])))).toBe('ERR_SHAPE_MISMATCH')
  })
})

describe('Numbers that a float dtype does not hold', () => {
  it.each<[DType, number]>([
    ['float32', 1e39],
    ['float32', -1e39],
    ['float32', 3.40282351e38],
    ['complex64', 1e39],
  ])('are refused for %s as in Python: %d', (dtype, value) => {
    const y = zeros([2], { dtype })
    expect(codeOf(() => y.setAt([0], value))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => y.setAt([[0]], value))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => full([1], value, { dtype }))).toBe('ERR_ARGUMENT')
    expect(y.at(0).abs().item()).toBe(0)
  })

  it('are infinite where Python takes them so', () => {
    expect(zeros([1]).setAt(0, Infinity).item()).toBe(Infinity)
    expect(zeros([1]).setAt(0, 3.4028234663852886e38).item()).toBe(3.4028234663852886e38)
    expect(zeros([1], { dtype: 'float16' }).setAt(0, 70000).item()).toBe(Infinity)
    expect(full([1], 70000, { dtype: 'float16' }).item()).toBe(Infinity)
    expect(tensor([1e39]).item()).toBe(Infinity)
  })
})
