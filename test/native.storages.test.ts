/** Sizes that files and programs give, checked before memory is read by them: no sum or product of them wraps. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { AlambicError, arange, zeros } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { Tensor } from '../lib/tensors/tensor.js'
import { codeOf } from './codes.js'

const view = (elements: number, shape: number[], strides: (number | bigint)[], offset: number | bigint = 0) =>
  codeOf(() =>
    native.viewStorage(zeros([elements]).handle, 'float32', shape, strides as number[], offset as number),
  )

const large = 2 ** 40

describe('a view of a storage', () => {
  it.each([
    ['rows behind its end', 1, [1000, 1000], [1000, 1], 0],
    ['a last row behind its end', 1, [2, 1], [1, 1], 0],
    ['an offset at its end', 4, [1], [1], 4],
    ['a shape without end', 1, [large, large], [large, 1], 0],
    ['a shape whose product is 0 modulo 2^64', 1, [2 ** 32, 2 ** 32], [0, 0], 0],
    ['strides whose sum wraps', 1, [2, 2], [2n ** 62n, 2n ** 62n], 0],
    ['a stride whose product wraps', 1, [5], [2n ** 62n], 0],
    ['an offset of 2^63 - 1', 1, [1], [1], 2n ** 63n - 1n],
  ] as const)('is refused: %s', (_, elements, shape, strides, offset) => {
    expect(view(elements, [...shape], [...strides], offset)).toBe('ERR_SHAPE_MISMATCH')
  })

  it.each([
    [[-1], [1], 0],
    [[1], [-1], 0],
    [[1], [1], -1],
  ] as const)('takes no negative number: shape %j, strides %j, offset %j', (shape, strides, offset) => {
    expect(view(4, [...shape], [...strides], offset)).toBe('ERR_ARGUMENT')
  })

  it('reaches to the last element', () => {
    const x = arange(6, { dtype: 'float32' })
    const seen = new Tensor(native.viewStorage(x.handle, 'float32', [2, 2], [3, 2], 0))
    expect(seen.tolist()).toEqual([
      [0, 2],
      [3, 5],
    ])
    expect(codeOf(() => native.viewStorage(x.handle, 'float32', [2, 2], [3, 2], 1))).toBe(
      'ERR_SHAPE_MISMATCH',
    )
  })

  it('may be empty, whatever its strides', () => {
    expect(
      new Tensor(native.viewStorage(zeros([1]).handle, 'float32', [0, large], [large, 1], 0)).shape,
    ).toEqual([0, large])
  })
})

describe('the data of a tensor', () => {
  it.each([
    ['a product of 0 modulo 2^64', [2 ** 32, 2 ** 32]],
    ['a number of bytes of 0 modulo 2^64', [2 ** 31, 2 ** 31]],
    ['more elements than there are', [3]],
  ])('is not read by a shape with %s', (_, shape) => {
    expect(codeOf(() => native.tensorFromData(new Float32Array(0), 'float32', shape, 'float32', 'cpu'))).toBe(
      'ERR_SHAPE_MISMATCH',
    )
  })
})

describe('a mapped file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'alambic-mapped-'))
  const path = join(folder, 'four-bytes')
  writeFileSync(path, Buffer.from([1, 2, 3, 4]))
  const descriptor = openSync(path, 'r')
  afterAll(() => {
    closeSync(descriptor)
    rmSync(folder, { recursive: true })
  })

  it('is not read behind its end', () => {
    expect(codeOf(() => new native.MappedFile(descriptor, 8192))).toBe('ERR_FILE_FORMAT')
    const file = new native.MappedFile(descriptor, 4)
    expect(codeOf(() => file.storage(2, 3))).toBe('ERR_INDEX')
    expect(codeOf(() => file.storage(2 ** 53, 2 ** 53))).toBe('ERR_INDEX')
    expect(new Tensor(file.storage(1, 3)).tolist()).toEqual([2, 3, 4])
  })

  it('has a descriptor that the system knows, in full', () => {
    expect(codeOf(() => new native.MappedFile(2 ** 32 + descriptor, 4))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new native.MappedFile(-1, 4))).toBe('ERR_ARGUMENT')
    expect(() => new native.MappedFile(2 ** 20, 4)).toThrow(AlambicError)
  })
})
