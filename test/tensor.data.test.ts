import { runInNewContext } from 'node:vm'
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
import { hasDtype } from './nn.fixtures.js'

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

  it('takes typed arrays as rows, which keep their dtype', () => {
    const made = tensor([Float64Array.of(1, 0.1), Float64Array.of(3, 4)])
    expect([made.dtype, made.shape]).toEqual(['float64', [2, 2]])
    expect(made.tolist()).toEqual([
      [1, 0.1],
      [3, 4],
    ])
    expect(tensor([[BigInt64Array.of(1n)], [BigInt64Array.of(2n ** 60n)]]).dtype).toBe('int64')
    expect(tensor([Uint8Array.of(1), [2]], { dtype: 'int16' }).tolist()).toEqual([[1], [2]])
    expect(codeOf(() => tensor([Uint8Array.of(1), [2]]))).toBe('ERR_ARGUMENT')
    expect(() => tensor([Uint8Array.of(1), Int8Array.of(2)])).toThrow(
      "expected parts of one dtype, got uint8 and int8; say which they become: { dtype: 'uint8' }",
    )
    expect(() => tensor([Float32Array.of(1, 2), Float32Array.of(3)])).toThrow(
      'tensor: expected 2 elements at data[1] as at its first neighbour, got 1',
    )
  })

  it('takes tensors without dimensions as elements, and names stack for others', () => {
    const made = tensor([tensor(1n), tensor(2n ** 60n)])
    expect([made.dtype, made.shape]).toEqual(['int64', [2]])
    expect(made.toTypedArray()).toEqual(BigInt64Array.of(1n, 2n ** 60n))
    expect(tensor([tensor(1), 2.5], { dtype: 'float64' }).tolist()).toEqual([1, 2.5])
    expect(tensor(tensor(true)).dtype).toBe('bool')
    expect(codeOf(() => tensor([zeros([2]), zeros([2])]))).toBe('ERR_ARGUMENT')
    expect(() => tensor([zeros([2]), zeros([2])])).toThrow(
      'tensor: data[0]: expected a tensor without dimensions, got float32 (2); torch.stack([…]) makes one',
    )
    expect(() => tensor(zeros([2]))).toThrow(/x\.detach\(\)\.clone\(\) copies one$/)
  })

  it('refuses ragged arrays, saying where', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(/expected 2 elements at data\[1\].*got 1/)
    expect(codeOf(() => tensor([[1, 2], [3]]))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => tensor([[1], 2]))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => tensor(['a'] as never))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => tensor([1n, 2]))).toBe('ERR_ARGUMENT')
  })

  it.each([
    ['300 for uint8', [300], 'uint8'],
    ['-1 for uint8', [-1], 'uint8'],
    ['255.5 for uint8', [255.5], 'uint8'],
    ['128 for int8', [128], 'int8'],
    ['-32769 for int16', [-32769], 'int16'],
    ['2^31 for int32', [2 ** 31], 'int32'],
    ['2^63 for int64', [2 ** 63], 'int64'],
    ['NaN for int64', [NaN], 'int64'],
    ['-Infinity for int32', [-Infinity], 'int32'],
    ['a bigint of 2^63', [2n ** 63n], undefined],
    ['a bigint below -2^63', [-(2n ** 63n) - 1n], 'int64'],
    ['a bigint of 300 for uint8', [300n], 'uint8'],
    ['2^64 for uint64', [2n ** 64n], 'uint64'],
    ['-1 for uint64', [-1n], 'uint64'],
    ['65536 for uint16', [65536], 'uint16'],
    ['-1 for uint32', [-1], 'uint32'],
    ['a bigint beyond all floats', [10n ** 400n], 'float64'],
    ['a complex number for float32', [{ re: 1, im: 0 }], 'float32'],
  ] as const)('refuses what the dtype does not hold: %s', (_, data, dtype) => {
    const options = dtype === undefined ? {} : { dtype }
    expect(codeOf(() => tensor(data as never, options))).toBe('ERR_ARGUMENT')
  })

  it('says which element does not fit', () => {
    expect(() =>
      tensor(
        [
          [1, 2],
          [3, 300],
        ],
        { dtype: 'uint8' },
      ),
    ).toThrow(/^tensor: data\[1\]\[1\]: expected a number from 0 to 255 for dtype uint8, got 300$/)
  })

  it('takes the ends of the range, cuts fractions off, and mixes bigints where there is a dtype', () => {
    expect(tensor([0, 255], { dtype: 'uint8' }).tolist()).toEqual([0, 255])
    expect(tensor([-(2 ** 63)], { dtype: 'int64' }).toTypedArray()).toEqual(BigInt64Array.of(-(2n ** 63n)))
    expect(tensor([1.9, -1.9], { dtype: 'int64' }).tolist()).toEqual([1, -1])
    expect(tensor([1n, 2.5, true], { dtype: 'int32' }).tolist()).toEqual([1, 2, 1])
    expect(tensor([1n, 2.5], { dtype: 'float64' }).tolist()).toEqual([1, 2.5])
    expect(tensor([2n ** 70n], { dtype: 'float32' }).item()).toBe(2 ** 70)
    expect(tensor([true, 2n]).dtype).toBe('int64')
    expect(tensor([NaN, 0.5, 0], { dtype: 'bool' }).tolist()).toEqual([true, true, false])
    expect(tensor([2n ** 64n], { dtype: 'bool' }).tolist()).toEqual([true])
  })

  it.skipIf(!hasDtype('uint64'))('holds unsigned integers of 64 bits', () => {
    const x = tensor([2n ** 64n - 1n, 5n], { dtype: 'uint64' })
    expect(x.toTypedArray()).toEqual(BigUint64Array.of(2n ** 64n - 1n, 5n))
    expect(x.at(1).item()).toBe(5)
    expect(codeOf(() => x.at(0).item())).toBe('ERR_PRECISION')
  })

  it('takes complex numbers', () => {
    expect(tensor([{ re: 1, im: -2 }, 3]).dtype).toBe('complex64')
    expect(tensor([{ re: 1, im: -2 }, 3], { dtype: 'complex128' }).tolist()).toEqual([
      { re: 1, im: -2 },
      { re: 3, im: 0 },
    ])
    const x = tensor([[{ re: 1, im: -2 }]])
    expect(tensor(x.tolist() as never).equal(x)).toBe(true)
  })

  it('refuses holes and arrays that hold themselves', () => {
    // eslint-disable-next-line no-sparse-arrays
    expect(codeOf(() => tensor([1, , 3] as never))).toBe('ERR_ARGUMENT')
    const endless: unknown[] = []
    endless.push(endless)
    expect(codeOf(() => tensor(endless as never))).toBe('ERR_ARGUMENT')
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

  it('of other realms, and of clamped bytes, are taken by their names', () => {
    const foreign = runInNewContext('new Float64Array([1, 2])') as Float64Array
    expect(tensor(foreign).dtype).toBe('float64')
    expect(fromTypedArray(runInNewContext('new Uint8Array(2)') as Uint8Array, [2]).dtype).toBe('uint8')
    expect(tensor(new Uint8ClampedArray([1]) as never).dtype).toBe('uint8')
    expect(tensor(Buffer.of(7)).tolist()).toEqual([7])
    expect(codeOf(() => tensor(new DataView(new ArrayBuffer(8)) as never))).toBe('ERR_ARGUMENT')
  })

  it('convert to another dtype as to() does', () => {
    expect(fromTypedArray(Int32Array.of(300, -1), [2], { dtype: 'uint8' }).tolist()).toEqual([44, 255])
  })

  it('may be views into larger buffers', () => {
    expect(fromTypedArray(new Uint8Array([9, 8, 7, 6]).subarray(1, 3), [2]).tolist()).toEqual([8, 7])
  })

  it('come out in row-major order whatever the strides', () => {
    const x = arange(6).reshape([2, 3]).t()
    expect(x.toTypedArray()).toEqual(BigInt64Array.of(0n, 3n, 1n, 4n, 2n, 5n))
  })

  it('refuses typed arrays whose memory was transferred', () => {
    const detach = (array: Float32Array | Int32Array | BigInt64Array) => {
      structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] })
      return array
    }
    for (const shape of [[2], [0]])
      expect(codeOf(() => fromTypedArray(detach(new Float32Array(2)), shape))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => tensor(detach(new BigInt64Array(2))))).toBe('ERR_ARGUMENT')
    const late = new Float32Array(2)
    const options = {
      get dtype() {
        return detach(late) && ('float64' as const)
      },
    }
    expect(codeOf(() => fromTypedArray(late, [2], options))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => ones([2]).view(detach(new Int32Array(1)) as unknown as number[]))).toBe(
      'ERR_ARGUMENT',
    )
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
