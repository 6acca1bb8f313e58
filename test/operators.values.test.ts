/** Calls that kernels of libtorch cannot take for the values in their tensors: each ended the process, or hung. */
import { describe, expect, it } from 'vitest'
import { full, ones, randn, tensor, torch, zeros, type Tensor } from '../lib/index.js'
import { codeOf } from './codes.js'
import { errorOf } from './nn.fixtures.js'

const least = -(2n ** 63n)
const huge = 1_000_000_000n
const ints = (...values: (bigint | number)[]) => tensor(values.map(BigInt))

describe('quotients that there are not', () => {
  const of64 = tensor([least, 6n])
  const of32 = tensor([-(2 ** 31), 6], { dtype: 'int32' })
  const minus = tensor([-1, -1], { dtype: 'int32' })
  it.each<[string, () => unknown]>([
    ['div, trunc', () => of64.div(ints(-1), { roundingMode: 'trunc' })],
    ['div, floor', () => of32.div(minus, { roundingMode: 'floor' })],
    ['div, by a number', () => of64.div(-1, { roundingMode: 'trunc' })],
    ['div_, in place', () => of64.clone().div_(ints(-1), { roundingMode: 'floor' })],
    ['floorDivide', () => of32.floorDivide(minus)],
    ['floorDivide by a number', () => of64.floorDivide(-1)],
    ['remainder', () => of64.remainder(ints(-1))],
    ['remainder of another dtype', () => of64.remainder(minus)],
    ['fmod', () => of32.fmod(minus)],
    ['fmod_ by a number', () => of64.clone().fmod_(-1)],
  ])('%s', (_, call) => {
    const error = errorOf(call)
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toMatch(/expected a quotient that int(32|64) can hold, got -\d+ by -1/)
  })

  it('others are as in Python', () => {
    expect(
      tensor([least, 7n])
        .div(ints(2n ** 62n, -1), { roundingMode: 'trunc' })
        .tolist(),
    ).toEqual([-2, -7])
    expect(ints(7, -7).floorDivide(-2).tolist()).toEqual([-4, 3])
    expect(ints(7, -7).remainder(ints(-1, -1)).tolist()).toEqual([0, 0])
    expect(
      tensor([-128], { dtype: 'int8' })
        .fmod(tensor([-1], { dtype: 'int8' }))
        .tolist(),
    ).toEqual([0])
    expect(tensor([least]).div(ints(-1)).tolist()).toEqual([2 ** 63])
    expect(codeOf(() => ints(1, 2).floorDivide(ints(1, 2, 3)))).toBe('ERR_OPERATOR')
  })
})

describe('indices, labels and lengths out of range', () => {
  const logits = randn([5, 2, 3]).logSoftmax(2)
  const values = ones([1])
  const gradient = (channels: Tensor) => full(channels.shape, 1)
  const plane = randn([1, 4, 4])
  const box = randn([1, 4, 4, 4])
  const row = ones([1, 2])
  const packed = randn([3, 1, 2])
  it.each<[string, () => unknown]>([
    ['ctcLoss: a label', () => torch.ctcLoss(logits, ints(1, huge, 1, 1).reshape([2, 2]), [5, 5], [2, 2])],
    ['ctcLoss: a negative label', () => torch.ctcLoss(logits, ints(1, -1, 1, 1), [5, 5], [2, 2])],
    ['ctcLoss: a length', () => torch.ctcLoss(logits, ints(1, 1, 1), [5, 5], [2, 2])],
    ['ctcLoss: lengths as tensors', () => torch.ctcLoss(logits, ints(1, 3), ints(5, 5), ints(1, 1))],
    ['embeddingBag: a negative offset', () => torch.embeddingBag(ones([3, 2]), ints(0, 1), ints(0, -huge))],
    ['embeddingBag: falling offsets', () => torch.embeddingBag(ones([3, 2]), ints(0, 1, 2), ints(0, 2, 1))],
    ['sparse coordinates', () => torch.sparseCooTensor(ints(huge).reshape([1, 1]), values, [3])],
    ['sparse coordinates below 0', () => torch.sparseCooTensor(ints(-1).reshape([1, 1]), values)],
    ['sparse coordinates, unsafe', () => torch._sparseCooTensorUnsafe(ints(3).reshape([1, 1]), values, [3])],
    ['CSR to COO', () => torch._convertIndicesFromCsrToCoo(ints(0, huge), ints(0))],
    ['COO to CSR', () => torch._convertIndicesFromCooToCsr(ints(huge), 3)],
    ['lengths of segments', () => torch.segmentReduce(randn([3]), 'sum', { lengths: ints(huge), unsafe: true })],
    ['negative lengths', () => torch.segmentReduce(randn([3]), 'sum', { lengths: ints(4, -1), unsafe: true })],
    ['offsets of segments', () => torch.segmentReduce(randn([3]), 'sum', { offsets: ints(0, huge) })],
    ['packed sequences', () => torch._packPaddedSequence(packed, ints(huge), false)],
    ['packed sequences, batch first', () => torch._packPaddedSequence(packed, ints(2, 2, 2), true)],
    ['padded sequences', () => torch._padPackedSequence(randn([3, 2]), ints(huge), false, 0, 3)],
    [
      'maxPool2d backward',
      () => torch.maxPool2dWithIndicesBackward(gradient(plane), plane, [1, 1], [1, 1], [0, 0], [1, 1], false, full([1, 4, 4], huge, { dtype: 'int64' })),
    ],
    [
      'maxPool3d backward',
      () => torch.maxPool3dWithIndicesBackward(gradient(box), box, [1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 1], false, full([1, 4, 4, 4], 64, { dtype: 'int64' })),
    ],
    ['adaptiveMaxPool2d backward', () => torch.adaptiveMaxPool2dBackward(ones([1, 1, 1]), plane, ints(-huge).reshape([1, 1, 1]))],
    ['adaptiveMaxPool3d backward', () => torch.adaptiveMaxPool3dBackward(ones([1, 1, 1, 1]), box, ints(64).reshape([1, 1, 1, 1]))],
    ['embedding backward', () => torch.embeddingDenseBackward(row, ints(huge), 3, -1, false)],
    ['sparse embedding backward', () => torch.embeddingSparseBackward(row, ints(3), 3, -1, false)],
    ['nll backward', () => torch.nllLossBackward(ones([]), logits.select(0, 0), ints(0, 3), null, 1, -100, ones([]))],
    ['nll2d backward', () => torch.nllLoss2dBackward(ones([]), zeros([1, 2, 1, 1]), full([1, 1, 1], huge, { dtype: 'int64' }), null, 1, -100, ones([]))],
  ])('%s', (_, call) => {
    const error = errorOf(call)
    expect(error.code, error.message).toBe('ERR_INDEX')
    expect(error.message).toMatch(/: expected .+, got -?\d/)
  }) // prettier-ignore

  it.each<[string, () => unknown]>([
    ['CSR', () => torch._sparseCsrTensorUnsafe(ints(0, 1), ints(huge), values, [1, 2])],
    ['CSR, rows', () => torch.sparseCsrTensor(ints(0, huge), ints(0), values, [1, 2])],
    ['CSC', () => torch._sparseCscTensorUnsafe(ints(0, 1), ints(huge), values, [2, 1])],
    ['any', () => torch._sparseCompressedTensorUnsafe(ints(0, 1), ints(-1), values, [1, 2], { layout: 'sparseCsr' as never })],
  ])('compressed sparse tensors: %s', (_, call) => {
    expect(['ERR_OPERATOR', 'ERR_INDEX', 'ERR_ARGUMENT', 'ERR_NO_OVERLOAD']).toContain(codeOf(call))
  }) // prettier-ignore

  it('what stands behind the length of a sample is not looked at', () => {
    const loss = torch.ctcLoss(logits, ints(1, 2, 1, -7).reshape([2, 2]), [5, 5], [2, 1])
    expect(Number.isFinite(loss.item())).toBe(true)
  })

  it('valid ones are as before', () => {
    expect(
      torch
        .sparseCooTensor(ints(2).reshape([1, 1]), values, [3])
        .toDense()
        .tolist(),
    ).toEqual([0, 0, 1])
    expect(torch.sparseCooTensor([3, 3]).toDense().sum().item()).toBe(0)
    expect(torch.sparseCsrTensor(ints(0, 1), ints(1), values, [1, 2]).toDense().tolist()).toEqual([[0, 1]])
    expect(torch.segmentReduce(ones([3]), 'sum', { lengths: ints(1, 2) }).tolist()).toEqual([1, 2])
    expect(torch.embeddingBag(ones([3, 2]), ints(0, 1), ints(0, 1))[0].shape).toEqual([2, 2])
    expect(torch._packPaddedSequence(packed, ints(3), false)[0].shape).toEqual([3, 2])
  })
})

describe('gradients at places that are none', () => {
  const picture = () => Object.assign(ones([1, 1, 2, 2]), { requiresGrad: true })
  it.each([Infinity, -Infinity, NaN, 1e30])('a grid of %d', value => {
    const grid = full([1, 1, 1, 2], value)
    for (const call of [
      () => torch.gridSampler(picture(), grid, 0, 2, false),
      () => torch.gridSampler2d(picture(), grid, 1, 1, true),
      () =>
        torch.gridSampler2dBackward(ones([1, 1, 1, 1]), ones([1, 1, 2, 2]), grid, 0, 2, false, [true, true]),
    ])
      expect(codeOf(call)).toBe('ERR_ARGUMENT')
    expect(torch.gridSampler(ones([1, 1, 2, 2]), grid, 0, 1, false).shape).toEqual([1, 1, 1, 1])
  })
})
