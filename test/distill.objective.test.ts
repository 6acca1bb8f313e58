/** Objectives: sums of terms, their weights, several teachers, and what a term may ask for. */
import { describe, expect, it } from 'vitest'
import {
  AttentionTransfer,
  data,
  FeatureDistillationLoss,
  LogitsDistillationLoss,
  manualSeed,
  methods,
  nn,
  Objective,
  optim,
  randint,
  randn,
  scope,
  Term,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  trainWithObjective,
  type FitOptions,
  type Observation,
  type ObjectiveOptions,
  type Tensor,
} from '../lib/index.js'
import { codeOf, codeOfAsync, expectError } from './codes.js'

class Net extends nn.Module<[Tensor], Tensor> {
  conv1: nn.Conv2d
  bn1: nn.BatchNorm2d
  conv2: nn.Conv2d
  drop = new nn.Dropout(0.2)
  head: nn.Linear
  runs = 0

  constructor(width: number) {
    super()
    this.conv1 = new nn.Conv2d(3, width, 3, { padding: 1 })
    this.bn1 = new nn.BatchNorm2d(width)
    this.conv2 = new nn.Conv2d(width, 2 * width, 3, { padding: 1, stride: 2 })
    this.head = new nn.Linear(2 * width, 5)
  }

  override forward(x: Tensor): Tensor {
    this.runs++
    const first = this.drop.forward(this.bn1.forward(this.conv1.forward(x)).relu())
    return this.head.forward(this.conv2.forward(first).relu().mean([2, 3]))
  }
}

function loader(options: data.DataLoaderOptions = {}): data.DataLoader {
  manualSeed(3)
  const images = new data.TensorDataset(randn([36, 3, 8, 8]), randint(5, [36]))
  return new data.DataLoader(images, { batchSize: 8, shuffle: true, seed: 4, ...options })
}

function nets(): { teacher: Net; other: Net; student: Net; batches: data.DataLoader } {
  const batches = loader()
  manualSeed(1)
  return { teacher: new Net(6), other: new Net(6), student: new Net(4), batches }
}

const quiet = { epochs: 2, log: null } as const
const sgd = (parameters: Tensor[]) => new optim.SGD(parameters, { lr: 0.05, momentum: 0.9 })

/** All weights and buffers of the student after a training that starts from the same ones. */
async function stateAfter(
  train: (nets_: ReturnType<typeof nets>, options: FitOptions) => Promise<unknown>,
  options: FitOptions = {},
): Promise<Record<string, number[]>> {
  const made = nets()
  manualSeed(9)
  await train(made, { ...quiet, optimizer: sgd, ...options })
  return Object.fromEntries(
    Object.entries(made.student.stateDict()).map(([name, value]) => [
      name,
      [...value.toTypedArray()].map(Number),
    ]),
  )
}

const withObjective =
  (objective: () => ObjectiveOptions['objective']) =>
  ({ teacher, student, batches }: ReturnType<typeof nets>, options: FitOptions) =>
    trainWithObjective(teacher, student, batches, null, { ...options, objective: objective() })

describe('an objective', () => {
  it('of labels and features trains as FeatureDistillationLoss does, bit for bit', async () => {
    const layers = ['conv1', 'conv2']
    const expected = await stateAfter(({ teacher, student, batches }, options) =>
      trainWithFeatureDistillation(teacher, student, batches, null, {
        ...options,
        featureLayers: layers,
        loss: new FeatureDistillationLoss({ alpha: 0.5, weights: [1, 2] }),
      }),
    )
    const actual = await stateAfter(
      withObjective(() => [
        { term: new methods.Features({ layers, weights: [1, 2] }), weight: 0.5 },
        { term: new methods.CrossEntropy(), weight: 0.5 },
      ]),
    )
    expect(actual).toEqual(expected)
  })

  it('of labels and attention trains as AttentionTransfer does, bit for bit', async () => {
    const layers = ['conv1', 'conv2']
    const expected = await stateAfter(({ teacher, student, batches }, options) =>
      trainWithFeatureDistillation(teacher, student, batches, null, {
        ...options,
        featureLayers: layers,
        loss: new AttentionTransfer({ alpha: 0.75 }),
      }),
    )
    const actual = await stateAfter(
      withObjective(() => [
        { term: new methods.Attention({ layers }), weight: 0.75 },
        { term: new methods.CrossEntropy(), weight: 0.25 },
      ]),
    )
    expect(actual).toEqual(expected)
  })

  it('of labels and outputs trains as LogitsDistillationLoss does, bit for bit', async () => {
    const expected = await stateAfter(({ teacher, student, batches }, options) =>
      trainWithLogitsDistillation(teacher, student, batches, null, {
        ...options,
        loss: new LogitsDistillationLoss({ alpha: 0.75, temperature: 3 }),
      }),
    )
    const actual = await stateAfter(
      withObjective(() => [
        { term: new methods.KD({ temperature: 3 }), weight: 0.75 },
        { term: new methods.CrossEntropy(), weight: 0.25 },
      ]),
    )
    expect(actual).toEqual(expected)
  })

  it('of the labels alone needs no teacher, and trains as trainClassifier does', async () => {
    const expected = await stateAfter(({ student, batches }, options) =>
      trainClassifier(student, batches, null, options),
    )
    const actual = await stateAfter(({ student, batches }, options) =>
      trainWithObjective(null, student, batches, null, {
        ...options,
        objective: [new methods.CrossEntropy()],
      }),
    )
    expect(actual).toEqual(expected)
  })

  it('runs each model once per step, whatever the number of terms', async () => {
    const { teacher, student, batches } = nets()
    const objective = () => [
      new methods.CrossEntropy(),
      new methods.KD(),
      new methods.Attention({ layers: ['conv1'] }),
      new methods.Features({ layers: ['conv2'], adapt: 'student' }),
    ]
    await trainWithObjective(teacher, student, batches, null, { ...quiet, epochs: 1, objective: objective() })
    expect(student.runs).toBe(5 + 1) // and once to see shapes
    expect(teacher.runs).toBe(5 + 1)
  })

  it('reports the values of its terms, not weighted, and their weighted sum', async () => {
    const { teacher, student, batches } = nets()
    const seen: { loss: number; parts: Record<string, number> }[] = []
    await trainWithObjective(teacher, student, batches, null, {
      ...quiet,
      epochs: 1,
      objective: [
        { term: new methods.CrossEntropy(), weight: 0.1 },
        { term: new methods.KD(), weight: 0.9 },
        { term: new methods.KD({ temperature: 1 }), weight: 0.5, name: 'sharp' },
        new methods.KD({ temperature: 2 }),
      ],
      onStep: progress => seen.push(progress),
    })
    expect(seen).toHaveLength(5)
    for (const { loss, parts } of seen) {
      expect(Object.keys(parts)).toEqual(['crossEntropy', 'kd', 'sharp', 'kd2'])
      const { crossEntropy = NaN, kd = NaN, sharp = NaN, kd2 = NaN } = parts
      expect(loss).toBeCloseTo(0.1 * crossEntropy + 0.9 * kd + 0.5 * sharp + kd2, 5)
    }
  })

  it('trains the parts of its terms, which it returns', async () => {
    const { teacher, student, batches } = nets()
    const features = new methods.Features({ layers: ['conv1', 'conv2'] })
    const { objective } = await trainWithObjective(teacher, student, batches, null, {
      ...quiet,
      objective: [new methods.CrossEntropy(), features],
      optimizer: parameters => {
        expect(parameters).toHaveLength(student.parameters().length + 4)
        return sgd(parameters)
      },
    })
    expect(Object.keys(objective.stateDict())).toEqual([
      'terms.features.adaptation.0.adapt.weight',
      'terms.features.adaptation.0.adapt.bias',
      'terms.features.adaptation.1.adapt.weight',
      'terms.features.adaptation.1.adapt.bias',
    ])
    expect(features.parameters().every(({ grad }) => grad !== null)).toBe(true)
  })

  it.each([false, true])(
    'stops at a total that is not finite and names its terms (compile: %s)',
    async compile => {
      class Bad extends Term {
        override forward({ student, step }: Observation): Tensor {
          return student.logits.mean().mul(step === 3 ? NaN : 0)
        }
      }
      const { teacher, student, batches } = nets()
      await expect(
        trainWithObjective(teacher, student, batches, null, {
          ...quiet,
          compile,
          objective: [new methods.CrossEntropy(), new Bad()],
        }),
      ).rejects.toThrow(/epoch 1, step 3: .*crossEntropy=.*bad=NaN/)
    },
  )
})

describe('weights', () => {
  it('follow the epochs', () => {
    const of = (weight: unknown) => {
      const objective = new Objective([
        { term: new methods.KD(), weight: weight as number },
        new methods.CrossEntropy(),
      ])
      return [1, 2, 3, 4, 5, 6].map(epoch => objective.weights(epoch)['kd'])
    }
    expect(of(0.5)).toEqual([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    expect(of({ warmUp: 4 })).toEqual([0.25, 0.5, 0.75, 1, 1, 1])
    expect(of({ from: 2, to: 3 })).toEqual([0, 1, 1, 0, 0, 0])
    expect(of({ value: 2, cosine: [2, 4] })).toEqual([2, 2, expect.closeTo(1, 12), 0, 0, 0])
    expect(of({ value: 8, warmUp: 2, from: 1, to: 5 })).toEqual([4, 8, 8, 8, 8, 0])
  })

  it.each<[unknown, string]>([
    [-1, 'at least 0'],
    [NaN, 'at least 0'],
    ['1', 'at least 0'],
    [null, 'at least 0'],
    [{ warmup: 3 }, 'warmUp'],
    [{ warmUp: 0 }, 'at least 1'],
    [{ cosine: [4, 2] }, 'the first before the last'],
    [{ from: 3, to: 2 }, 'from 3 on'],
  ])('that are none are refused: %j', (weight, words) => {
    const make = () => new Objective([{ term: new methods.KD(), weight: weight as number }])
    expectError(make, 'ERR_ARGUMENT', new RegExp(words))
  })

  it.each([false, true])('of 0 leave out the term and its teacher (compile: %s)', async compile => {
    const { teacher, student, batches } = nets()
    const parts: string[][] = []
    const runs: number[] = []
    await trainWithObjective(teacher, student, batches, null, {
      log: null,
      epochs: 4,
      compile,
      objective: [new methods.CrossEntropy(), { term: new methods.KD(), weight: { from: 2, to: 3 } }],
      onEpoch: report => {
        parts.push(Object.keys(report.parts))
        runs.push(teacher.runs)
      },
    })
    expect(parts).toEqual([
      ['crossEntropy'],
      ['crossEntropy', 'kd'],
      ['crossEntropy', 'kd'],
      ['crossEntropy'],
    ])
    expect(runs[0]).toBe(0)
    expect(runs[2]).toBeGreaterThan(0)
    expect(runs[3]).toBe(runs[2])
  })

  it('that are all 0 in an epoch are an error', async () => {
    const { teacher, student, batches } = nets()
    const train = trainWithObjective(teacher, student, batches, null, {
      ...quiet,
      objective: [{ term: new methods.KD(), weight: { to: 1 } }],
    })
    await expect(train).rejects.toThrow(/all are 0 in epoch 2/)
  })
})

describe('compiled steps', () => {
  it('follow the weights, bit for bit', async () => {
    const objective = () => [
      { term: new methods.CrossEntropy(), weight: 0.3 },
      { term: new methods.KD(), weight: { warmUp: 3 } },
      { term: new methods.Features({ layers: ['conv2'] }), weight: { cosine: [1, 4], value: 3 } as const },
    ]
    const expected = await stateAfter(withObjective(objective), { epochs: 5 })
    let steps = 0
    const actual = await stateAfter(
      async (made, options) => {
        const { compilation } = await withObjective(objective)(made, options)
        expect(compilation?.reason).toBeUndefined()
        steps = compilation!.steps
      },
      { epochs: 5, compile: true },
    )
    expect(actual).toEqual(expected)
    expect(steps).toBeGreaterThan(15) // of 25; in epoch 4 the third term ends, and two shapes are recorded anew
  })

  class ByEpoch extends Term {
    override forward({ student, epoch }: Observation): Tensor {
      return student.logits.square().mean().mul(epoch)
    }
  }
  class ByStep extends Term {
    override forward({ student, step }: Observation): Tensor {
      return student.logits.square().mean().mul(step)
    }
  }

  it('are recorded anew where a term looks at the epoch', async () => {
    const objective = () => [new methods.CrossEntropy(), new ByEpoch()]
    const expected = await stateAfter(withObjective(objective), { epochs: 4 })
    const actual = await stateAfter(
      async (made, options) => {
        const { compilation } = await withObjective(objective)(made, options)
        expect(compilation).toMatchObject({ steps: expect.any(Number) as number })
        expect(compilation!.steps).toBeGreaterThan(4)
      },
      { epochs: 4, compile: true },
    )
    expect(actual).toEqual(expected)
  })

  it('are not taken where a term looks at the step', async () => {
    const objective = () => [new methods.CrossEntropy(), new ByStep()]
    const expected = await stateAfter(withObjective(objective))
    const actual = await stateAfter(
      async (made, options) => {
        const { compilation } = await withObjective(objective)(made, options)
        expect(compilation).toMatchObject({
          steps: 0,
          reason: expect.stringMatching(/number of the step/) as string,
        })
      },
      { compile: true },
    )
    expect(actual).toEqual(expected)
  })
})

describe('several teachers', () => {
  it('are each seen by the terms that name them, others see the mean', async () => {
    const { teacher, other, student, batches } = nets()
    const seen: Observation[] = []
    const values: number[][][] = []
    class Look extends Term {
      constructor(override readonly layers: string[] = []) {
        super()
      }
      override forward(observation: Observation): Tensor {
        seen.push(observation)
        values.push(observation.teacher.logits.tolist() as number[][])
        return observation.student.logits.mean()
      }
    }
    const [images] = [...batches]
    const expected = [teacher, other].map(model => model.eval().forward(images!.data).tolist() as number[][])
    await trainWithObjective({ a: teacher, b: other }, student, [images!], null, {
      ...quiet,
      epochs: 1,
      objective: [
        { term: new Look(), teacher: 'b', name: 'b' },
        { term: new Look(), teacher: 'a', name: 'a' },
        { term: new Look(), name: 'both' },
      ],
    })
    const close = (list: number[][]) => list.map(row => row.map(each => expect.closeTo(each, 4) as number))
    expect(values[0]).toEqual(close(expected[1]!))
    expect(values[1]).toEqual(close(expected[0]!))
    expect(values[2]).toEqual(
      close(expected[0]!.map((row, i) => row.map((each, j) => (each + expected[1]![i]![j]!) / 2))),
    )
  })

  it('do not run where no term needs them', async () => {
    const { teacher, other, student, batches } = nets()
    await trainWithObjective({ a: teacher, b: other }, student, batches, null, {
      ...quiet,
      objective: [{ term: new methods.KD(), teacher: 'b' }],
    })
    expect(teacher.runs).toBe(0)
    expect(other.runs).toBe(10)
  })

  it('may have inputs of their own', async () => {
    const { teacher, other, student, batches } = nets()
    const given: string[] = []
    const noting = (name: string) => (images: Tensor) => {
      given.push(name)
      return images.mul(2)
    }
    await trainWithObjective({ a: teacher, b: other }, student, [[...batches][0]!], null, {
      ...quiet,
      epochs: 1,
      objective: [new methods.KD()],
      teacherInput: { b: noting('b') },
    })
    expect(given).toEqual(['b'])
  })
})

describe('a term', () => {
  class Pairs extends Term {
    override readonly needsEmbedding = true
    override readonly needsIndices = true
    readonly shapes: (readonly number[] | undefined)[] = []
    readonly numbers: bigint[] = []
    project: nn.Linear | undefined
    override prepare({ student, teacher }: Observation): void {
      expect(student.embedding!.requiresGrad).toBe(false)
      this.project = new nn.Linear(student.embedding!.size(1), teacher.embedding!.size(1))
    }
    override forward({ student, teacher, indices }: Observation): Tensor {
      this.shapes.push(student.embedding?.shape, teacher.embedding?.shape)
      this.numbers.push(...(indices!.tolist() as bigint[]))
      return nn.functional.mseLoss(this.project!.forward(student.embedding!), teacher.embedding!)
    }
  }

  it('is given embeddings, indices, and parts of its own that are trained', async () => {
    const { teacher, student } = nets()
    const term = new Pairs()
    await trainWithObjective(teacher, student, loader({ indices: true, dropLast: true }), null, {
      ...quiet,
      epochs: 1,
      objective: [new methods.CrossEntropy(), term],
    })
    expect(term.shapes.slice(0, 2)).toEqual([
      [8, 8],
      [8, 12],
    ])
    expect(new Set(term.numbers.map(Number)).size).toBe(32)
    expect(term.project!.weight.grad).not.toBeNull()
  })

  it('that needs indices which the batches do not give is an error', async () => {
    const { teacher, student, batches } = nets()
    const train = trainWithObjective(teacher, student, batches, null, { ...quiet, objective: [new Pairs()] })
    await expect(train).rejects.toThrow(/pairs.*indices: true/)
  })

  it('computes by hand', () => {
    manualSeed(2)
    const [s, t] = [randn([4, 5], { dtype: 'float64' }), randn([4, 5], { dtype: 'float64' })]
    const labels = tensor([0n, 4n, 2n, 1n])
    const p = t.div(3).softmax(1)
    const expected =
      p
        .mul(p.log().sub(s.div(3).logSoftmax(1)))
        .sum()
        .item() *
      (9 / 4)
    const kd = new methods.KD({ temperature: 3 }).forward({ student: { logits: s }, teacher: { logits: t } })
    expect(kd.item()).toBeCloseTo(expected, 12)
    const smoothed = new methods.CrossEntropy({ labelSmoothing: 0.1 }).forward({
      student: { logits: s },
      labels,
    })
    expect(smoothed.item()).toBe(nn.functional.crossEntropy(s, labels, { labelSmoothing: 0.1 }).item())
  })

  it('of attention has the sums of the code and of the paper', () => {
    manualSeed(2)
    const big = randn([3, 4, 8, 8], { dtype: 'float64' })
    const small = randn([3, 6, 4, 4], { dtype: 'float64' })
    const equal = randn([3, 2, 8, 8], { dtype: 'float64' })
    const map = (x: Tensor) => {
      const rows = x.square().mean([1]).flatten({ startDim: 1 })
      return rows.div(rows.norm(2, [1], { keepdim: true }))
    }
    const pooled = nn.functional.adaptiveAvgPool2d(big, 4)
    const differences = [map(pooled).sub(map(small)), map(big).sub(map(equal))]
    const observation = {
      student: { features: [big, big] },
      teacher: { features: [small, equal] },
    }
    const code = differences.map(each => each.square().mean().item())
    const paper = differences.map(each => each.norm(2, [1]).mean().item())
    const value = (options: object) => new methods.Attention(options).forward(observation).item()
    expect(value({ variant: 'code' })).toBeCloseTo(code[0]! + code[1]!, 12)
    expect(value({ variant: 'paper' })).toBeCloseTo(paper[0]! + paper[1]!, 12)
    expect(value({ variant: 'code', weights: [2, 3] })).toBeCloseTo(2 * code[0]! + 3 * code[1]!, 12)
    expect(value({ variant: 'paper', weights: [2, 3] })).toBeCloseTo(2 * paper[0]! + 3 * paper[1]!, 12)
  })

  it.each<[string, () => Term, object, string]>([
    ['KD', () => new methods.KD(), { student: { logits: 1 }, teacher: {} }, 'KD: student.logits'],
    ['Features', () => new methods.Features(), { student: {}, teacher: {} }, 'Features: student.features'],
    [
      'Attention',
      () => new methods.Attention(),
      { student: { features: [] } },
      'Attention: teacher.features',
    ],
    ['CrossEntropy', () => new methods.CrossEntropy(), { student: { logits: randn([2, 3]) } }, 'labels'],
  ])('%s says what is missing in an observation', (_name, make, observation, words) => {
    expectError(() => make().forward(observation as Observation), 'ERR_ARGUMENT', new RegExp(words))
  })
})

describe('what is wrong is said before anything runs', () => {
  const train = (objective: unknown, teachers: unknown = 'two') => {
    const { teacher, other, student, batches } = nets()
    const models = teachers === 'two' ? { a: teacher, b: other } : teachers === 'one' ? teacher : teachers
    return trainWithObjective(models as null, student, batches, null, {
      ...quiet,
      objective: objective as ObjectiveOptions['objective'],
    }).finally(() => {
      expect(student.runs).toBe(0)
    })
  }

  it.each<[string, () => unknown, RegExp, unknown?]>([
    ['no terms', () => [], /at least one term/],
    ['no list', () => new methods.KD(), /at least one term/],
    ['no term', () => [{ weight: 1 }], /terms\[0\]: term: expected a term/],
    ['a loss', () => [new FeatureDistillationLoss()], /terms\[0\]: expected a term/],
    ['a class', () => [methods.KD], /terms\[0\]: expected a term/],
    ['an unknown option', () => [{ term: new methods.KD(), wieght: 1 }], /weight/],
    ['a name twice', () => [new methods.KD(), { term: new methods.KD(), name: 'kd' }], /no other part/],
    ['the name total', () => [{ term: new methods.KD(), name: 'total' }], /no other part/],
    ['an unknown teacher', () => [{ term: new methods.KD(), teacher: 'c' }], /"a" or "b", got "c"/],
    ['no teacher', () => [new methods.KD()], /kd needs a teacher/, null],
    ['an unknown layer', () => [new methods.Attention({ layers: ['conv3'] })], /conv3/, 'one'],
    ['an empty list of layers', () => [new methods.Attention({ layers: [] })], /at least one layer/, 'one'],
  ])('%s', async (_what, make, message, teachers = 'two') => {
    await expect((async () => train(make(), teachers))()).rejects.toThrow(message)
  })

  it('a teacher that is the student, and an input for a teacher that there is not', async () => {
    const { teacher, student, batches } = nets()
    const options = { ...quiet, objective: [new methods.KD()] }
    expect(await codeOfAsync(() => trainWithObjective(student, student, batches, null, options))).toBe(
      'ERR_ARGUMENT',
    )
    await expect(
      trainWithObjective({ good: teacher }, student, batches, null, {
        ...options,
        teacherInput: { god: (images: Tensor) => images },
      }),
    ).rejects.toThrow(/did you mean "good"/)
  })
})

describe('methods by name', () => {
  it('are created with the options of their class, also those of one’s own', () => {
    class Own extends Term {
      constructor(readonly options: Record<string, unknown>) {
        super()
      }
      override forward({ student }: Observation): Tensor {
        return student.logits.mean()
      }
    }
    methods.register('ownForTest', options => new Own(options))
    expect(methods.names()).toEqual(
      expect.arrayContaining(['attention', 'crossEntropy', 'features', 'kd', 'ownForTest']),
    )
    expect(methods.create('kd', { temperature: 2 })).toMatchObject({ temperature: 2 })
    expect(methods.create('ownForTest', { a: 1 })).toMatchObject({ options: { a: 1 } })
    expectError(() => methods.create('atention'), 'ERR_ARGUMENT', /did you mean "attention"/)
    expectError(() => methods.create('kd', { temprature: 2 }), 'ERR_ARGUMENT', /temperature/)
    expect(codeOf(() => methods.register('kd', () => new methods.KD()))).toBe('ERR_ARGUMENT')
  })

  it('make no tensors that nobody holds', () => {
    scope(() => {
      expect(new methods.Features({ layers: ['a'] }).parameters()).toHaveLength(0)
    })
  })
})
