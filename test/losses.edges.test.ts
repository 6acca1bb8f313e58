/** The losses at the edges: inputs that depend on each other, infinities, parts without weight, several dtypes, long sums. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  Generator,
  LogitsDistillationLoss,
  autocast,
  data,
  grad,
  methods,
  nn,
  scope,
  torch,
  trainWithFeatureDistillation,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { codeOf } from './codes.js'
import { multipliesHalves } from './nn.fixtures.js'
import { device, fromTypedArray, full, isOnGpu, randn, tensor, zeros } from './device.js'

interface StoredTensor {
  shape: number[]
  values: number[]
}

/** JSON has no infinity. */
type StoredNumber = number | string

interface Dependence {
  title: string
  kind: Kind
  leaves: [StoredTensor, StoredTensor]
  loss: number
  first: StoredTensor[]
  second: StoredTensor[]
}

interface LogitsCase {
  name: string
  student: StoredNumber[][]
  teacher: StoredNumber[][]
  labels: number[]
  temperature: number
  alpha: number
  expected: { total: StoredNumber; logits: StoredNumber; classification: StoredNumber }
  gradient: StoredNumber[][] | null
}

const reference = JSON.parse(
  readFileSync(new URL('reference/losses_edges.json', import.meta.url), 'utf8'),
) as { dependences: Dependence[]; logits: LogitsCase[] }

type Kind = 'mse' | 'cosine' | 'attention' | 'pooled attention'
const kinds: Kind[] = ['mse', 'cosine', 'attention']

type Options = { alpha?: number; weights?: number[] }

function makeLoss(kind: Kind, options: Options = {}): FeatureDistillationLoss | AttentionTransfer {
  return kind === 'mse' || kind === 'cosine'
    ? new FeatureDistillationLoss({ ...options, criterion: kind })
    : new AttentionTransfer({ ...options, pool: kind === 'pooled attention' })
}

interface Parts {
  total: Tensor
  distillation: Tensor
  classification: Tensor
}

function partsOf(kind: Kind, students: Tensor[], teachers: Tensor[], options: Options = {}): Parts {
  const count = students[0]!.size(0)
  const parts = makeLoss(kind, options).forward(
    students,
    teachers,
    zeros([count, 2]),
    zeros([count], { dtype: 'int64' }),
  ) as { total: Tensor; classification: Tensor; feature?: Tensor; attention?: Tensor }
  return { ...parts, distillation: (parts.feature ?? parts.attention)! }
}

const distance = (kind: Kind, s: Tensor, t: Tensor) => partsOf(kind, [s], [t]).distillation

const leaf = (t: Tensor) => Object.assign(t.detach(), { requiresGrad: true })
const numbersOf = (t: Tensor) => Array.from(t.to('float64').toTypedArray() as Float64Array)
const isFinite = (t: Tensor) => t.isfinite().all().item() as unknown as boolean

function expectNear(actual: Tensor | number, expected: readonly number[] | number, tolerance: number): void {
  const got = typeof actual === 'number' ? [actual] : numbersOf(actual)
  const wanted = typeof expected === 'number' ? [expected] : expected
  expect(got).toHaveLength(wanted.length)
  const scale = Math.max(...wanted.map(Math.abs), 1e-300)
  const worst = Math.max(...got.map((value, i) => Math.abs(value - wanted[i]!)))
  // Where nothing is left, rounding is.
  expect(worst, `${String(got.slice(0, 8))} for ${String(wanted.slice(0, 8))}`).toBeLessThanOrEqual(
    tolerance * scale + 1e-15,
  )
}

// ---- Features that depend on each other ----------------------------------------------------------------------------------

describe('gradients of gradients', () => {
  const made: Record<string, (a: Tensor, b: Tensor) => [Tensor, Tensor]> = {
    'the teacher depends on the student': (a, b) => [a, a.mul(a).add(1).add(b.mul(0))],
    'the student depends on the teacher': (a, b) => [b.exp().add(a.mul(0)), b],
    'both depend on both': (a, b) => [a.mul(b).add(1), a.sub(b.mul(b))],
    'the teacher is the student': (a, b) => {
      const both = a.add(b.mul(0))
      return [both, both]
    },
  }

  test.each(reference.dependences.map(each => [each.title, each.kind, each] as const))(
    '%s, %s: each way of an input into the loss counts once',
    (title, kind, { leaves, loss, first, second }) => {
      scope(() => {
        const [a, b] = leaves.map(({ shape, values }) =>
          leaf(fromTypedArray(Float64Array.from(values), shape)),
        )
        const value = distance(kind, ...made[title]!(a!, b!))
        expectNear(value.item(), loss, 1e-12)
        const plain = grad(value, [a!, b!], { retainGraph: true })
        const gradients = grad(value, [a!, b!], { createGraph: true })
        const cubes = gradients.map(each => each.pow(3).sum())
        const again = grad(cubes[0]!.add(cubes[1]!), [a!, b!])
        first.forEach(({ values }, i) => {
          expectNear(plain[i]!, values, 1e-10)
          expectNear(gradients[i]!, values, 1e-10)
        })
        second.forEach(({ values }, i) => {
          expectNear(again[i]!, values, 1e-9)
        })
      })
    },
  )

  test('a teacher whose own gradient is not asked for is still differentiated through', () => {
    const [s, t] = [
      leaf(tensor([[1, 2]], { dtype: 'float64' })),
      leaf(tensor([[3, 5]], { dtype: 'float64' })),
    ]
    const [first] = grad(distance('mse', s, t), [s], { createGraph: true }) // s - t
    expect(grad(first!.sum(), [t])[0]!.tolist()).toEqual([[-1, -1]])
  })
})

// ---- Logits --------------------------------------------------------------------------------------------------------------

describe('logits', () => {
  const toTensor = (rows: StoredNumber[][], dtype: DType) =>
    tensor(
      rows.map(row => row.map(value => (typeof value === 'string' ? -Infinity : value))),
      { dtype },
    )

  const withDtypes = reference.logits.flatMap(each =>
    (['float64', 'float32'] as const).map(dtype => [each.name, dtype, each] as const),
  )
  test.each(withDtypes)('%s, in %s', (_, dtype, each) => {
    const student = leaf(toTensor(each.student, dtype))
    const teacher = leaf(toTensor(each.teacher, dtype))
    const loss = new LogitsDistillationLoss({ temperature: each.temperature, alpha: each.alpha })
    const parts = loss.forward(student, teacher, tensor(each.labels, { dtype: 'int64' }))
    const tolerance = dtype === 'float64' ? 1e-12 : 5e-6
    for (const part of ['total', 'logits', 'classification'] as const) {
      const expected = each.expected[part]
      if (typeof expected === 'string') expect(parts[part].item()).toBe(Infinity)
      else expectNear(parts[part].item(), expected, tolerance)
    }
    parts.total.backward()
    expect(isFinite(student.grad!)).toBe(true)
    if (each.gradient) {
      expectNear(student.grad!, each.gradient.flat() as number[], tolerance)
      expect(isFinite(teacher.grad!)).toBe(true)
    }
  })

  test('what the student rules out is an infinite loss even where the teacher’s probability is too small a number', () => {
    const loss = new LogitsDistillationLoss({ temperature: 1, alpha: 1 })
    const labels = tensor([0], { dtype: 'int64' })
    const { total } = loss.forward(tensor([[0, -Infinity]]), tensor([[0, -300]]), labels)
    expect(total.item()).toBe(Infinity)
  })

  describe('logits that are masked by the smallest number of a dtype', () => {
    const smallest = {
      float64: -Number.MAX_VALUE,
      float32: -3.4028234663852886e38,
      bfloat16: -3.3895313892515355e38,
      float16: -65504,
    }
    type Float = keyof typeof smallest
    const value = (student: number[], teacher: number[], temperature: number, dtype: Float = 'float32') => {
      const [s, t] = [student, teacher].map(row => leaf(tensor([row], { dtype }))) as [Tensor, Tensor]
      const loss = new LogitsDistillationLoss({ temperature, alpha: 1 })
      const { logits } = loss.forward(s, t, tensor([0n]))
      logits.backward()
      expect(isFinite(s.grad!)).toBe(true)
      return logits.item()
    }

    const values = [[1, 0.16147503], [2, 0.93014909], [4, 4.81401493]] as const // prettier-ignore
    const cases = (Object.keys(smallest) as Float[]).flatMap(dtype =>
      values.map(([temperature, expected]) => [dtype, temperature, expected] as const),
    )
    test.each(cases)('the teacher’s, in %s, at T = %d', (dtype, temperature, expected) => {
      const loss = value([1, 0, -1], [2, 0, smallest[dtype]], temperature, dtype)
      expectNear(loss, expected, dtype === 'float64' ? 1e-7 : 1e-5)
    })

    test.each([[1, 0.06713075], [2, 0.10537834], [4, 0.11963629]])('the student’s, at T = %d', (temperature, expected) => {
      for (const [mask, other] of [[smallest.float32, -1e4], [-1e37, -1e37], [smallest.float32, smallest.float32]] as const)
        expectNear(value([1, 0, mask], [2, 0, other], temperature), expected, 2e-6)
    }) // prettier-ignore

    test('the teacher’s beside a student that rules the class out', () => {
      expectNear(value([1, 0, -Infinity], [2, 0, smallest.float32], 1), 0.06713075, 2e-6)
    })

    test('is a loss by what the teacher holds possible', () => {
      const loss = value([0, smallest.float32], [0, -80], 1)
      expect(loss / (Math.exp(-80) * -smallest.float32)).toBeCloseTo(1, 4)
    })
  })

  test('a sample of which both rule out all classes counts nothing, and has no gradient', () => {
    const student = leaf(tensor([[-Infinity, -Infinity], [1, 0]])) // prettier-ignore
    const teacher = leaf(tensor([[-Infinity, -Infinity], [0, 2]])) // prettier-ignore
    const labels = tensor([0, 0], { dtype: 'int64' })
    for (const temperature of [1, 4]) {
      const loss = new LogitsDistillationLoss({ temperature, alpha: 1 })
      const { total } = loss.forward(student, teacher, labels)
      const alone = loss.forward(student.narrow(0, 1, 1), teacher.narrow(0, 1, 1), labels.narrow(0, 1, 1))
      expectNear(total, alone.total.item() / 2, 1e-6)
      const gradients = grad(total, [student, teacher], { retainGraph: true })
      const expected = grad(alone.total, [student, teacher])
      gradients.forEach((each, i) => expectNear(each, numbersOf(expected[i]!.mul(0.5)), 1e-6))
    }
  })

  test('gradients can be differentiated where the teacher rules out a class', () => {
    const student = leaf(tensor([[1, 0, -1]], { dtype: 'float64' }))
    const teacher = tensor([[2, 0, -Infinity]], { dtype: 'float64' })
    const loss = new LogitsDistillationLoss({ temperature: 2, alpha: 1 })
    const { total } = loss.forward(student, teacher, tensor([0], { dtype: 'int64' }))
    const [first] = grad(total, [student], { createGraph: true })
    expect(isFinite(grad(first!.square().sum(), [student])[0]!)).toBe(true)
  })

  test('logits of two dtypes are compared in the wider one', () => {
    const loss = new LogitsDistillationLoss({ temperature: 1, alpha: 1 })
    const student = tensor([[0, 1]], { dtype: 'float16' })
    const teacher = tensor([[0, 70000]]) // no number of float16
    const { total } = loss.forward(student, teacher, tensor([0], { dtype: 'int64' }))
    expectNear(total.item(), Math.log1p(Math.exp(-1)), 1e-6)
    const exact = loss.forward(student, teacher.to('float64'), tensor([0], { dtype: 'int64' })).logits
    expect(exact.dtype).toBe('float64')
  })
})

// ---- Parts without weight ------------------------------------------------------------------------------------------------

describe('what has no weight is no part of the total, nor of its gradients', () => {
  const ignored = (count: number) => full([count], -100, { dtype: 'int64' })

  test('alpha 1: the classification, of labels that are all ignored', () => {
    const [student, logits] = [leaf(tensor([[1, 2]])), leaf(zeros([1, 2]))]
    const loss = new FeatureDistillationLoss({ alpha: 1 })
    const { total, feature, classification } = loss.forward([student], [zeros([1, 2])], logits, ignored(1))
    expect(total.item()).toBe(2.5)
    expect(feature.item()).toBe(2.5)
    expect(classification.item()).toBeNaN() // shown as it is
    total.backward()
    expect(student.grad!.tolist()).toEqual([[1, 2]])
    expect(logits.grad).toBeNull()
  })

  test.each(kinds)('alpha 0: %s of an infinite feature', kind => {
    const [student, logits] = [leaf(full([2, 3, 2, 2], Infinity)), leaf(zeros([2, 2]))]
    const labels = zeros([2], { dtype: 'int64' })
    const parts = makeLoss(kind, { alpha: 0 }).forward([student], [zeros([2, 3, 2, 2])], logits, labels)
    expectNear(parts.total.item(), Math.log(2), 1e-6)
    parts.total.backward()
    expect(student.grad).toBeNull()
    expect(logits.grad!.tolist()).toEqual([[-0.25, 0.25], [-0.25, 0.25]]) // prettier-ignore
  })

  test('alpha 0 and 1: logits', () => {
    const teacher = tensor([[NaN, 0]])
    const student = leaf(zeros([1, 2]))
    const one = new LogitsDistillationLoss({ alpha: 0 }).forward(
      student,
      teacher,
      zeros([1], { dtype: 'int64' }),
    )
    expectNear(one.total.item(), Math.log(2), 1e-6)
    one.total.backward()
    expect(student.grad!.tolist()).toEqual([[-0.5, 0.5]])
    const other = new LogitsDistillationLoss({ alpha: 1 }).forward(student, zeros([1, 2]), ignored(1))
    expect(other.total.item()).toBe(0)
  })

  test.each(kinds)('weights: a level of %s without weight', kind => {
    const generator = new Generator(3)
    const [s, t] = [0, 1].map(() => randn([2, 3, 4, 4], { generator }))
    const [broken, student] = [leaf(full([2, 3, 2, 2], NaN)), leaf(s!)]
    const parts = partsOf(kind, [student, broken], [t!, zeros([2, 3, 2, 2])], { weights: [2, 0] })
    expect(parts.distillation.item()).toBe(distance(kind, s!, t!).item())
    parts.total.backward()
    expect(isFinite(student.grad!)).toBe(true)
    expect(broken.grad).toBeNull()
  })

  test('a level without weight is still checked', () => {
    const features = zeros([2, 3, 4, 4])
    for (const kind of kinds)
      expect(() =>
        partsOf(kind, [features, features], [features, zeros([1, 3, 4, 4])], { weights: [1, 0] }),
      ).toThrow(/level 1: expected one batch size/)
  })

  test('the total is a tensor of its own', () => {
    for (const alpha of [0, 1]) {
      const parts = partsOf('mse', [full([1, 2], 3)], [zeros([1, 2])], { alpha })
      parts.total.mul_(0)
      expect(parts.distillation.item()).toBe(9)
      expectNear(parts.classification.item(), Math.log(2), 1e-6)
    }
  })

  class Infinite extends nn.Module<[Tensor], Tensor> {
    forward(x: Tensor): Tensor {
      return x.mul(Infinity)
    }
  }
  class Net extends nn.Module<[Tensor], Tensor> {
    middle = new nn.Linear(4, 4)
    infinite = new Infinite()
    head = new nn.Linear(4, 2)
    forward(x: Tensor): Tensor {
      const features = this.middle.forward(x)
      this.infinite.forward(features)
      return this.head.forward(features)
    }
  }

  describe.each([false, true])('in a training loop, compiled: %s', compile => {
    const train = async (labels: Tensor, layer: string, alpha: number, weights?: number[]) => {
      const [teacher, student] = [new Net().to(device), new Net().to(device)]
      const loader = new data.DataLoader(
        new data.TensorDataset(randn([24, 4], { device: 'cpu' }).add(1), labels.to('cpu')),
        { batchSize: 4 },
      )
      const { history, compilation } = await trainWithFeatureDistillation(teacher, student, loader, null, {
        featureLayers: weights ? ['middle', layer] : [layer],
        loss: new FeatureDistillationLoss({ alpha, weights }),
        adapt: 'none',
        epochs: 2,
        log: null,
        compile,
      })
      if (compile) expect(compilation!.steps).toBeGreaterThan(0)
      for (const parameter of student.parameters()) expect(isFinite(parameter)).toBe(true)
      return history.at(-1)!
    }

    test('alpha 1 without any label', async () => {
      const { loss, parts } = await train(ignored(24), 'middle', 1)
      expect(loss).toBe(parts['feature'])
      expect(parts['classification']).toBeNaN()
    })

    test('alpha 0 beside an infinite feature', async () => {
      const { loss, parts } = await train(zeros([24], { dtype: 'int64' }), 'infinite', 0)
      expect(loss).toBe(parts['classification'])
      expect(loss).toBeLessThan(2)
    })

    test('an infinite feature at a level without weight', async () => {
      const { loss } = await train(zeros([24], { dtype: 'int64' }), 'infinite', 0.5, [1, 0])
      expect(loss).toBeLessThan(100)
    })
  })
})

// ---- Dtypes and memory ---------------------------------------------------------------------------------------------------

describe('features of two dtypes are compared in the wider one', () => {
  test('float16 and float32: nothing is narrowed', () => {
    const s = leaf(full([1, 2], 60000, { dtype: 'float16' }))
    const value = distance('mse', s, full([1, 2], 70000))
    expect(value.item()).toBe(1e8)
    expect(value.dtype).toBe('float32')
    value.backward()
    expect(s.grad!.dtype).toBe('float16')
    expect(s.grad!.tolist()).toEqual([[-10000, -10000]])
    expect(distance('mse', full([1, 2], 70000), full([1, 2], 60000, { dtype: 'float16' })).item()).toBe(1e8)
  })

  const pairs: [DType, DType, DType][] = [
    ['float16', 'bfloat16', 'float32'],
    ['bfloat16', 'float32', 'float32'],
    ['float32', 'float64', 'float64'],
    ['float64', 'float16', 'float64'],
  ]
  test.each(kinds.flatMap(kind => pairs.map(pair => [kind, ...pair] as const)))(
    '%s: %s and %s in %s',
    (kind, one, other, expected) => {
      scope(() => {
        const generator = new Generator(4)
        const values = [one, other].map(dtype => randn([2, 3, 4, 5], { generator }).to(dtype))
        const wide = values.map(each => leaf(each.to('float64')))
        const leaves = values.map(leaf)
        const actual = distance(kind, leaves[0]!, leaves[1]!)
        const reference = distance(kind, wide[0]!, wide[1]!)
        expect(actual.dtype).toBe(expected)
        // Attention compares maps, each of which has the precision of its own feature.
        const isExact = expected === 'float64' && kind !== 'attention'
        expectNear(actual, reference.item(), isExact ? 1e-12 : 1e-5)
        actual.backward()
        reference.backward()
        leaves.forEach((each, i) => {
          const tolerance = { float64: isExact ? 1e-12 : 1e-5, float32: 1e-5, float16: 2e-3, bfloat16: 1e-2 }[
            each.dtype as 'float32'
          ]
          expect(each.grad!.dtype).toBe(each.dtype)
          expectNear(each.grad!, numbersOf(wide[i]!.grad!), tolerance)
        })
      })
    },
  )

  const pooledPairs: [DType, DType][] = [
    ['float32', 'bfloat16'],
    ['bfloat16', 'bfloat16'],
    ['float16', 'float16'],
    ['float16', 'float64'],
  ]
  test.each(
    [...kinds, 'pooled attention' as const].flatMap(kind =>
      pooledPairs.map(pair => [kind, ...pair] as const),
    ),
  )('%s: %s and %s are pooled in the wider one', (kind, one, other) => {
    const generator = new Generator(5)
    const sizes = [[2, 2], [6, 5]] // prettier-ignore
    const values = sizes.map((size, i) => randn([2, 3, ...size], { generator }).to([one, other][i]!))
    const compare = (s: Tensor, t: Tensor) =>
      kind === 'pooled attention'
        ? new AttentionTransfer({ pool: true }).forward([s], [t], zeros([2, 2]), zeros([2]).to('int64'))
            .attention
        : distance(kind, s, t)
    for (const [s, t] of [values, values.slice().reverse()]) {
      const [leaves, wide] = [[s!, t!].map(leaf), [s!, t!].map(each => leaf(each.to('float64')))]
      const [actual, reference] = [compare(leaves[0]!, leaves[1]!), compare(wide[0]!, wide[1]!)]
      expectNear(actual, reference.item(), 2e-6)
      actual.backward()
      reference.backward()
      leaves.forEach((each, i) => {
        expect(each.grad!.dtype).toBe(each.dtype)
        expectNear(each.grad!, numbersOf(wide[i]!.grad!), 1e-2)
      })
    }
  })

  test('a pooled float16 feature of zeros has no gradient', () => {
    const zero = leaf(zeros([1, 2, 4, 4], { dtype: 'float16' }))
    const other = randn([1, 2, 2, 2], { generator: new Generator(6) })
    for (const dtype of ['float16', 'float32'] as const)
      for (const loss of [
        new FeatureDistillationLoss({ criterion: 'cosine', alpha: 1 }),
        new AttentionTransfer({ pool: true, alpha: 1 }),
      ]) {
        zero.grad = null
        loss.forward([zero], [other.to(dtype)], zeros([1, 2]), zeros([1]).to('int64')).total.backward()
        expect(isFinite(zero.grad!)).toBe(true)
        expect(zero.grad!.abs().max().item()).toBe(0)
      }
  })

  test('features of two dtypes and sizes', () => {
    const s = full([1, 1, 2, 2], 60000, { dtype: 'float16' })
    expect(distance('mse', s, full([1, 1, 4, 4], 70000)).item()).toBe(1e8)
    expect(distance('mse', full([1, 1, 2, 2], 70000), full([1, 1, 4, 4], 60000).to('float16')).item()).toBe(
      1e8,
    )
  })
})

describe('tensors whose memory does not show what they are', () => {
  const negated = (t: Tensor) => torch._negView(t.neg())
  // The imaginary part of a conjugate: its sign is a bit.
  const imaginary = (t: Tensor) => torch.imag(torch.complex(torch.zerosLike(t), t.neg()).conj())

  test.each(kinds)('%s of features that are negative by a bit', kind => {
    for (const view of [negated, imaginary])
      for (const which of [0, 1])
        scope(() => {
          const generator = new Generator(6)
          const values = [0, 1].map(() => randn([2, 3, 4, 5], { generator }))
          const plain = values.map(leaf)
          const leaves = values.map(leaf)
          const inputs = leaves.map((each, i) => (i === which ? view(each) : each))
          expect(torch.isNeg(inputs[which]!)).toBe(true)
          const actual = distance(kind, inputs[0]!, inputs[1]!)
          const expected = distance(kind, plain[0]!, plain[1]!)
          expectNear(actual, expected.item(), 1e-6)
          actual.backward()
          expected.backward()
          leaves.forEach((each, i) => {
            expectNear(each.grad!, numbersOf(plain[i]!.grad!), 1e-6)
          })
        })
  })

  test('a gradient that is negative by a bit, and one of zeros without memory', () => {
    const generator = new Generator(7)
    const features = randn([2, 3, 4, 4], { generator })
    const gradient = randn([2, 1, 4, 4], { generator })
    const run = (given: Tensor) => {
      const input = leaf(features)
      new AttentionTransfer().attentionMap(input).backward({ gradient: given })
      return input.grad!
    }
    expectNear(run(negated(gradient)), numbersOf(run(gradient)), 1e-6)
    expect(
      run(torch._efficientzerotensor([2, 1, 4, 4], { device }))
        .abs()
        .max()
        .item(),
    ).toBe(0)
  })

  test.each(kinds)('%s of zeros without memory', kind => {
    const s = leaf(randn([2, 3, 4, 4], { generator: new Generator(8) }))
    const expected = distance(kind, s, zeros([2, 3, 4, 4])).item()
    expect(distance(kind, s, torch._efficientzerotensor([2, 3, 4, 4], { device })).item()).toBe(expected)
  })

  test('labels that are negative by a bit', () => {
    const labels = torch._negView(tensor([0, -1], { dtype: 'int64' }))
    const parts = new FeatureDistillationLoss().forward(
      [zeros([2, 2])],
      [zeros([2, 2])],
      zeros([2, 2]),
      labels,
    )
    expectNear(parts.classification.item(), Math.log(2), 1e-6)
  })
})

// ---- Half precision ------------------------------------------------------------------------------------------------------

describe('float16', () => {
  test.skipIf(!multipliesHalves)(
    'cosine at a feature of zeros has no gradient, and none that is no number in the layer before',
    () => {
      const layer = new nn.Linear(3, 4, { bias: false, dtype: 'float16' }).to(device)
      const x = tensor([[0, 0, 0], [1, 2, 3]], { dtype: 'float16' }) // prettier-ignore
      const teacher = randn([2, 4], { generator: new Generator(9) }).to('float16')
      const value = distance('cosine', layer.forward(x), teacher)
      expect(isFinite(value)).toBe(true)
      value.backward()
      expect(isFinite(layer.weight.grad!)).toBe(true)
      const zero = leaf(zeros([1, 4], { dtype: 'float16' }))
      const loss = distance('cosine', zero, teacher.narrow(0, 0, 1))
      expect(loss.item()).toBe(1)
      loss.backward()
      expect(zero.grad!.tolist()).toEqual([[0, 0, 0, 0]])
    },
  )

  test('as under createGraph, and beside a teacher of another dtype', () => {
    const teacher = randn([1, 4], { generator: new Generator(10) })
    const zero = leaf(zeros([1, 4], { dtype: 'float16' }))
    const [first] = grad(distance('cosine', zero, teacher.to('float16')), [zero], { createGraph: true })
    expect(first!.tolist()).toEqual([[0, 0, 0, 0]])
    for (const other of [teacher, teacher.to('bfloat16')])
      expect(grad(distance('cosine', zero, other), [zero])[0]!.tolist()).toEqual([[0, 0, 0, 0]])
  })

  test.skipIf(!multipliesHalves)('and within autocast', () => {
    const teacher = randn([1, 4], { generator: new Generator(10) })
    const zero = leaf(zeros([1, 4], { dtype: 'float16' }))
    const inAutocast = autocast({ device: isOnGpu ? 'cuda' : 'cpu', dtype: 'float16' }, () =>
      grad(distance('cosine', zero, teacher), [zero]),
    )
    expect(inAutocast[0]!.tolist()).toEqual([[0, 0, 0, 0]])
  })

  test.each(['cosine', 'attention'] as const)('%s: gradients of the smallest numbers are finite', kind => {
    for (const size of [6e-8, 1e-6, 3e-5, 1e-4]) {
      const s = leaf(
        randn([2, 1, 2, 2], { generator: new Generator(11) })
          .sign()
          .mul(size)
          .to('float16'),
      )
      const t = randn([2, 1, 2, 2], { generator: new Generator(12) }).to('float16')
      const value = distance(kind, s, t)
      expect(isFinite(value)).toBe(true)
      value.backward()
      expect(isFinite(s.grad!)).toBe(true)
    }
  })

  test('the largest numbers are compared and pooled in float32', () => {
    for (const size of [2, 4]) {
      const s = leaf(full([1, 1, 2, 2], 65504, { dtype: 'float16' }))
      const value = distance('mse', s, full([1, 1, size, size], -65504, { dtype: 'float16' }))
      expectNear(value, 131008 ** 2, 1e-6)
      value.backward()
      expect(isFinite(s.grad!)).toBe(true)
    }
  })
})

describe('other dtypes keep the definition', () => {
  test.each(['bfloat16', 'float32', 'float64'] as const)('%s: a norm below 1e-12 counts as 1e-12', dtype => {
    const zero = leaf(zeros([1, 2], { dtype }))
    distance('cosine', zero, tensor([[3, 4]], { dtype })).backward()
    expectNear(zero.grad!, [-6e11, -8e11], 1e-2)
  })
})

// ---- Long sums -----------------------------------------------------------------------------------------------------------

describe('sums lose no digits', () => {
  const shape = [2, 48, 160, 160]
  const cases: [string, (generator: Generator) => Tensor][] = [
    ['normal numbers', generator => randn(shape, { generator })],
    ['a large mean', generator => randn(shape, { generator }).add(1000)],
    ['equal numbers', () => full(shape, 0.1)],
    [
      'outliers',
      generator => {
        const x = randn(shape, { generator })
        x.at(0, 0, 0, 0).fill_(1e6)
        x.at(1, 47, 159, 159).fill_(-3e5)
        return x
      },
    ],
  ]
  const formats = ['contiguous', 'channelsLast'] as const

  test.each(
    kinds.flatMap(kind => formats.flatMap(format => cases.map(each => [kind, format, ...each] as const))),
  )('%s, %s, %s: as in float64', (kind, memoryFormat, _, make) => {
    scope(() => {
      const generator = new Generator(13)
      const [s, t] = [make(generator), randn(shape, { generator })].map(each =>
        each.contiguous({ memoryFormat }),
      )
      const [leaves, wide] = [[s!, t!].map(leaf), [s!, t!].map(each => leaf(each.to('float64')))]
      const actual = distance(kind, leaves[0]!, leaves[1]!)
      const expected = distance(kind, wide[0]!, wide[1]!)
      expectNear(actual, expected.item(), 2.5e-7)
      actual.backward()
      expected.backward()
      const gradient = wide[0]!.grad!
      const worst = leaves[0]!.grad!.to('float64').sub(gradient).abs().max().item()
      expect(worst / gradient.abs().max().item()).toBeLessThan(3e-6)
    })
  })
})

// ---- Cross-entropy of few logits -----------------------------------------------------------------------------------

describe('the classification of few logits is that of crossEntropy, bit for bit', () => {
  const labelled = (samples: number, classes: number, ignored: (i: number) => boolean) =>
    tensor(
      Array.from({ length: samples }, (_, i) => (ignored(i) ? -100 : (7 * i) % classes)),
      { dtype: 'int64' },
    )
  const sizes = [
    [1, 1],
    [16, 10],
    [64, 100],
    [327, 100], // the last that counts as few, and the first that does not
    [328, 100],
  ] as const
  const labelings: [string, (i: number) => boolean][] = [
    ['all', () => false],
    ['two thirds', i => i % 3 === 0],
    ['none', () => true],
  ]

  test.each(
    sizes.flatMap(size =>
      (['float32', 'float64', 'bfloat16'] as const).flatMap(dtype =>
        labelings.map(([name, ignored]) => [...size, dtype, name, ignored] as const),
      ),
    ),
  )('%i samples of %i classes, %s, %s labelled', (samples, classes, dtype, _, ignored) => {
    scope(() => {
      const values = randn([samples, classes], { generator: new Generator(3) }).to(dtype)
      const [s, t] = [randn([samples, 2]), randn([samples, 2])]
      const labels = labelled(samples, classes, ignored)
      const [mine, plain] = [leaf(values.clone()), leaf(values.clone())]
      const loss = new FeatureDistillationLoss({ alpha: 0.5 })
      const { classification } = loss.forward([s], [t], mine, labels)
      const expected = nn.functional.crossEntropy(dtype === 'bfloat16' ? plain.float() : plain, labels)
      expect(torch.equal(classification.nanToNum({ nan: 5 }), expected.nanToNum({ nan: 5 }))).toBe(true)
      classification.backward()
      expected.backward()
      expect(torch.equal(mine.grad!.nanToNum({ nan: 5 }), plain.grad!.nanToNum({ nan: 5 }))).toBe(true)
    })
  })

  test('also the gradient of its gradient', () => {
    scope(() => {
      const values = randn([8, 5], { dtype: 'float64', generator: new Generator(4) })
      const labels = labelled(8, 5, i => i === 2)
      const second = (classify: (logits: Tensor) => Tensor) => {
        const logits = leaf(values.clone())
        const [first] = grad(classify(logits).exp(), [logits], { createGraph: true })
        return grad(first!.square().sum(), [logits])[0]!
      }
      const features = zeros([8, 1])
      const mine = second(
        logits =>
          new FeatureDistillationLoss().forward([features], [features], logits, labels).classification,
      )
      const plain = second(logits => nn.functional.crossEntropy(logits, labels))
      expectNear(mine.sub(plain).abs().max(), 0, 1e-15)
    })
  })
})

// ---- Features that no loss takes -----------------------------------------------------------------------------------

test.each(['student', 'teacher'])('a %s that is sparse or nested is refused by name', side => {
  const dense = randn([2, 3])
  const others = [dense.toSparse(), torch._nestedTensorFromTensorList([randn([2]), randn([3])])]
  for (const other of others)
    for (const kind of kinds) {
      const [s, t] = side === 'student' ? [other, dense] : [dense, other]
      const compute = () => makeLoss(kind, {}).forward([s], [t], zeros([2, 2]), zeros([2]).to('int64'))
      expect(codeOf(compute)).toBe('ERR_ARGUMENT')
      expect(compute).toThrow(new RegExp(`level 0: expected dense features, got .* for the ${side}`))
    }
})

describe('Attention over features that are pooled', () => {
  const map = (feature: Tensor) =>
    nn.functional.normalize(feature.square().mean([1]).flatten({ startDim: 1 }))
  const pooled = (feature: Tensor, size: [number, number]) => nn.functional.adaptiveAvgPool2d(feature, size)

  test.each<[name: string, student: [number, number], teacher: [number, number], common: [number, number]]>([
    ['a narrower teacher', [4, 4], [4, 1], [4, 1]],
    ['a narrower student', [4, 1], [4, 4], [4, 1]],
    ['one higher, the other wider', [4, 16], [8, 8], [4, 16]],
    ['squares', [8, 8], [4, 4], [4, 4]],
  ])(
    'compares both at the size of the smaller, by height, then by width: %s',
    (_, student, teacher, common) => {
      const ours = randn([2, 3, ...student])
      const theirs = randn([2, 5, ...teacher])
      const [a, b] = [ours, theirs].map(each => map(pooled(each, common))) as [Tensor, Tensor]
      const expected = nn.functional.mseLoss(a, b).item()
      const loss = new AttentionTransfer({ pool: true })
      const { attention } = loss.forward([ours], [theirs], zeros([2, 2]), tensor([0n, 1n]))
      expect(attention.item()).toBeCloseTo(expected, 7)
      const features = { student: { features: [ours] }, teacher: { features: [theirs] } }
      expect(new methods.Attention({ variant: 'code' }).forward(features).item()).toBeCloseTo(expected, 7)
      const norms = a.sub(b).norm(2, [1]).mean().item()
      expect(new methods.Attention({ variant: 'paper' }).forward(features).item()).toBeCloseTo(norms, 6)
    },
  )

  test('pools the larger of two squares alone, bit for bit', () => {
    const ours = randn([2, 3, 8, 8])
    const theirs = randn([2, 5, 4, 4])
    const term = new methods.Attention({ variant: 'code' })
    const distance = (student: Tensor) =>
      term.forward({ student: { features: [student] }, teacher: { features: [theirs] } }).item()
    expect(distance(ours)).toBe(distance(pooled(ours, [4, 4])))
  })
})
