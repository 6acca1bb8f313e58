/** The commonest calls take shorter ways through the native code: the result must not tell which. */
import { describe, expect, it } from 'vitest'
import {
  Generator,
  memory,
  noGrad,
  ones,
  scope,
  tensor,
  torch,
  zeros,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { timeOperator } from '../lib/calls/call.js'
import { codeOf } from './codes.js'

describe('a number beside a tensor', () => {
  const numbers = [2, -3, 0.1, -0, 16777217, 3e38, 1e300, -1e300, Infinity, NaN]
  const arithmetic = {
    add: (a: number, b: number) => a + b,
    sub: (a: number, b: number) => a - b,
    mul: (a: number, b: number) => a * b,
    div: (a: number, b: number) => a / b,
  }
  const comparisons = {
    eq: (a: number, b: number) => a === b,
    ne: (a: number, b: number) => a !== b,
    lt: (a: number, b: number) => a < b,
    le: (a: number, b: number) => a <= b,
    gt: (a: number, b: number) => a > b,
    ge: (a: number, b: number) => a >= b,
  }
  const roundings: [DType, (value: number) => number][] = [
    ['float32', Math.fround],
    ['float64', value => value],
  ]

  it.each(roundings)('is rounded to %s, and so is the result', (dtype, round) => {
    const values = [0, 1, -2.5, 0.1].map(round)
    const a = tensor(values, { dtype })
    for (const number of numbers) {
      for (const [name, compute] of Object.entries(arithmetic)) {
        const result = a[name as keyof typeof arithmetic](number)
        const expected = values.map(value => round(compute(value, round(number))))
        expect([result.dtype, result.tolist()], `${name} ${number}`).toEqual([dtype, expected])
      }
      for (const [name, compare] of Object.entries(comparisons)) {
        const result = a[name as keyof typeof comparisons](number)
        const expected = values.map(value => compare(value, round(number)))
        expect([result.dtype, result.tolist()], `${name} ${number}`).toEqual(['bool', expected])
      }
    }
  })

  it.each<[DType, number, DType]>([
    ['float32', 1, 'float32'],
    ['float32', 1.5, 'float32'],
    ['float64', 1.5, 'float64'],
    ['bfloat16', 0.1, 'bfloat16'],
    ['int64', 2, 'int64'],
    ['int8', 2, 'int8'],
    ['int64', 0.5, 'float32'],
    ['bool', 2, 'int64'],
    ['bool', 0.5, 'float32'],
    ['complex64', 2, 'complex64'],
  ])('%s and %f give %s', (dtype, number, expected) => {
    const result = tensor([1, 0], { dtype }).add(number)
    expect(result.dtype).toBe(expected)
    const [first] = (
      expected === 'complex64' ? torch.real(result) : result.to('float64')
    ).tolist() as number[]
    expect(first).toBeCloseTo(1 + number, 2)
  })

  it('keeps 0 and -0 apart', () => {
    const one = tensor([1])
    expect(one.div(0).item()).toBe(Infinity)
    expect(one.div(-0).item()).toBe(-Infinity)
    expect(one.div(0).item()).toBe(Infinity)
  })

  it('is not worn by use', () => {
    const a = tensor([1])
    for (let i = 0; i < 1000; i++) expect(a.mul(i).item()).toBe(i)
    const product = a.mul(3)
    product.add_(100)
    expect(a.mul(3).item()).toBe(3)
  })

  it('changes in place, and returns the same object', () => {
    const a = tensor([1, 2])
    expect(a.add_(1)).toBe(a)
    expect(a.mul_(2.5)).toBe(a)
    expect(a.tolist()).toEqual([5, 7.5])
    const whole = tensor([1, 2], { dtype: 'int64' })
    expect(codeOf(() => whole.div_(2))).toBe('ERR_OPERATOR')
  })
})

describe('autograd', () => {
  it('records what tensors and numbers go into, whatever was computed before without it', () => {
    const a = tensor([2, 3], { requiresGrad: true })
    const b = ones([2]).add(1) // never seen by autograd
    const loss = a.mul(b).add(b).mul(3).sub(a).relu().sum()
    loss.backward()
    expect(a.grad!.tolist()).toEqual([5, 5])
  })

  it('sees a base change through its view', () => {
    const base = zeros([4])
    const view = base.view([2, 2])
    const w = tensor([[1, 2], [3, 4]], { requiresGrad: true }) // prettier-ignore
    view.mul_(2)
    view.add_(w)
    base.sum().backward()
    expect(base.tolist()).toEqual([1, 2, 3, 4])
    expect(w.grad!.tolist()).toEqual([
      [1, 1],
      [1, 1],
    ])
  })

  it.each([
    ['a number', (x: Tensor) => x.add_(1)],
    ['a tensor', (x: Tensor) => x.add_(ones([2]))],
  ])('notices when %s changes a value that a gradient needs', (_, change) => {
    const a = tensor([1, 2], { requiresGrad: true })
    const b = a.mul(2)
    const loss = b.mul(b).sum()
    change(b)
    expect(codeOf(() => loss.backward())).toBe('ERR_AUTOGRAD')
  })

  it('refuses to change a leaf in place, except under noGrad()', () => {
    const a = tensor([1, 2], { requiresGrad: true })
    expect(codeOf(() => a.add_(1))).toMatch(/ERR_(AUTOGRAD|OPERATOR)/)
    noGrad(() => a.add_(1))
    expect(a.tolist()).toEqual([2, 3])
  })

  it('gives results that can require a gradient later', () => {
    const a = ones([2]).add(1).mul(2)
    a.requiresGrad = true
    a.mul(a).sum().backward()
    expect(a.grad!.tolist()).toEqual([8, 8])
  })
})

describe('errors', () => {
  it('name operator, arguments and shapes', () => {
    expect(() => ones([2]).add(ones([3]))).toThrow(/^add: .*float32 \(2\).*float32 \(3\)/s)
    expect(() => ones([2]).add_(ones([3]))).toThrow(/^add_: .*float32 \(2\)/s)
    expect(() => ones([2, 2]).matmul(ones([3, 2]))).toThrow(/^matmul: /)
  })

  it('leave released tensors alone', () => {
    const [a, b] = [ones([1]), ones([1])]
    b.dispose()
    expect(codeOf(() => a.add(b))).toBe('ERR_TENSOR_RELEASED')
    expect(codeOf(() => b.add(1))).toBe('ERR_TENSOR_RELEASED')
    expect(codeOf(() => b.relu())).toBe('ERR_TENSOR_RELEASED')
    expect(codeOf(() => torch.cat([a, b]))).toBe('ERR_TENSOR_RELEASED')
  })
})

describe('lists', () => {
  it('may be long', () => {
    const tensors = Array.from({ length: 3000 }, (_, i) => tensor([i]))
    expect(torch.cat(tensors).sum().item()).toBe((2999 * 3000) / 2)
    const sizes = Array.from({ length: 3000 }, () => 1)
    expect(torch.cat(tensors).split(sizes).length).toBe(3000)
  })

  it('may be several in a call, of tensors, numbers and nulls', () => {
    const [a, b] = [tensor([1, 2]), tensor([3, 4])]
    const sums = torch._foreachAdd([a, b], [b, a])
    expect(sums.map(each => each.tolist())).toEqual([
      [4, 6],
      [4, 6],
    ])
    torch._foreachMul_([a, b], [2, 0.5])
    expect([a.tolist(), b.tolist()]).toEqual([
      [2, 4],
      [1.5, 2],
    ])
    const grid = torch.arange(0, 9).reshape([3, 3])
    expect(torch.index(grid, [null, tensor([0n, 2n])]).tolist()).toEqual([
      [0, 2],
      [3, 5],
      [6, 8],
    ])
    const padded = torch.conv2d(ones([1, 1, 4, 4]), ones([1, 1, 3, 3]), { stride: [1, 2], padding: [2, 0] })
    expect(padded.shape).toEqual([1, 1, 6, 1])
  })

  it('are shown in errors', () => {
    expect(() => ones([4]).reshape([3, 3])).toThrow(/shape: \[3, 3\]/)
    expect(() => ones([4]).reshape([1.5] as number[])).toThrow(/1\.5/)
    expect(() => torch.cat([ones([2, 2]), ones([3])])).toThrow(/\[float32 \(2, 2\), float32 \(3\)\]/)
  })
})

it('a scope releases what shortcuts made', () => {
  const before = memory()
  scope(() => {
    const a = ones([100])
    for (let i = 0; i < 500; i++) a.add(i).relu().mul(a)
  })
  expect(memory()).toEqual(before)
})

describe('operators called by their C++ signature', () => {
  it('take options in any order, and leave out what is undefined', () => {
    const [image, weight, bias] = [ones([1, 1, 4, 4]), ones([1, 1, 3, 3]), tensor([0.5])]
    const expected = torch.conv2d(image, weight, { bias, stride: [2, 1], padding: [1, 0] })
    expect(expected.tolist()).toEqual([
      [
        [
          [6.5, 6.5],
          [9.5, 9.5],
        ],
      ],
    ])
    for (const options of [
      { padding: [1, 0], bias, stride: [2, 1] },
      { dilation: undefined, padding: [1, 0], bias, stride: [2, 1], groups: 1 },
      { padding: Int32Array.of(1, 0) as unknown as number[], bias, stride: [2n, 1n] },
    ])
      expect(torch.conv2d(image, weight, options).equal(expected)).toBe(true)
    expect(torch.conv2d(image, weight, { bias: null, stride: 2 }).tolist()).toEqual([[[[9]]]])
    expect(torch.conv2d(image, weight, { bias: undefined, padding: 'same' }).shape).toEqual([1, 1, 4, 4])
  })

  it('may have options that are computed by other operators when they are read', () => {
    const two = tensor([2])
    const options = {
      get alpha() {
        return two.add(two).item()
      },
    }
    expect(
      tensor([1])
        .add(tensor([10]), options)
        .tolist(),
    ).toEqual([41])
  })

  it('change in place with options, and return the same object', () => {
    const a = tensor([1, 2])
    expect(a.add_(tensor([1, 1]), { alpha: 10 })).toBe(a)
    expect(a.clamp_({ max: 11.5 })).toBe(a)
    expect(torch.addcmul_(a, tensor([1, 2]), tensor([3, 4]), { value: 2 })).toBe(a)
    expect(a.tolist()).toEqual([17, 27.5])
    const flat = tensor([[1, 2]])
    expect(flat.unsqueeze_(0)).toBe(flat)
    expect(flat.shape).toEqual([1, 1, 2])
  })

  it('read every kind of argument', () => {
    const a = tensor([[1, 2], [3, 4]]) // prettier-ignore
    expect(a.sum({ dtype: 'float64' }).dtype).toBe('float64')
    expect(torch.sum(a, [0]).tolist()).toEqual([4, 6])
    expect(torch.sum(a, null, { keepdim: true }).tolist()).toEqual([[10]])
    expect(torch.sum(a, 1, { keepdim: true }).tolist()).toEqual([[3], [7]])
    expect(a.permute([1, 0]).tolist()).toEqual([[1, 3], [2, 4]]) // prettier-ignore
    expect(a.argmax().item()).toBe(3)
    expect(a.argmax({ dim: 0, keepdim: true }).tolist()).toEqual([[1, 1]])
    expect(a.narrow(0, 1n, 1).tolist()).toEqual([[3, 4]])
    expect(a.slice({ dim: 1, start: -1 }).tolist()).toEqual([[2], [4]])
    expect(a.slice({ end: null, step: 2 }).tolist()).toEqual([[1, 2]])
    expect(a.view('int32').dtype).toBe('int32')
    expect(torch.empty([2], { dtype: 'int8', device: 'cpu', memoryFormat: null }).dtype).toBe('int8')
    expect(torch.full([2], true).tolist()).toEqual([true, true])
    expect(torch.gelu(a, { approximate: 'tanh' }).equal(torch.gelu(a))).toBe(false)
    expect(torch.clamp(a, { min: 1.5, max: null }).tolist()).toEqual([[1.5, 2], [3, 4]]) // prettier-ignore
    const image = ones([1, 1, 2, 2])
    expect(
      image.contiguous({ memoryFormat: 'channelsLast' }).isContiguous({ memoryFormat: 'channelsLast' }),
    ).toBe(true)
    expect(torch.upsampleNearest2d(image, null, [2, 1]).shape).toEqual([1, 1, 4, 2])
    expect(torch.maxPool2d(image, 2).shape).toEqual([1, 1, 1, 1])
    expect(torch.cat([a, a], { dim: 1 }).shape).toEqual([2, 4])
    expect(torch.stack([a, a]).shape).toEqual([2, 2, 2])
    expect(torch.linear(a, a).equal(a.matmul(a.t()))).toBe(true)
    expect(codeOf(() => torch.cat([]))).toBe('ERR_OPERATOR')
    const draw = () =>
      zeros([8])
        .bernoulli_({ p: 0.5, generator: new Generator(7) })
        .tolist()
    expect(draw()).toEqual(draw())
  })

  it('know any number of strings', () => {
    const letters = [...'abcdefghijklmnopqrstuvwxyz']
    const [a, b] = [tensor([[1, 2]]), tensor([[3], [4]])]
    const results = new Set<number>()
    for (const i of letters)
      for (const j of letters)
        for (const k of 'xyz')
          if (new Set([i, j, k]).size === 3)
            results.add(torch.einsum(`${i}${j},${j}${k}->${i}${k}`, [a, b]).item())
    expect([...results]).toEqual([11])
    expect(a.sum({ dtype: 'float16' }).dtype).toBe('float16')
  })

  it('record what autograd needs', () => {
    const weight = ones([1, 1, 2, 2])
    weight.requiresGrad = true
    const image = torch.arange(0, 9, { dtype: 'float32' }).reshape([1, 1, 3, 3])
    const loss = torch
      .conv2d(image, weight, { stride: [1, 1] })
      .view([4])
      .unsqueeze(0)
      .sum()
    loss.backward()
    expect(weight.grad!.tolist()).toEqual([
      [
        [
          [8, 12],
          [20, 24],
        ],
      ],
    ])
    const list = [tensor([1], { requiresGrad: true }), tensor([2])]
    torch.cat(list).mul(3).sum().backward()
    expect(list[0]!.grad!.tolist()).toEqual([3])
  })

  it.each<[string, (x: Tensor) => Tensor]>([
    ['atleast2d', x => torch.atleast2d(x)],
    ['view', x => x.view([1, 2])],
    ['expand', x => x.expand([1, 2])],
    ['narrow', x => x.narrow(0, 0, 2)],
    ['contiguous', x => x.contiguous()],
    ['dropout', x => torch.dropout(x, 0.5, false)],
    ['typeAs', x => x.typeAs(x)],
  ])('%s gives a tensor whose changes its base knows', (_, view) => {
    const base = zeros([2])
    const w = tensor([1, 2], { requiresGrad: true })
    view(base).add_(w)
    base
      .mul(tensor([3, 4]))
      .sum()
      .backward()
    expect(base.tolist()).toEqual([1, 2])
    expect(w.grad!.tolist()).toEqual([3, 4])
  })

  it('name operator and arguments in errors', () => {
    const [image, weight] = [ones([1, 1, 4, 4]), ones([1, 2, 3, 3])]
    expect(() => torch.conv2d(image, weight, { stride: [1, 1] })).toThrow(
      /^conv2d: .*\(input: float32 \(1, 1, 4, 4\), weight: float32 \(1, 2, 3, 3\), stride: \[1, 1\]\)/s,
    )
    expect(() => ones([4]).unsqueeze(3)).toThrow(/^unsqueeze: .*dim: 3/s)
    expect(() => ones([4]).view('float33' as DType)).toThrow(/^view: .*"float33"/s)
    expect(codeOf(() => torch.empty([1], { device: 'nowhere' }))).toBe('ERR_DEVICE')
    expect(codeOf(() => torch.cat([ones([1]), null as unknown as Tensor]))).toBe('ERR_ARGUMENT')
    const gone = ones([1])
    gone.dispose()
    expect(codeOf(() => torch.conv2d(image, ones([1, 1, 3, 3]), { bias: gone }))).toBe('ERR_TENSOR_RELEASED')
    expect(ones([2]).add(1).tolist()).toEqual([2, 2]) // after an error as before
  })

  it('can be timed alone', () => {
    expect(timeOperator('aten::add', ones([2]), 1)).toBeGreaterThan(0)
    expect(timeOperator('aten::sort', ones([2]))).toBeNull() // two results: called boxed
  })
})
