import { describe, expect, it } from 'vitest'
import {
  arange,
  empty,
  eye,
  fromTypedArray,
  full,
  linspace,
  ones,
  rand,
  randint,
  randn,
  randperm,
  tensor,
  zeros,
  type DType,
} from '../lib/index.js'
import { codeOf } from './codes.js'

describe('tensor()', () => {
  it('takes its shape from nested arrays', () => {
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).shape,
    ).toEqual([2, 3])
    expect(tensor(7).shape).toEqual([])
    expect(tensor([]).shape).toEqual([0])
    expect(tensor([[], []]).shape).toEqual([2, 0])
  })

  it('makes float32 of numbers, int64 of bigints, bool of booleans, and what is asked for', () => {
    expect(tensor([1, 2]).dtype).toBe('float32')
    expect(tensor([1n, 2n]).dtype).toBe('int64')
    expect(tensor([true]).dtype).toBe('bool')
    expect(tensor([1, 2], { dtype: 'int64' }).dtype).toBe('int64')
    expect(tensor([true, false], { dtype: 'float64' }).tolist()).toEqual([1, 0])
  })

  it('keeps integers up to 2^53 and bigints up to 2^63 exact', () => {
    expect(tensor([2 ** 53 - 1], { dtype: 'int64' }).tolist()).toEqual([2 ** 53 - 1])
    expect(tensor([2n ** 62n + 1n]).toTypedArray()).toEqual(BigInt64Array.of(2n ** 62n + 1n))
  })

  it.each<DType>(['float32', 'float64', 'int8', 'uint8', 'int16', 'int32', 'int64', 'float16', 'bfloat16'])(
    'reads %s back as it was written',
    dtype => {
      expect(
        tensor(
          [
            [1, 2],
            [3, 4],
          ],
          { dtype },
        ).tolist(),
      ).toEqual([
        [1, 2],
        [3, 4],
      ])
    },
  )

  it('refuses ragged arrays, saying where', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(/expected 2 elements at data\[1\].*got 1/)
    expect(codeOf(() => tensor([[1, 2], [3]]))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => tensor([[1], 2]))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => tensor(['a'] as never))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => tensor([1n, 2]))).toBe('ERR_ARGUMENT')
  })

  it('refuses an unknown dtype and device by name', () => {
    expect(() => tensor([1], { dtype: 'float31' as DType })).toThrow(/expected one of float32.*"float31"/)
    expect(codeOf(() => tensor([1], { dtype: 'float31' as DType }))).toBe('ERR_DTYPE')
    expect(codeOf(() => tensor([1], { device: 'gpu' }))).toBe('ERR_DEVICE')
  })
})

describe('typed arrays', () => {
  it('are copied in and out', () => {
    const source = Float32Array.of(1, 2, 3, 4)
    const x = fromTypedArray(source, [2, 2])
    source[0] = 9
    expect(x.tolist()).toEqual([
      [1, 2],
      [3, 4],
    ])
    const copy = x.toTypedArray() as Float32Array
    copy[0] = 9
    expect(x.at(0, 0).item()).toBe(1)
  })

  it('may be views into larger buffers', () => {
    expect(fromTypedArray(new Uint8Array([9, 8, 7, 6]).subarray(1, 3), [2]).tolist()).toEqual([8, 7])
  })

  it('come out in row-major order whatever the strides', () => {
    const x = arange(6).reshape([2, 3]).t()
    expect(x.toTypedArray()).toEqual(BigInt64Array.of(0n, 3n, 1n, 4n, 2n, 5n))
  })

  it('must fit the shape', () => {
    expect(codeOf(() => fromTypedArray(new Float32Array(5), [2, 3]))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => fromTypedArray(new Float32Array(6), [-2, -3]))).toBe('ERR_ARGUMENT')
  })
})

describe('item() and tolist()', () => {
  it('give booleans and complex numbers as such', () => {
    expect(tensor(true).item<boolean>()).toBe(true)
    expect(tensor([1], { dtype: 'complex64' }).tolist()).toEqual([{ re: 1, im: 0 }])
  })

  it('refuse what would lose digits, pointing to toTypedArray()', () => {
    const x = tensor([2n ** 60n])
    expect(codeOf(() => x.item())).toBe('ERR_PRECISION')
    expect(codeOf(() => x.tolist())).toBe('ERR_PRECISION')
  })

  it('refuse item() of several elements', () => {
    expect(codeOf(() => ones([2]).item())).toBe('ERR_SHAPE_MISMATCH')
  })
})

describe('factories', () => {
  it('take shapes and options', () => {
    expect(zeros([2, 1], { dtype: 'int32' }).tolist()).toEqual([[0], [0]])
    expect(ones([2]).tolist()).toEqual([1, 1])
    expect(full([2], 3).dtype).toBe('float32')
    expect(full([2], true).dtype).toBe('bool')
    expect(empty([3, 4]).shape).toEqual([3, 4])
    expect(eye(2).tolist()).toEqual([
      [1, 0],
      [0, 1],
    ])
    expect(linspace(0, 1, 3).tolist()).toEqual([0, 0.5, 1])
    expect(zeros([1], { requiresGrad: true }).requiresGrad).toBe(true)
  })

  it('count with arange', () => {
    expect(arange(3).tolist()).toEqual([0, 1, 2])
    expect(arange(3).dtype).toBe('int64')
    expect(arange(1, 2, 0.5).tolist()).toEqual([1, 1.5])
    expect(arange(1, 2, 0.5).dtype).toBe('float32')
    expect(arange(5, 0, -2, { dtype: 'float64' }).tolist()).toEqual([5, 3, 1])
  })

  it('draw random numbers in their ranges', () => {
    const integers = randint(3, [1000]).tolist() as number[]
    expect(new Set(integers)).toEqual(new Set([0, 1, 2]))
    expect(randint(5, 6, [2]).tolist()).toEqual([5, 5])
    const uniform = rand([1000]).toTypedArray() as Float32Array
    expect(uniform.every(value => value >= 0 && value < 1)).toBe(true)
    expect(Math.abs(randn([10000]).mean().item())).toBeLessThan(0.1)
    expect([...(randperm(5).tolist() as number[])].sort()).toEqual([0, 1, 2, 3, 4])
  })
})

describe('to()', () => {
  it('changes dtype, device and memory format', () => {
    const x = ones([1, 2, 3, 4])
    expect(x.to('float64').dtype).toBe('float64')
    expect(x.to('cpu').device).toBe('cpu')
    expect(x.to('meta').device).toBe('meta')
    expect(x.to({ memoryFormat: 'channelsLast' }).isContiguous({ memoryFormat: 'channelsLast' })).toBe(true)
    expect(x.to(zeros([1], { dtype: 'int32' })).dtype).toBe('int32')
    expect(x.to({ dtype: 'float16' }).dtype).toBe('float16')
  })
})
