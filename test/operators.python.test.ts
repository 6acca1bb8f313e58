/**
 * Calls that several overloads would take, or before which Python has a function of its own: results are those of
 * Python's function, `reference/python_calls.py`.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ones, tensor, torch, zeros, arange, type DType, type Tensor } from '../lib/index.js'
import { isOldest } from './nn.fixtures.js'

const expected = JSON.parse(
  readFileSync(new URL('reference/python_calls.json', import.meta.url), 'utf8'),
) as Record<string, { dtype: DType; shape: number[]; values: number[] }>

const x = arange(12, { dtype: 'float32' }).sin().reshape([3, 4])
const signal = arange(32, { dtype: 'float32' }).mul(0.7).cos()
const window = torch.hannWindow(8)

/** By the text of the call. */
const calls: Record<string, () => Tensor> = {
  'torch.stft(signal, 8, { returnComplex: true })': () => torch.stft(signal, 8, { returnComplex: true }),
  'torch.stft(signal, 8, { hopLength: 2, window, returnComplex: true })': () =>
    torch.stft(signal, 8, { hopLength: 2, window, returnComplex: true }),
  'torch.stft(signal, 8, { center: false, returnComplex: true })': () =>
    torch.stft(signal, 8, { center: false, returnComplex: true }),
  "torch.stft(signal, 8, { padMode: 'constant', returnComplex: true })": () =>
    torch.stft(signal, 8, { padMode: 'constant', returnComplex: true }),
  'signal.stft(8, { normalized: true, onesided: false, returnComplex: true })': () =>
    signal.stft(8, { normalized: true, onesided: false, returnComplex: true }),
  'torch.istft(torch.stft(signal, 8, { window, returnComplex: true }), 8, { window })': () =>
    torch.istft(torch.stft(signal, 8, { window, returnComplex: true }), 8, { window }),
  'torch.bernoulli(ones([4]), { out })': () => torch.bernoulli(ones([4]), { out: zeros([4]) }),
  'torch.bernoulli(zeros([4]), { out })': () => torch.bernoulli(zeros([4]), { out: ones([4]) }),
  "torch.softmax(x, 0, { dtype: 'float64' })": () => torch.softmax(x, 0, { dtype: 'float64' }),
  "x.logSoftmax(1, { dtype: 'float16' })": () => x.logSoftmax(1, { dtype: 'float16' }),
  "x.sum(0, { dtype: 'float64' })": () => x.sum(0 as never, { dtype: 'float64' }),
  "x.cumsum(1, { dtype: 'float64' })": () => x.cumsum(1, { dtype: 'float64' }),
  "x.prod({ dtype: 'float64' })": () => x.prod({ dtype: 'float64' }),
  'x.std()': () => x.std(),
  'x.std({ dim: [0], correction: 0 })': () => x.std({ dim: [0], correction: 0 }),
  'x.norm()': () => x.norm(),
  'torch.cdist(x, x)': () => torch.cdist(x, x),
}

type Binary = 'add' | 'sub' | 'mul' | 'div' | 'add_' | 'sub_' | 'mul_' | 'div_' | 'lt' | 'eq' | 'multiply_'

/** `x.to('float16').mul_(0.9)` and `tensor([1, 2, 3], { dtype: 'uint8' }).add(300)`. */
function binaryCall(text: string): (() => Tensor) | undefined {
  const [, half, dtype, op, number] =
    /^(?:x\.to\('(\w+)'\)|tensor\(\[1, 2, 3\], \{ dtype: '(\w+)' \}\))\.(\w+)\((\S+)\)$/.exec(text) ?? []
  if (op === undefined) return undefined
  return () => {
    const self = half === undefined ? tensor([1, 2, 3], { dtype: dtype as DType }) : x.to(half)
    return self[op as Binary](Number(number))
  }
}

/** Of dtypes whose kernels round alike on every processor: half precisions are compared bit for bit. */
function tolerance(dtype: DType): number {
  return dtype === 'float32' ? 1e-5 : dtype === 'float64' ? 1e-6 : 0
}

/** Kernels of 1.13 round half precisions otherwise, as its Python does. */
const compared = Object.entries(expected).filter(([, { dtype }]) => !(isOldest && /float16/.test(dtype)))

describe("results are those of Python's functions", () => {
  it.each(compared)('%s', (text, { dtype, shape, values }) => {
    const result = (calls[text] ?? binaryCall(text))!()
    const real = result.dtype.startsWith('complex') ? torch.viewAsReal(result) : result
    expect([real.dtype, real.shape]).toEqual([dtype, shape])
    const found = real.to('float64').flatten().tolist() as number[]
    found.forEach((value, i) => {
      if (value === values[i]) return
      expect(Math.abs(value - values[i]!), `element ${i}: ${value}, ${values[i]}`).toBeLessThanOrEqual(
        tolerance(dtype),
      )
    })
  })

  it('has a call for each', () => {
    expect(Object.keys(calls).filter(text => !(text in expected))).toEqual([])
  })
})

describe('numbers that a dtype does not hold', () => {
  it.each([
    ['fill_', () => zeros([2], { dtype: 'uint8' }).fill_(300)],
    ['fill_ with NaN', () => zeros([2], { dtype: 'int64' }).fill_(NaN)],
    ['torch.full', () => torch.full([2], 300, { dtype: 'uint8' })],
    ['clamp', () => zeros([2], { dtype: 'uint8' }).clamp({ max: 300 })],
    ['maskedFill', () => zeros([2], { dtype: 'uint8' }).maskedFill(tensor([true, false]), 300)],
    ['scalarTensor', () => torch.scalarTensor(300, { dtype: 'uint8' })],
    ['newFull', () => zeros([2], { dtype: 'int8' }).newFull([2], 128)],
  ])('are refused by %s as by Python', (_, run) => {
    expect(run).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
  })
})
