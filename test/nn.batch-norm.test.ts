/** Batch norm with the sum and the activation that follow it, against the same by single operators. */
import { describe, expect, test } from 'vitest'
import {
  arange,
  captureFeatures,
  grad,
  manualSeed,
  models,
  nn,
  noGrad,
  randn,
  scope,
  slice,
  tensor,
  torch,
  zeros,
  type DType,
  type Tensor,
} from 'alambic'
import { Activation } from '../lib/native/contract.js'
import { native } from '../lib/native/loader.js'

const { none, relu, relu6 } = Activation

interface Case {
  shape: readonly [number, number, number, number]
  dtype: DType
  memoryFormat: 'contiguous' | 'channelsLast'
  activation: Activation
  adds: boolean
}

const shapes = [
  [2, 1, 3, 5], // one channel
  [3, 7, 5, 3], // odd sizes
  [4, 16, 32, 32],
  [2, 300, 3, 3], // more channels than a row has columns
  [1, 5, 31, 37],
  [64, 3, 1, 1], // no space
  [5, 600, 1, 2], // small planes, more than a task takes
  [40, 37, 3, 3],
  [70, 1100, 1, 1], // many channels without space
  [3, 11, 8, 8], // the smallest planes that are taken by themselves
] as const

const tolerances: Partial<Record<DType, number>> = { float64: 1e-12, float32: 2e-5, bfloat16: 4e-2 }

const cases: Case[] = shapes.flatMap(shape =>
  (['float64', 'float32', 'bfloat16'] as const).flatMap(dtype =>
    (['contiguous', 'channelsLast'] as const).flatMap(memoryFormat =>
      [relu, relu6, none].flatMap(activation =>
        (activation === none ? [true] : [false, true]).map(adds => ({
          shape,
          dtype,
          memoryFormat,
          activation,
          adds,
        })),
      ),
    ),
  ),
)

function activate(x: Tensor, activation: Activation): Tensor {
  if (activation === none) return x
  return activation === relu ? x.relu() : torch.relu6(x)
}

/** The definition, in float64. */
function byOperators(norm: nn.BatchNorm2d, x: Tensor, added: Tensor | null, activation: Activation): Tensor {
  const normalized = norm.forward(x)
  return activate(added === null ? normalized : normalized.add(added), activation)
}

function makeNorm(channels: number, dtype: DType): nn.BatchNorm2d {
  const norm = new nn.BatchNorm2d(channels, { dtype })
  noGrad(() => {
    norm.weight!.uniform_({ from: 0.5, to: 1.5 })
    norm.bias!.uniform_({ from: -1, to: 1 })
    norm.running_mean!.uniform_({ from: -1, to: 1 })
    norm.running_var!.uniform_({ from: 0.5, to: 2 })
  })
  return norm
}

function twin(norm: nn.BatchNorm2d): nn.BatchNorm2d {
  const other = new nn.BatchNorm2d(norm.numFeatures, { dtype: 'float64' })
  other.loadStateDict(norm.stateDict())
  return other.train(norm.training)
}

/** How far apart, relative to the largest value. */
function difference(actual: Tensor, expected: Tensor): number {
  return noGrad(() => {
    const scale = Math.max(1, expected.abs().max().item())
    return actual.to('float64').sub(expected).abs().max().item() / scale
  })
}

const leaf = (t: Tensor) => Object.assign(t.detach(), { requiresGrad: true })

function inputsOf({ shape, dtype, memoryFormat, adds }: Case) {
  const make = () => randn(shape).mul(2).add(3).to(dtype).contiguous({ memoryFormat })
  return { x: make(), added: adds ? make().sub(3) : null, gradient: make() }
}

describe('training', () => {
  test.each(cases)('$shape $dtype $memoryFormat, activation $activation, adds $adds', each => {
    manualSeed(1)
    scope(() => {
      const { dtype, activation } = each
      const { x, added, gradient } = inputsOf(each)
      // As within autocast: parameters are float32 where features are bfloat16.
      const norm = makeNorm(each.shape[1], dtype === 'float64' ? 'float64' : 'float32')
      const reference = twin(norm)

      const inputs = [leaf(x), ...(added ? [leaf(added)] : [])]
      const wide = inputs.map(input => leaf(input.detach().to('float64')))
      const output = norm.forwardActivated(inputs[0]!, inputs[1] ?? null, activation)
      const expected = byOperators(reference, wide[0]!, wide[1] ?? null, activation)
      const tolerance = tolerances[dtype]!
      expect(output.dtype).toBe(dtype)
      expect(output.isContiguous({ memoryFormat: each.memoryFormat })).toBe(true)
      expect(difference(output, expected)).toBeLessThan(tolerance)
      expect(difference(norm.running_mean!, reference.running_mean!)).toBeLessThan(tolerance)
      expect(difference(norm.running_var!, reference.running_var!)).toBeLessThan(tolerance)
      expect(norm.num_batches_tracked!.item()).toBe(1)

      // Where rounding decides whether the activation passes a gradient, there is nothing to compare.
      const near = (bound: number) => expected.sub(bound).abs().lt(0.05)
      const undecided = activation === none ? expected.lt(-1e9) : near(0).logicalOr(near(6))
      const masked = gradient.detach().maskedFill(undecided, 0)
      output.backward({ gradient: masked })
      expected.backward({ gradient: masked.to('float64') })
      inputs.forEach((input, i) => expect(difference(input.grad!, wide[i]!.grad!)).toBeLessThan(tolerance))
      for (const name of ['weight', 'bias'] as const)
        expect(difference(norm[name]!.grad!, reference[name]!.grad!)).toBeLessThan(tolerance)
    })
  })

  test('gradients can be differentiated themselves', () => {
    manualSeed(2)
    scope(() => {
      const [x, added] = [leaf(randn([3, 4, 5, 5], { dtype: 'float64' })), leaf(randn([3, 4, 5, 5], { dtype: 'float64' }))] // prettier-ignore
      const norm = makeNorm(4, 'float64')
      const second = (output: Tensor) => {
        const leaves = [x, added, norm.weight!]
        const first = grad([output.pow(2).sum()], leaves, { createGraph: true })
        const sum = first.map(each => each.pow(3).sum()).reduce((a, b) => a.add(b))
        return grad([sum], leaves)
      }
      const actual = second(norm.forwardActivated(x, added, relu))
      const expected = second(byOperators(norm, x, added, relu))
      actual.forEach((each, i) => expect(difference(each, expected[i]!)).toBeLessThan(1e-9))
    })
  })

  test('does not depend on the number of threads', () => {
    const threads = native.numThreads()
    const run = (count: number) => {
      native.setNumThreads(count)
      manualSeed(3)
      const norm = makeNorm(32, 'float32')
      const x = leaf(randn([16, 32, 20, 20]).contiguous({ memoryFormat: 'channelsLast' }))
      const output = norm.forwardActivated(x, null, relu)
      output.backward({ gradient: randn([16, 32, 20, 20]) })
      return [output, x.grad!, norm.weight!.grad!, norm.running_var!]
    }
    try {
      const [one, two] = [run(1), run(2)]
      one.forEach((each, i) => expect(each.equal(two[i]!)).toBe(true))
    } finally {
      native.setNumThreads(threads)
    }
  })

  test('a large mean takes no digits from the variance', () => {
    manualSeed(4)
    const values = randn([8, 4, 16, 16], { dtype: 'float64' })
    const x = values.add(1000).to('float32')
    const norm = new nn.BatchNorm2d(4)
    const expected = new nn.BatchNorm2d(4, { dtype: 'float64' }).forward(x.to('float64')).relu()
    expect(difference(norm.forwardActivated(x, null, relu), expected)).toBeLessThan(1e-4)
  })

  // (samples, channels, height, width), the values of a channel, and how far from those of libtorch in float64.
  const hard: [string, readonly number[], (x: Tensor) => Tensor][] = [
    ['normal numbers', [64, 2, 64, 64], x => x],
    ['a first value far from the mean', [16, 2, 256, 256], x => withFirst(x.add(100), 0)],
    ['a first sample far from the others', [32, 3, 24, 24], x => withFirstSample(x.add(1e4), -1e4)],
    ['an outlier', [64, 2, 64, 64], x => withFirst(x, 1e6)],
    ['an outlier at the end', [32, 3, 24, 24], x => withLast(x.add(3), -1e5)],
    ['a mean of 10⁵ deviations', [32, 2, 40, 40], x => x.add(1e5)],
    ['samples far from each other', [32, 2, 16, 16], x => x.add(arange(32).reshape([32, 1, 1, 1]).mul(100))],
    ['small planes', [512, 5, 3, 3], x => withFirst(x.add(1000), 0)],
    ['no space', [4096, 7, 1, 1], x => withFirst(x.add(1000), 0)],
    ['many channels', [512, 1100, 2, 1], x => withFirst(x.add(-50), 0)],
    ['equal numbers', [16, 3, 32, 32], x => x.mul(0).add(0.1)],
  ]
  const withFirst = (x: Tensor, value: number) => (x.at(0, slice(), 0, 0).fill_(value), x)
  const withLast = (x: Tensor, value: number) => (x.at(-1, slice(), -1, -1).fill_(value), x)
  const withFirstSample = (x: Tensor, value: number) => (x.at(0).add_(value), x)

  test.each(
    hard.flatMap(each => (['contiguous', 'channelsLast'] as const).map(format => [format, ...each] as const)),
  )('%s, %s: the statistics are those of float64', (memoryFormat, _, shape, change) => {
    manualSeed(12)
    scope(() => {
      const x = change(randn(shape)).contiguous({ memoryFormat })
      const channels = shape[1]!
      const norm = new nn.BatchNorm2d(channels, { momentum: 1, eps: 1e-12 })
      const reference = new nn.BatchNorm2d(channels, { momentum: 1, eps: 1e-12, dtype: 'float64' })
      const output = norm.forwardActivated(x, null, relu)
      const expected = reference.forward(x.to('float64')).relu()
      const off = (a: Tensor, b: Tensor) => a.to('float64').sub(b).abs().div(b.abs().add(1e-12)).max().item()
      expect(off(norm.running_var!, reference.running_var!)).toBeLessThan(1.2e-7)
      expect(off(norm.running_mean!, reference.running_mean!)).toBeLessThan(1e-6)
      if (reference.running_var!.min().item() > 1e-6) {
        // What float32 keeps of x is all that the output can know.
        const digits = x.abs().max().item() / Math.sqrt(reference.running_var!.min().item())
        expect(difference(output, expected)).toBeLessThan(3e-7 * Math.max(4, digits))
      }
    })
  })

  test('a large mean takes no digits from the gradients either', () => {
    manualSeed(13)
    for (const memoryFormat of ['contiguous', 'channelsLast'] as const)
      for (const size of [2, 16])
        scope(() => {
          const x = randn([64, 4, size, size]).add(3000.7).contiguous({ memoryFormat })
          const gradient = randn([64, 4, size, size]).add(5)
          const [norm, reference] = [new nn.BatchNorm2d(4), new nn.BatchNorm2d(4, { dtype: 'float64' })]
          const [input, wide] = [leaf(x), leaf(x.to('float64'))]
          norm.forwardActivated(input, zeros(x.shape), none).backward({ gradient })
          reference.forward(wide).backward({ gradient: gradient.to('float64') })
          expect(difference(norm.weight!.grad!, reference.weight!.grad!)).toBeLessThan(3e-6)
          expect(difference(input.grad!, wide.grad!)).toBeLessThan(1e-5)
        })
  })

  test('what is negative only by a bit is read as such', () => {
    manualSeed(14)
    for (const shape of [
      [3, 4, 5, 5],
      [8, 4, 2, 2],
    ])
      // prettier-ignore
      scope(() => {
        const [x, added, gradient] = [randn(shape), randn(shape), randn(shape)]
        const negated = (t: Tensor) => torch._negView(t.neg())
        const run = (change: (t: Tensor) => Tensor) => {
          const [a, b] = [leaf(x), leaf(added)]
          const norm = makeNorm(4, 'float32')
          noGrad(() => {
            for (const each of [norm.weight!, norm.bias!, norm.running_mean!, norm.running_var!]) each.fill_(0.5)
          })
          norm.weight = leaf(change(norm.weight!.detach()))
          const output = norm.forwardActivated(change(a), change(b), relu)
          output.backward({ gradient: change(gradient) })
          return [output, a.grad!, b.grad!, norm.weight.grad!, norm.running_var!, norm.eval().forwardActivated(change(x), change(added), relu)] // prettier-ignore
        }
        const expected = run(t => t)
        run(negated).forEach((each, i) => expect(difference(each, expected[i]!.to('float64'))).toBeLessThan(1e-6))
      })
  })

  test('the gradient of what depends on itself counts once', () => {
    manualSeed(15)
    scope(() => {
      const x = leaf(randn([3, 4, 3, 3], { dtype: 'float64' }))
      const norm = makeNorm(4, 'float64')
      const run = (forward: (x: Tensor, added: Tensor) => Tensor) => {
        const first = grad([forward(x, x.mul(x).add(1)).pow(2).sum()], [x], { createGraph: true })
        return [...first, ...grad([first[0]!.pow(3).sum()], [x])]
      }
      const actual = run((input, added) => norm.forwardActivated(input, added, relu))
      const expected = run((input, added) => byOperators(norm, input, added, relu))
      actual.forEach((each, i) => expect(difference(each, expected[i]!)).toBeLessThan(1e-9))
    })
  })

  test('a layer without parameters, and one that averages all batches', () => {
    manualSeed(5)
    const x = randn([4, 3, 6, 6])
    for (const options of [{ affine: false }, { momentum: null }, { trackRunningStats: false }]) {
      const [norm, reference] = [new nn.BatchNorm2d(3, options), new nn.BatchNorm2d(3, options)]
      for (let i = 0; i < 2; i++)
        expect(difference(norm.forwardActivated(x.add(i), null, relu), byOperators(reference, x.add(i), null, relu).to('float64'))).toBeLessThan(1e-5) // prettier-ignore
      if (norm.running_var)
        expect(difference(norm.running_var, reference.running_var!.to('float64'))).toBeLessThan(1e-5)
    }
  })

  test('NaN goes through, as through operators', () => {
    const x = tensor([[[[1, NaN], [2, 3]]], [[[0, 1], [2, 3]]]]) // prettier-ignore
    const output = new nn.BatchNorm2d(1).forwardActivated(x, null, relu)
    expect(output.isnan().all().item()).toBe(true)
    const norm = new nn.BatchNorm2d(1)
    norm.forwardActivated(x, null, relu)
    expect(norm.running_var!.item()).toBeNaN()
  })
})

describe('evaluation', () => {
  test.each(cases.filter(({ dtype }) => dtype === 'float32'))(
    '$shape $memoryFormat, activation $activation, adds $adds',
    each => {
      manualSeed(6)
      const { x, added } = inputsOf(each)
      const norm = makeNorm(each.shape[1], 'float32').eval()
      const wide = (t: Tensor | null) => t && t.to('float64')
      const expected = noGrad(() => byOperators(twin(norm), wide(x)!, wide(added), each.activation))
      const before = norm.running_var!.clone()
      expect(difference(noGrad(() => norm.forwardActivated(x, added, each.activation)), expected)).toBeLessThan(2e-5) // prettier-ignore
      // With gradients it is made of operators.
      const input = leaf(x)
      const output = norm.forwardActivated(input, added, each.activation)
      expect(difference(output, expected)).toBeLessThan(2e-5)
      output.sum().backward()
      expect(input.grad!.shape).toEqual([...each.shape])
      expect(norm.running_var!.equal(before)).toBe(true)
    },
  )
})

test('what is added may have another shape or dtype, as for add_', () => {
  manualSeed(7)
  const x = randn([2, 3, 4, 4])
  for (const added of [randn([3, 1, 1]), randn([2, 3, 4, 4], { dtype: 'float64' })]) {
    const output = new nn.BatchNorm2d(3).forwardActivated(x, added, relu)
    const expected = new nn.BatchNorm2d(3).forward(x).add_(added).relu_()
    expect(output.equal(expected)).toBe(true)
  }
})

test('wrong inputs are refused by the layer’s name', () => {
  const elsewhere = new nn.BatchNorm2d(3).to('meta')
  expect(() => elsewhere.forwardActivated(randn([2, 3, 5, 5]), null, relu)).toThrow(/^BatchNorm2d: /)
  expect(() => new nn.BatchNorm2d(3).forwardActivated(randn([2, 4, 5, 5]), null, relu)).toThrow(
    /^BatchNorm2d: /,
  )
})

describe('networks compute the same whether or not their batch norms are looked at', () => {
  const networks = {
    resnet20: () => models.resnet20(),
    resnet8x4: () => models.resnet8x4(),
    wrn_16_1: () => models.wrn_16_1(),
    mobilenetV2: () => models.mobilenetV2({ classes: 10, dropout: 0 }),
  }
  test.each(Object.entries(networks))('%s', (_, make) => {
    manualSeed(8)
    const model = make().to('float64')
    const x = randn([4, 3, 64, 64], { dtype: 'float64' })
    const norms = model
      .namedModules()
      .flatMap(([path, each]) => (each instanceof nn.BatchNorm2d ? [path] : []))
    for (const training of [true, false]) {
      model.train(training)
      const output = noGrad(() => model.forward(x))
      const seen = noGrad(() => captureFeatures(model, norms, x))
      expect(difference(output, seen.output)).toBeLessThan(1e-9)
      expect(Object.keys(seen.features)).toEqual(norms)
    }
  })
})

test('a network computes with the layers that were put into it', () => {
  manualSeed(10)
  const x = randn([2, 3, 16, 16])
  const model = models.resnet20B().eval()
  const expected = (norm: nn.Module<[Tensor], Tensor>, activation: nn.Module<[Tensor], Tensor>) => {
    const stem = activation.forward(norm.forward(model.conv1.forward(x)))
    const features = model.layer3.forward(model.layer2.forward(model.layer1.forward(stem)))
    return model.fc.forward(model.avgpool.forward(features).flatten({ startDim: 1 }))
  }
  class Doubled extends nn.BatchNorm2d {
    override forward(input: Tensor): Tensor {
      return super.forward(input).mul(2)
    }
  }
  noGrad(() => {
    const { bn1: norm, relu: activation } = model
    for (const bn1 of [new nn.GroupNorm(4, 16), new Doubled(16).eval()]) {
      Object.assign(model, { bn1 })
      expect(model.forward(x).equal(expected(bn1, activation))).toBe(true)
    }
    const relu = new nn.SiLU({ inplace: true })
    Object.assign(model, { bn1: norm, relu })
    expect(difference(model.forward(x), expected(norm, relu).to('float64'))).toBeLessThan(1e-5)
  })
})
