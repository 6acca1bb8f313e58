/** Which kernels a step takes: those that compute the formula, in every dtype and at every size. */
import { describe, expect, test } from 'vitest'
import { fromTypedArray, ones, optim, torch, zeros, type DType, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOf } from './codes.js'

const [major, minor] = native.systemInfo().torchVersion.split('.').map(Number) as [number, number]
const isAtLeast = (otherMajor: number, otherMinor: number) =>
  major > otherMajor || (major === otherMajor && minor >= otherMinor)

/** libtorch 1.13 has no arithmetic in float16 on the CPU. */
const dtypes: DType[] = ['float32', 'float64', 'bfloat16', ...(isAtLeast(2, 0) ? (['float16'] as const) : [])]
const sizes = [1, 2, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 100, 129, 1000, 5000]

type Options = Record<string, number | boolean | [number, number]>
type Name = 'SGD' | 'Adam' | 'AdamW'

/** Python's formulas, one number at a time in float64. */
function trained(name: Name, options: Options, start: number, gradients: number[]): number {
  const option = (key: string, otherwise: number) => Number(options[key] ?? otherwise)
  const lr = option('lr', 1e-3)
  const decay = option('weightDecay', name === 'AdamW' ? 1e-2 : 0)
  const sign = options['maximize'] ? -1 : 1
  let p = start
  let [buffer, average, square, largest] = [undefined as number | undefined, 0, 0, 0]
  gradients.forEach((each, i) => {
    let g = sign * each
    if (name === 'AdamW') p *= 1 - lr * decay
    else g += decay * p
    if (name === 'SGD') {
      const momentum = option('momentum', 0)
      if (momentum === 0) return void (p -= lr * g)
      buffer = buffer === undefined ? g : momentum * buffer + (1 - option('dampening', 0)) * g
      p -= lr * (options['nesterov'] ? g + momentum * buffer : buffer)
      return
    }
    const [beta1, beta2] = (options['betas'] ?? [0.9, 0.999]) as [number, number]
    average = beta1 * average + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    largest = Math.max(largest, square)
    const root = Math.sqrt((options['amsgrad'] ? largest : square) / (1 - beta2 ** (i + 1)))
    p -= ((lr / (1 - beta1 ** (i + 1))) * average) / (root + option('eps', 1e-8))
  })
  return p
}

const cases: [Name, Options][] = [
  ['SGD', { lr: 1 }],
  ['SGD', { lr: 0.5, weightDecay: 0.25, maximize: true }],
  ['SGD', { lr: 0.5, momentum: 0.5 }],
  ['SGD', { lr: 0.5, momentum: 0.5, dampening: 0.25, weightDecay: 0.25 }],
  ['SGD', { lr: 0.5, momentum: 0.5, nesterov: true, maximize: true }],
  ['Adam', { lr: 0.5, betas: [0.5, 0.75], eps: 0.125 }],
  ['Adam', { lr: 0.5, betas: [0.5, 0.75], weightDecay: 0.25, maximize: true }],
  ['Adam', { lr: 0.5, betas: [0.5, 0.25], amsgrad: true }],
  ['AdamW', { lr: 0.5, betas: [0.5, 0.75], weightDecay: 0.25 }],
  ['AdamW', { lr: 0.5, betas: [0.5, 0.25], weightDecay: 0.25, amsgrad: true, maximize: true }],
]

/** Of some roundings of numbers up to 4. */
const tolerances: Partial<Record<DType, number>> = {
  float64: 1e-12,
  float32: 1e-5,
  float16: 0.03,
  bfloat16: 0.2,
}

const gradientAt = (i: number, step: number) => ((3 * i + step) % 4 < 2 ? 1 : -1) * (1 + ((i + step) % 4) / 4)
const startAt = (i: number) => ((i % 9) - 4) / 4

function make(name: Name, params: Tensor[], options: Options): optim.Optimizer {
  const constructor: new (params: Tensor[], options: Options) => optim.Optimizer = optim[name]
  return new constructor(params, options)
}

describe.each(dtypes)('in %s', dtype => {
  test.each(cases)('%s %o steps every element at every size, as the formula says', (name, options) => {
    const params = sizes.map(size => {
      const start = Float64Array.from({ length: size }, (_, i) => startAt(i))
      return fromTypedArray(start, [size], { dtype, requiresGrad: true })
    })
    const optimizer = make(name, params, options)
    for (let step = 0; step < 3; step++) {
      params.forEach((each, k) => {
        const numbers = Float64Array.from({ length: sizes[k]! }, (_, i) => gradientAt(i, step))
        each.grad = fromTypedArray(numbers, [sizes[k]!], { dtype })
      })
      optimizer.step()
    }
    params.forEach((each, k) => {
      const actual = Array.from(each.toTypedArray(), Number)
      const off = actual.findIndex((value, i) => {
        const wanted = trained(
          name,
          options,
          startAt(i),
          [0, 1, 2].map(step => gradientAt(i, step)),
        )
        return !(Math.abs(value - wanted) <= tolerances[dtype]!)
      })
      expect(off, `element of ${sizes[k]}: ${actual[off]}`).toBe(-1)
    })
  })

  test.each(cases)(
    '%s %o: a kernel that is asked for does the same, or says that it cannot',
    (name, options) => {
      for (const kernel of [{ fused: true }, { foreach: true }] as Options[]) {
        const [one, other] = [33, 33].map(size => zeros([size], { dtype, requiresGrad: true })) as [
          Tensor,
          Tensor,
        ]
        one.grad = ones([33], { dtype })
        other.grad = ones([33], { dtype })
        make(name, [other], { ...options, fused: false, foreach: false }).step()
        const code = codeOf(() => make(name, [one], { ...options, ...kernel }).step())
        if (code === 'no error')
          expect(torch.allclose(one, other, { rtol: 0, atol: tolerances[dtype]! })).toBe(true)
        else {
          expect(code).toBe('ERR_NOT_IMPLEMENTED')
          expect(one.abs().sum().item()).toBe(0)
        }
      }
    },
  )
})

test('the fused SGD of libtorch 2.13, which passes over vectors in half precision, is refused by name', () => {
  if (major !== 2 || minor !== 13) return
  const p = zeros([32], { dtype: 'bfloat16', requiresGrad: true })
  p.grad = ones([32], { dtype: 'bfloat16' })
  expect(() => new optim.SGD([p], { lr: 1, fused: true }).step()).toThrow(
    /fused: libtorch 2\.13 has a fused kernel that computes wrongly for bfloat16 \(32\)/,
  )
  new optim.SGD([p], { lr: 1 }).step()
  expect(p.tolist()).toEqual(Array(32).fill(-1))
})

test('fused and foreach cannot both be asked for', () => {
  const p = zeros([2], { requiresGrad: true })
  expect(codeOf(() => new optim.SGD([p], { fused: true, foreach: true }))).toBe('ERR_ARGUMENT')
})

test('parameters on meta are stepped, which computes nothing', () => {
  const p = zeros([40], { device: 'meta', requiresGrad: true })
  p.grad = zeros([40], { device: 'meta' })
  for (const name of ['SGD', 'Adam', 'AdamW'] as const) make(name, [p], { lr: 1 }).step()
  expect(p.device).toBe('meta')
})

describe.each(['SGD', 'Adam', 'AdamW'] as const)('%s', name => {
  const options: Options = name === 'SGD' ? { lr: 0.5, momentum: 0.5 } : { lr: 0.5, weightDecay: 0.25 }

  /** Trains views of one storage, and the same by the loop. */
  function compare(views: (storage: Tensor) => Tensor[]): void {
    const results = [{}, { fused: false, foreach: false }].map(kernel => {
      const storage = torch.arange(24, { dtype: 'float64' })
      const params = views(storage)
      for (const each of params) {
        each.requiresGrad = true
        each.grad = torch.onesLike(each)
      }
      const optimizer = make(name, params, { ...options, ...kernel } as Options)
      optimizer.step()
      optimizer.step()
      return storage
    })
    expect(torch.allclose(results[0]!, results[1]!, { rtol: 1e-12 })).toBe(true)
  }

  test('parameters that overlap in memory are stepped one after the other', () => {
    compare(storage => [torch.slice(storage, { end: 16 }), torch.slice(storage, { start: 8 })])
  })

  test('parameters that lie in one storage side by side are stepped like others', () => {
    compare(storage => [torch.slice(storage, { end: 12 }), torch.slice(storage, { start: 12 })])
  })

  test('rows and columns with gaps are stepped like others', () => {
    compare(storage => [torch.slice(storage, { step: 2 }), torch.slice(storage, { start: 1, step: 2 })])
  })

  test('a gradient that shares memory with its parameter is read before that is written', () => {
    const storage = torch.arange(9, { dtype: 'float64' })
    const p = torch.slice(storage, { end: 8 })
    const plain = p.clone()
    p.requiresGrad = plain.requiresGrad = true
    p.grad = torch.slice(storage, { start: 1 })
    plain.grad = torch.arange(1, 9, { dtype: 'float64' })
    make(name, [p], options).step()
    make(name, [plain], options).step()
    expect(p.tolist()).toEqual(plain.tolist())
  })

  test('a gradient whose elements are negated or conjugated when they are read counts as what it reads as', () => {
    const z = torch.complex(ones([3]), ones([3]))
    const p = torch.zerosLike(z)
    const plain = torch.zerosLike(z)
    p.requiresGrad = plain.requiresGrad = true
    p.grad = torch.conj(z)
    plain.grad = torch.complex(ones([3]), ones([3]).neg())
    const real = zeros([3], { requiresGrad: true })
    real.grad = torch.imag(torch.conj(z))
    const optimizer = make(name, [p, real], options)
    optimizer.step()
    make(name, [plain], options).step()
    expect(p.tolist()).toEqual(plain.tolist())
    expect(real.min().item()).toBeGreaterThan(0)
  })

  test('a parameter without elements is stepped', () => {
    const p = zeros([0, 3], { requiresGrad: true })
    p.grad = zeros([0, 3])
    make(name, [p], options).step()
    expect(p.shape).toEqual([0, 3])
  })
})
