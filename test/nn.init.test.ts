/** Initial values: PyTorch's numbers under the version that drew the reference, its distributions under any. */
import { describe, expect, test } from 'vitest'
import { Generator, manualSeed, nn, rand, randn, torch, zeros, full, type Tensor } from '../lib/index.js'
import {
  drawsAsReference,
  errorOf,
  expectClose,
  expectSame,
  pattern,
  reference,
  torchVersion,
} from './nn.fixtures.js'

const { init } = nn
type Init = (tensor: Tensor, options: object) => Tensor
type LayerClass = new (...args: unknown[]) => nn.Module<[Tensor], Tensor>

const layerClasses = nn as unknown as Record<string, LayerClass>
const because = drawsAsReference
  ? ''
  : ` (skipped: libtorch ${torchVersion} draws otherwise than ${reference.torch})`

describe.skipIf(!drawsAsReference)(
  `the same seed gives the numbers of PyTorch, bit for bit${because}`,
  () => {
    const { layers, inits, dropouts } = reference.drawn

    test.each(
      layers.map(each => [`${each.layer}(${JSON.stringify([...each.args, each.options])})`, each] as const),
    )('%s', (_, { layer, args, options, state, next }) => {
      manualSeed(7)
      const module = new layerClasses[layer]!(...args, options)
      const parameters = module.namedParameters()
      expect(parameters.map(([name]) => name)).toEqual(Object.keys(state))
      for (const [name, parameter] of parameters) expectSame(parameter, state[name]!, name)
      expect(rand([1]).item()).toBe(next)
    })

    test.each(
      inits.map(
        each =>
          [`${each.init}(${JSON.stringify(each.shape)}, ${JSON.stringify(each.options)})`, each] as const,
      ),
    )('%s', (_, { init: name, shape, options, dtype, result, next }) => {
      manualSeed(11)
      const tensor = full(shape, 0.25, { dtype })
      expect((init as unknown as Record<string, Init>)[name]!(tensor, options)).toBe(tensor)
      expectSame(tensor, result, name)
      expect(rand([1]).item()).toBe(next)
    })

    test.each(dropouts)('$layer($p)', ({ layer, p, input, output }) => {
      manualSeed(13)
      expectSame(new nn[layer](p).forward(pattern(input, 1).cpu()), output, layer)
    })
  },
)

describe('the distributions are those of PyTorch', () => {
  const std = (tensor: Tensor) => tensor.std().item()
  const range = (tensor: Tensor) => [tensor.min().item(), tensor.max().item()] as const

  test('weights of Conv2d and Linear are uniform in one over the square root of the fan-in', () => {
    manualSeed(1)
    const conv = new nn.Conv2d(16, 64, 3)
    const linear = new nn.Linear(144, 64)
    for (const weight of [conv.weight, linear.weight, conv.bias!, linear.bias!]) {
      const [least, most] = range(weight)
      expect(least).toBeGreaterThanOrEqual(-1 / 12)
      expect(most).toBeLessThanOrEqual(1 / 12)
      expect(most - least).toBeGreaterThan(0.9 / 6)
    }
    expect(std(conv.weight)).toBeCloseTo(1 / 12 / Math.sqrt(3), 3)
  })

  test('kaimingNormal_ and xavierNormal_ have the standard deviation of their formulas', () => {
    manualSeed(2)
    const weight = zeros([200, 50, 2]) // fan-in 100, fan-out 400
    const expectStd = (tensor: Tensor, wanted: number) => {
      expect(std(tensor) / wanted).toBeGreaterThan(0.97)
      expect(std(tensor) / wanted).toBeLessThan(1.03)
    }
    expectStd(init.kaimingNormal_(weight), Math.sqrt(2 / 100))
    expectStd(init.kaimingNormal_(weight, { mode: 'fanOut', nonlinearity: 'linear' }), Math.sqrt(1 / 400))
    expectStd(init.xavierNormal_(weight), Math.sqrt(2 / 500))
  })

  test('truncNormal_ stays between its bounds, near the mean and in the tail', () => {
    manualSeed(3)
    for (const [a, b] of [
      [-0.5, 1],
      [2, 3],
    ] as const) {
      const [least, most] = range(init.truncNormal_(zeros([50, 50]), { a, b }))
      expect(least).toBeGreaterThanOrEqual(a)
      expect(most).toBeLessThanOrEqual(b)
      expect(most - least).toBeGreaterThan(0.9 * (b - a))
    }
  })

  test.each([[[5, 3]], [[3, 5]], [[4, 2, 3]]])(
    'orthogonal_ of shape %j has orthonormal rows or columns',
    shape => {
      manualSeed(4)
      const q = init.orthogonal_(zeros(shape, { dtype: 'float64' }), { gain: 2 }).reshape([shape[0]!, -1])
      const gram = q.size(0) < q.size(1) ? q.matmul(q.t()) : q.t().matmul(q)
      const wanted = torch.eye(gram.size(0), { dtype: 'float64' }).mul(4)
      expect(gram.sub(wanted).abs().max().item()).toBeLessThan(1e-12)
    },
  )

  test('a generator of its own leaves the default one alone', () => {
    const draw = () => init.normal_(zeros([4]), { generator: new Generator(5) }).tolist()
    manualSeed(6)
    const next = rand([1]).item()
    manualSeed(6)
    const first = draw()
    expect(rand([1]).item()).toBe(next)
    expect(draw()).toEqual(first)
  })
})

test('constants', () => {
  expect(init.constant_(zeros([2]), 3).tolist()).toEqual([3, 3])
  expect(init.ones_(zeros([2])).tolist()).toEqual([1, 1])
  expect(init.zeros_(randn([2])).tolist()).toEqual([0, 0])
})

test('filling records no gradient and keeps the parameter a leaf', () => {
  const parameter = new nn.Parameter(zeros([3, 3]))
  init.kaimingUniform_(parameter)
  expect(parameter.isLeaf).toBe(true)
  expect(parameter.requiresGrad).toBe(true)
})

test('calculateGain knows the nonlinearities of PyTorch', () => {
  expect(init.calculateGain('linear')).toBe(1)
  expect(init.calculateGain('tanh')).toBe(5 / 3)
  expect(init.calculateGain('relu')).toBe(Math.sqrt(2))
  expect(init.calculateGain('leakyRelu')).toBe(Math.sqrt(2 / (1 + 0.01 ** 2)))
  expect(init.calculateGain('leakyRelu', 0.2)).toBe(Math.sqrt(2 / (1 + 0.2 ** 2)))
  expect(init.calculateGain('selu')).toBe(0.75)
  expect(errorOf(() => init.calculateGain('swish' as 'relu')).code).toBe('ERR_ARGUMENT')
})

test('fans need two dimensions, and modes are named', () => {
  const error = errorOf(() => init.xavierUniform_(zeros([3])))
  expect([error.code, error.message]).toEqual([
    'ERR_SHAPE_MISMATCH',
    'xavierUniform_: expected a tensor with at least 2 dimensions (out, in, …), got (3)',
  ])
  expect(errorOf(() => init.kaimingNormal_(zeros([3, 3]), { mode: 'fan_in' as 'fanIn' })).code).toBe(
    'ERR_ARGUMENT',
  )
  expect(errorOf(() => init.truncNormal_(zeros([3]), { a: 1, b: 1 })).code).toBe('ERR_ARGUMENT')
})

test('batch norm begins with weight 1, bias 0 and no batch seen, and can begin again', () => {
  const norm = new nn.BatchNorm2d(2)
  const fresh = Object.entries(norm.stateDict()).map(([name, value]) => [name, value.tolist()])
  expect(fresh).toEqual([
    ['weight', [1, 1]],
    ['bias', [0, 0]],
    ['running_mean', [0, 0]],
    ['running_var', [1, 1]],
    ['num_batches_tracked', 0],
  ])
  norm.forward(randn([3, 2, 2, 2]))
  expect(norm.num_batches_tracked!.item()).toBe(1)
  norm.resetParameters()
  expect(Object.entries(norm.stateDict()).map(([name, value]) => [name, value.tolist()])).toEqual(fresh)
})

test('the row of paddingIdx begins as zeros', () => {
  const { weight } = new nn.Embedding(4, 3, { paddingIdx: -2 })
  expect(weight.at(2).tolist()).toEqual([0, 0, 0])
  expect(weight.at(1).abs().min().item()).toBeGreaterThan(0)
  expectClose(weight.at(2), { shape: [3], values: [0, 0, 0] }, 'padding row')
})
