/** What people write who know Python's tensors. */
import { describe, expect, it } from 'vitest'
import {
  arange,
  enableGrad,
  full,
  grad,
  manualSeed,
  nn,
  noGrad,
  ones,
  optim,
  tensor,
  torch,
  zeros,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { codeOf, expectError } from './codes.js'
import { errorOf, hasDtype, isOldest } from './nn.fixtures.js'

const x = arange(6).reshape([2, 3])
const complex = tensor([[{ re: 1, im: 2 }, 3]])

describe('views by a letter', () => {
  it('transpose, and conjugate', () => {
    expect(x.T.tolist()).toEqual([
      [0, 3],
      [1, 4],
      [2, 5],
    ])
    expect(zeros([2, 3, 4]).T.shape).toEqual([4, 3, 2])
    expect(zeros([2, 3, 4]).mT.shape).toEqual([2, 4, 3])
    expect(x.H.tolist()).toEqual(x.T.tolist())
    expect(complex.H.tolist()).toEqual([[{ re: 1, im: -2 }], [{ re: 3, im: -0 }]])
    expect(torch.stack([complex, complex]).mH.shape).toEqual([2, 2, 1])
    expect(tensor(1).T.shape).toEqual([])
  })

  it('share memory', () => {
    const y = zeros([2, 2])
    y.T.at(0).fill_(1)
    expect(y.tolist()).toEqual([
      [1, 0],
      [1, 0],
    ])
  })

  it('want matrices', () => {
    expect(codeOf(() => zeros([3]).mT)).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => zeros([3]).mH)).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => zeros([1, 2, 3]).H)).toBe('ERR_SHAPE_MISMATCH')
  })
})

describe('the first dimension', () => {
  it('is the length, and what is iterated over', () => {
    expect(x.length).toBe(2)
    expect(tensor(1).length).toBe(0)
    expect([...x].map(row => row.tolist())).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ])
    const [first, second] = zeros([2])
    expect([first!.item(), second!.item()]).toEqual([0, 0])
    expect([...zeros([0, 2])]).toEqual([])
  })

  it('is none without dimensions', () => {
    expect(codeOf(() => [...tensor(1)])).toBe('ERR_SHAPE_MISMATCH')
  })

  it('gives views that gradients pass', () => {
    const w = ones([2, 2], { requiresGrad: true })
    for (const row of w) row.mul(3).sum().backward()
    expect(w.grad!.tolist()).toEqual([
      [3, 3],
      [3, 3],
    ])
  })
})

describe('JSON.stringify', () => {
  it('writes nested numbers', () => {
    expect(JSON.stringify(x)).toBe('[[0,1,2],[3,4,5]]')
    expect(JSON.stringify({ loss: tensor(0.5), mask: tensor([true]) })).toBe('{"loss":0.5,"mask":[true]}')
    expect(JSON.stringify(tensor([NaN, 1]))).toBe('[null,1]')
    expect(codeOf(() => JSON.stringify(tensor([2n ** 60n])))).toBe('ERR_PRECISION')
  })
})

describe('conversions by name', () => {
  it.each([
    ['float', 'float32'],
    ['double', 'float64'],
    ['half', 'float16'],
    ['bfloat16', 'bfloat16'],
    ['long', 'int64'],
    ['int', 'int32'],
    ['short', 'int16'],
    ['char', 'int8'],
    ['byte', 'uint8'],
    ['bool', 'bool'],
    ['cfloat', 'complex64'],
    ['cdouble', 'complex128'],
  ] as const)('%s() gives %s', (name, dtype: DType) => {
    expect(tensor([0, 1])[name]().dtype).toBe(dtype)
  })

  it('keep the memory format, or take another one', () => {
    expect(zeros([1, 2, 3, 4]).half({ memoryFormat: 'channelsLast' }).strides).toEqual([24, 1, 8, 2])
  })
})

describe('sizes', () => {
  it('are told in elements and bytes', () => {
    expect([x.numel(), x.nelement(), x.elementSize(), x.itemsize, x.nbytes]).toEqual([6, 6, 8, 8, 48])
    expect(tensor([1]).half().elementSize()).toBe(2)
    expect(x.ndimension()).toBe(2)
    expect([x.stride(), x.stride(0), x.stride(-1)]).toEqual([[3, 1], 3, 1])
    expect(codeOf(() => x.stride(2))).toBe('ERR_INDEX')
  })

  it.skipIf(isOldest)('and where they begin', () => {
    expect(x.at(1).storageOffset()).toBe(3)
  })
})

describe('what a tensor is', () => {
  it('is told by properties', () => {
    expect([x.isCpu, x.isCuda, x.isMeta, x.isSparse, x.isQuantized, x.isNested]).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
    ])
    expect(zeros([1], { device: 'meta' }).isMeta).toBe(true)
    expect(ones([2, 2]).toSparseCoo().isSparse).toBe(true)
    expect(ones([2, 2]).toSparseCsr().isSparseCsr).toBe(true)
    expect(torch.quantizePerTensor(ones([1]), 1, 0, 'qint8').isQuantized).toBe(true)
    expect(torch.quantizePerTensor(ones([1]), 1, 0, 'qint8').qscheme()).toBe('per_tensor_affine')
  })
})

describe('tensors from others', () => {
  it('have their dtype', () => {
    expect(x.newTensor([1.5]).tolist()).toEqual([1])
    expect(x.newZeros([2]).dtype).toBe('int64')
    expect(x.typeAs(tensor(1)).dtype).toBe('float32')
  })

  it('are the values that occur', () => {
    const y = tensor([3, 1, 3, 2])
    expect(y.unique().tolist()).toEqual([1, 2, 3])
    const [values, inverse, counts] = torch.unique(y, { returnInverse: true, returnCounts: true }) as [
      never,
      never,
      never,
    ]
    expect([values, inverse, counts].map(each => (each as typeof y).tolist())).toEqual([
      [1, 2, 3],
      [2, 0, 2, 1],
      [1, 1, 2],
    ])
    expect(
      tensor([
        [1, 2],
        [1, 2],
      ])
        .unique({ dim: 0 })
        .tolist(),
    ).toEqual([[1, 2]])
    expect(() => y.unique({ returnInvers: true } as never)).toThrow(/did you mean "returnInverse"/)
  })

  it('are derivatives of the digamma function', () => {
    expect(tensor([1]).polygamma(1).item()).toBeCloseTo(Math.PI ** 2 / 6, 5)
  })
})

describe('requiresGrad_()', () => {
  it('returns the tensor', () => {
    const w = zeros([1])
    expect(w.requiresGrad_()).toBe(w)
    expect(w.requiresGrad).toBe(true)
    expect(w.requiresGrad_(false).requiresGrad).toBe(false)
    expect(w.requiresGrad_({ requiresGrad: true }).requiresGrad).toBe(true)
  })
})

describe('full()', () => {
  it('takes what the dtype holds', () => {
    expect(full([2], 7n).dtype).toBe('int64')
    expect(full([1], { re: 1, im: 2 }).tolist()).toEqual([{ re: 1, im: 2 }])
    expect(full([1], 1.7, { dtype: 'int64' }).tolist()).toEqual([1])
  })

  it.skipIf(!hasDtype('uint64'))('takes the largest integer of 64 bits', () => {
    expect(full([2], 2n ** 64n - 1n, { dtype: 'uint64' }).toTypedArray()).toEqual(
      BigUint64Array.of(2n ** 64n - 1n, 2n ** 64n - 1n),
    )
  })

  it.each([
    [300, 'uint8'],
    [-1, 'uint8'],
    [NaN, 'int64'],
    [2 ** 63, 'int64'],
    [2n ** 63n, 'int64'],
    [{ re: 1, im: 1 }, 'float32'],
  ] as const)('refuses %s for %s', (value, dtype) => {
    expect(codeOf(() => full([2], value, { dtype }))).toBe('ERR_ARGUMENT')
  })
})

describe('registerHook()', () => {
  const leaf = () => tensor([1, 2], { requiresGrad: true })

  it('sees the gradient, and replaces it', () => {
    const w = leaf()
    const seen: unknown[] = []
    w.registerHook(gradient => {
      seen.push(gradient.tolist())
      return gradient.mul(2)
    })
    w.mul(3).sum().backward()
    expect(seen).toEqual([[3, 3]])
    expect(w.grad!.tolist()).toEqual([6, 6])
  })

  it('runs on results too, in order, and leaves the gradient where it returns nothing', () => {
    const w = leaf()
    const y = w.mul(3)
    const calls: string[] = []
    y.registerHook(() => {
      calls.push('first')
    })
    y.registerHook(gradient => {
      calls.push('second')
      return gradient.neg()
    })
    y.sum().backward()
    expect(calls).toEqual(['first', 'second'])
    expect(w.grad!.tolist()).toEqual([-3, -3])
  })

  it('runs no more once removed', () => {
    const w = leaf()
    const handle = w.registerHook(gradient => gradient.mul(10))
    handle.remove()
    handle.remove()
    w.sum().backward()
    expect(w.grad!.tolist()).toEqual([1, 1])
  })

  it('throws what it throws to the caller of backward()', () => {
    const w = leaf()
    const error = new TypeError('of mine')
    w.registerHook(() => {
      throw error
    })
    expect(() => w.sum().backward()).toThrow(error)
    expect(w.grad).toBeNull()
  })

  // 1.13 runs no hooks of the inputs of grad().
  it.skipIf(isOldest)('and of grad()', () => {
    const w = leaf()
    const error = new TypeError('of mine')
    w.registerHook(() => {
      throw error
    })
    expect(() => grad(w.sum(), w)).toThrow(error)
    expect(w.grad).toBeNull()
  })

  it('may compute gradients itself where it turns recording on, and keep what it sees', () => {
    const w = leaf()
    const other = leaf()
    let kept = tensor(0)
    w.registerHook(gradient => {
      enableGrad(() => other.mul(5).sum()).backward()
      kept = gradient
    })
    w.sum().backward()
    expect(other.grad!.tolist()).toEqual([5, 5])
    expect(kept.tolist()).toEqual([1, 1])
  })

  it('may release tensors of the graph', () => {
    const w = leaf()
    const y = w.mul(2)
    y.registerHook(() => {
      y.dispose()
      w.dispose()
    })
    y.sum().backward()
    expect(w.isDisposed).toBe(true)
  })

  it('refuses gradients of another shape, promises, and what is no tensor', () => {
    const failing = (hook: () => unknown) => {
      const w = leaf()
      w.registerHook(hook as never)
      return codeOf(() => w.sum().backward())
    }
    expect(failing(() => zeros([3]))).toBe('ERR_AUTOGRAD')
    expect(failing(async () => {})).toBe('ERR_ASYNC_CALLBACK')
    expect(failing(() => 5)).toBe('ERR_ARGUMENT')
    expect(
      failing(() => {
        const gone = zeros([2])
        gone.dispose()
        return gone
      }),
    ).toBe('ERR_TENSOR_RELEASED')
  })

  it('names the gradient that a hook has to give, and what it gave', () => {
    const messageOf = (given: Tensor) => {
      const w = leaf()
      w.registerHook(() => given)
      return errorOf(() => w.sum().backward()).message
    }
    expect(messageOf(zeros([3]))).toContain('expected float32 (2), got float32 (3)')
    expect(messageOf(zeros([2], { dtype: 'float64' }))).toContain('expected float32 (2), got float64 (2)')
    expect(messageOf(zeros([2], { device: 'meta' }))).toContain(
      'expected float32 (2), got float32 (2) on meta',
    )
  })

  it('wants a tensor with a gradient, and a function', () => {
    expect(codeOf(() => zeros([1]).registerHook(() => {}))).toBe('ERR_AUTOGRAD')
    expect(codeOf(() => leaf().registerHook('f' as never))).toBe('ERR_ARGUMENT')
  })
})

describe('optimizer.step(closure)', () => {
  it('runs the closure with recording, steps, and returns its result', () => {
    manualSeed(1)
    const w = tensor([1], { requiresGrad: true })
    const optimizer = new optim.SGD([w], { lr: 0.5 })
    const loss = noGrad(() =>
      optimizer.step(() => {
        optimizer.zeroGrad()
        const value = w.mul(w).sum()
        value.backward()
        return value.item()
      }),
    )
    expect(loss).toBe(1)
    expect(w.tolist()).toEqual([0])
    expect(codeOf(() => optimizer.step(async () => {}))).toBe('ERR_ASYNC_CALLBACK')
    expect(codeOf(() => optimizer.step({} as never))).toBe('ERR_ARGUMENT')
  })
})

describe('options of functions', () => {
  const y = tensor([[1, 2]])
  const labels = tensor([0n])
  const { functional } = nn

  it.each([
    [
      'crossEntropy',
      () => functional.crossEntropy(y, labels, { labelSmoothin: 0.1 } as never),
      'labelSmoothing',
    ],
    ['mseLoss', () => functional.mseLoss(y, y, { reductio: 'sum' } as never), 'reduction'],
    ['klDiv', () => functional.klDiv(y, y, { logTargets: true } as never), 'logTarget'],
    ['relu', () => functional.relu(y, { inPlace: true } as never), 'inplace'],
    ['leakyRelu', () => functional.leakyRelu(y, { slope: 1, negativSlope: 1 } as never), ''],
    ['gelu', () => functional.gelu(y, { approximat: 'tanh' } as never), 'approximate'],
    ['silu', () => functional.silu(y, { inplac: true } as never), 'inplace'],
    ['softmax', () => functional.softmax(y, 1, { dtyp: 'float64' } as never), 'dtype'],
    ['logSoftmax', () => functional.logSoftmax(y, 1, { dtypes: 'float64' } as never), 'dtype'],
    ['dropout', () => functional.dropout(y, { train: true } as never), 'training'],
    ['normalize', () => functional.normalize(y, { dims: 1 } as never), 'dim'],
    ['cosineSimilarity', () => functional.cosineSimilarity(y, y, { epsilon: 1 } as never), 'eps'],
    ['interpolate', () => functional.interpolate(zeros([1, 1, 2, 2]), { scale: 2, siz: 4 } as never), ''],
    ['adaptiveAvgPool2d', () => functional.adaptiveAvgPool2d(zeros([1, 1, 2, 2]), 1, { a: 1 }), ''],
  ])('%s names the nearest one', (name, run, near) => {
    expect(codeOf(run)).toBe('ERR_ARGUMENT')
    expect(run).toThrow(new RegExp(`^${name}: there is no option .*${near}`))
  })

  it('have kinds', () => {
    expect(codeOf(() => functional.crossEntropy(y, labels, { labelSmoothing: '0.1' } as never))).toBe(
      'ERR_ARGUMENT',
    )
    expect(codeOf(() => functional.relu(y, true as never))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => functional.crossEntropy(y, labels, { reduction: 'avg' } as never))).toBe(
      'ERR_ARGUMENT',
    )
  })

  it('are not ignored', () => {
    expect(functional.softmax(y, 1, { dtype: 'float64' }).dtype).toBe('float64')
    expect(functional.logSoftmax(y, 1, { dtype: 'float64' }).dtype).toBe('float64')
    const z = tensor([-1, 1])
    functional.leakyRelu(z, { inplace: true, negativeSlope: 0.5 })
    functional.silu(z, { inplace: true })
    expect(z.at(0).item()).toBeCloseTo(-0.5 / (1 + Math.exp(0.5)), 6)
    functional.dropout(z, { p: 1, inplace: true })
    expect(z.tolist()).toEqual([-0, 0])
  })

  it('of operators name the nearest one too', () => {
    expect(() => torch.softmax(y, 1, { dtyp: 'float64' } as never)).toThrow(
      /softmax: there is no option "dtyp"; did you mean "dtype"/,
    )
    expect(() => y.sum({ keepDims: true } as never)).toThrow(/did you mean "keepdim"/)
    expect(codeOf(() => y.sum({ keepDims: true } as never))).toBe('ERR_NO_OVERLOAD')
    expect(() => torch.relu(y, { inplace: true } as never)).toThrow(/there is no option "inplace"/)
  })
})

describe('Arguments side by side, as in Python', () => {
  const y = zeros([2, 12])
  /** Types would not let it pass. */
  const call = (target: object, name: string, args: readonly unknown[]) => () =>
    (target as Record<string, (...args: unknown[]) => unknown>)[name]!(...args)

  it.each<[name: string, args: unknown[], written: string, target: object]>([
    ['view', [2, 12], 'x.view([2, 12])', y],
    ['reshape', [4, 6], 'x.reshape([4, 6])', y],
    ['permute', [1, 0], 'x.permute([1, 0])', y],
    ['sum', [0, 1], 'x.sum([0, 1])', y],
    ['sum', [0, true], 'x.sum(0, { keepdim: true })', y],
    ['argmax', [1], 'x.argmax({ dim: 1 })', y],
    ['flatten', [1], 'x.flatten({ startDim: 1 })', y],
    ['roll', [1, 0], 'x.roll(1, { dims: 0 })', y],
    ['topk', [2, 1], 'x.topk(2, { dim: 1 })', y],
    ['cat', [[y], 1], 'cat(…, { dim: 1 })', torch],
    ['zeros', [2, 3], 'zeros([2, 3])', torch],
    ['zeros', [[2], 'int64'], 'zeros([2], { dtype: "int64" })', torch],
  ])('%s of %j is answered with %s', (name, args, written, target) => {
    expect(codeOf(call(target, name, args))).toBe('ERR_NO_OVERLOAD')
    expect(call(target, name, args)).toThrow(`; did you mean ${written}? Arguments without a default`)
  })

  it('of a method do not count the tensor before the dot', () => {
    expect(call(y, 'argmax', [1, 2, 3])).toThrow(
      /^argmax: no overload takes 3 positional arguments besides self\. Arguments/,
    )
    expect(call(torch, 'argmax', [y, 1, 2])).toThrow(
      /^argmax: no overload takes 3 positional arguments\. Arguments/,
    )
  })

  it('that are one number, where a list is wanted', () => {
    expect(call(y, 'reshape', [24])).toThrow('reshape: shape: expected int[], got 24; did you mean [24]?')
    expect(call(y, 'view', [24])).toThrow(/; did you mean \[24\]\?$/)
  })

  const functions = { zeros, ones, full, tensor, torchZeros: (size: never) => torch.zeros(size) }

  it.each([
    ['zeros', [2, 3], 'zeros: shape: expected an array of sizes, got 2, 3; did you mean zeros([2, 3])?'],
    ['ones', [2], 'ones: shape: expected an array of sizes, got 2; did you mean ones([2])?'],
    ['zeros', [], 'zeros: shape is missing: expected an array of sizes such as [2, 3]'],
    ['full', [[2]], 'full: value is missing: expected a number'],
    ['tensor', [], 'tensor: data is missing: expected numbers, nested arrays or a typed array'],
    ['zeros', [[2], 'float32'], 'zeros: options: expected an object, got "float32"; did you mean { dtype: "float32" }?'],
    ['zeros', [[2], 'cpu'], 'zeros: options: expected an object, got "cpu"; did you mean { device: "cpu" }?'],
    ['torchZeros', [undefined], 'zeros: size: expected int[], got undefined'],
  ])('%s of %j is answered: %s', (name, args, message) => {
    expect(codeOf(call(functions, name, args))).toBe('ERR_ARGUMENT')
    expect(call(functions, name, args)).toThrow(message)
  }) // prettier-ignore

  it('in a list of tensors name the operator', () => {
    expectError(
      () => torch.cat([y, 1 as never]),
      'ERR_ARGUMENT',
      /^cat: expected a tensor or null at index 1 of a list of tensors, got 1$/,
    )
    const gone = zeros([1])
    gone.dispose()
    expectError(() => torch.stack([y, gone]), 'ERR_TENSOR_RELEASED', /^stack: the tensor at index 1 /)
  })
})

describe('Names of dtypes in other libraries', () => {
  it.each([
    ['float', 'float32'],
    ['double', 'float64'],
    ['half', 'float16'],
    ['long', 'int64'],
    ['int', 'int32'],
    ['short', 'int16'],
    ['byte', 'uint8'],
    ['torch.float32', 'float32'],
    ['Float32', 'float32'],
    ['flaot64', 'float64'],
  ])('%s is answered with %s', (name, meant) => {
    const dtype = name as DType
    expectError(() => zeros([1], { dtype }), 'ERR_DTYPE', new RegExp(`got "${name}"; did you mean "${meant}"\\?$`))
    expectError(() => zeros([1]).to(dtype), 'ERR_DEVICE', new RegExp(`got "${name}"; among dtypes, .* "${meant}"$`))
  }) // prettier-ignore

  it('are not looked for in a device', () => {
    expect(() => zeros([1]).to('gpu')).toThrow(/got "gpu"$/)
  })
})
