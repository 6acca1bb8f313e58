/** Options of the loop that all training functions share: frozen parts, several batches a step, averages of weights. */
import { describe, expect, it } from 'vitest'
import {
  data,
  evaluate,
  manualSeed,
  methods,
  nn,
  optim,
  randint,
  randn,
  Term,
  trainClassifier,
  trainWithObjective,
  type EpochReport,
  type FitOptions,
  type Observation,
  type StepProgress,
  type Tensor,
} from '../lib/index.js'
import { settledTensors } from './settle.js'

class Net extends nn.Module<[Tensor], Tensor> {
  body = new nn.Sequential(new nn.Conv2d(3, 4, 3, { padding: 1 }), new nn.BatchNorm2d(4), new nn.ReLU())
  head = new nn.Linear(4, 5)
  override forward(x: Tensor): Tensor {
    return this.head.forward(this.body.forward(x).mean([2, 3]))
  }
}

/** Without batch norm a batch is the sum of its parts. */
class Plain extends nn.Module<[Tensor], Tensor> {
  first = new nn.Linear(12, 16)
  second = new nn.Linear(16, 5)
  override forward(x: Tensor): Tensor {
    return this.second.forward(this.first.forward(x.flatten({ startDim: 1 })).relu())
  }
}

function loader(batchSize: number, shape: number[] = [3, 2, 2], count = 24): data.DataLoader {
  manualSeed(3)
  const set = new data.TensorDataset(randn([count, ...shape]), randint(5, [count]))
  return new data.DataLoader(set, { batchSize })
}

function made<T extends nn.Module>(make: () => T): T {
  manualSeed(1)
  return make()
}

const sgd = (parameters: Tensor[]) => new optim.SGD(parameters, { lr: 0.1, momentum: 0.9 })
const quiet = { epochs: 3, log: null, optimizer: sgd } as const satisfies FitOptions
const numbersOf = (tensors: Record<string, Tensor>) =>
  Object.fromEntries(
    Object.entries(tensors).map(([name, each]) => [name, [...each.toTypedArray()].map(Number)]),
  )

describe('frozen parts', () => {
  it.each([false, true])('stay as they are, also in their statistics (compile: %s)', async compile => {
    const model = made(() => new Net())
    const before = numbersOf(model.stateDict())
    let trained = 0
    await trainClassifier(model, loader(8, [3, 8, 8]), null, {
      ...quiet,
      compile,
      frozen: ['body'],
      optimizer: parameters => {
        trained = parameters.length
        return sgd(parameters)
      },
      onStep: () => {
        expect([model.training, model.body.training, model.head.training]).toEqual([true, false, true])
      },
    })
    const after = numbersOf(model.stateDict())
    expect(trained).toBe(2)
    for (const name of Object.keys(before))
      if (name.startsWith('body')) expect(after[name]).toEqual(before[name])
      else expect(after[name]).not.toEqual(before[name])
    expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true)
  })

  it('that do not exist, or that are all, are errors', async () => {
    const model = made(() => new Net())
    const train = (frozen: string[]) =>
      trainClassifier(model, loader(8, [3, 8, 8]), null, { ...quiet, frozen })
    await expect(train(['bodi'])).rejects.toThrow(/body/)
    await expect(train(['body', 'head'])).rejects.toThrow(/frozen.*got all/)
    expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true)
  })
})

describe('several batches a step', () => {
  it('are as one batch of all their samples, whatever their sizes', async () => {
    const whole = made(() => new Plain())
    await trainClassifier(whole, loader(15), null, { ...quiet, clipGradNorm: 1 }) // 15 and 9
    const parts = made(() => new Plain())
    const steps: StepProgress[] = []
    const reports: EpochReport[] = []
    await trainClassifier(parts, loader(5), null, {
      ...quiet,
      clipGradNorm: 1,
      accumulate: 3, // 5 + 5 + 5 and 5 + 4
      onStep: step => steps.push(step),
      onEpoch: report => reports.push(report),
    })
    const close = (list: number[]) => list.map(each => expect.closeTo(each, 5) as number)
    const expected = numbersOf(whole.stateDict())
    for (const [name, list] of Object.entries(numbersOf(parts.stateDict())))
      expect(list).toEqual(close(expected[name]!))
    expect(steps.map(({ step, images }) => [step, images]).slice(0, 3)).toEqual([
      [1, 15],
      [2, 9],
      [1, 15],
    ])
    expect(steps[0]!.steps).toBe(2)
    expect(reports.map(({ images }) => images)).toEqual([24, 24, 24])
  })

  it('step the schedule once, and are not compiled, which the log says', async () => {
    const model = made(() => new Plain())
    const lines: string[] = []
    const rates: number[] = []
    let optimizer!: optim.SGD
    const { compilation } = await trainClassifier(model, loader(4), null, {
      epochs: 1,
      compile: true,
      accumulate: 2,
      log: line => lines.push(line),
      optimizer: parameters => (optimizer = sgd(parameters)),
      scheduler: each => new optim.lrScheduler.StepLR(each, 1, { gamma: 0.5 }),
      schedulerInterval: 'step',
      onStep: () => rates.push(optimizer.paramGroups[0]!.lr),
    })
    expect(rates).toEqual([0.05, 0.025, 0.0125])
    expect(compilation).toMatchObject({
      steps: 0,
      reason: expect.stringContaining('several batches') as string,
    })
    expect(lines.join('\n')).toContain('several batches')
  })

  it('hold nothing afterwards', async () => {
    const run = () =>
      trainClassifier(
        made(() => new Plain()),
        loader(4),
        null,
        { ...quiet, accumulate: 4 },
      )
    await run()
    const before = await settledTensors()
    await run()
    expect(await settledTensors()).toBeLessThanOrEqual(before)
  })

  it('are refused with a term that depends on who shares a batch', async () => {
    class Similar extends Term {
      override readonly relational = true
      override forward({ student }: Observation): Tensor {
        return student.logits.matmul(student.logits.t()).mean()
      }
    }
    const train = trainWithObjective(
      null,
      made(() => new Plain()),
      loader(4),
      null,
      {
        ...quiet,
        accumulate: 2,
        objective: [new methods.CrossEntropy(), Object.assign(new Similar(), { needsTeacher: false })],
      },
    )
    await expect(train).rejects.toThrow(/the term similar depends on which samples share a batch/)
  })
})

describe('the average of the weights', () => {
  it.each([false, true])('follows them, is evaluated, and is in the result (compile: %s)', async compile => {
    const model = made(() => new Net())
    const validation = loader(8, [3, 8, 8])
    const expected = new Map(
      model.namedParameters().map(([name, each]) => [name, [...each.toTypedArray()].map(Number)]),
    )
    const reports: EpochReport[] = []
    const { ema } = await trainClassifier(model, loader(8, [3, 8, 8]), validation, {
      ...quiet,
      compile,
      ema: 0.75,
      onStep: () => {
        for (const [name, own] of model.namedParameters()) {
          const weights = [...own.toTypedArray()].map(Number)
          expected.set(
            name,
            expected.get(name)!.map((each, i) => 0.75 * each + 0.25 * weights[i]!),
          )
        }
      },
      onEpoch: report => reports.push(report),
    })
    const actual = numbersOf(ema!)
    expect(Object.keys(actual)).toEqual(Object.keys(model.stateDict()))
    for (const [name, list] of expected)
      expect(actual[name]).toEqual(list.map(each => expect.closeTo(each, 5) as number))
    expect(actual['body.1.running_mean']).toEqual([
      ...model.stateDict()['body.1.running_mean']!.toTypedArray(),
    ])
    const copy = new Net()
    copy.loadStateDict(ema!)
    expect(reports.at(-1)!.emaAccuracy).toBe(await evaluate(copy, validation))
    expect(reports.at(-1)!.accuracy).toBe(await evaluate(model, validation))
  })

  it('changes nothing in the training', async () => {
    const run = async (options: FitOptions) => {
      const model = made(() => new Net())
      await trainClassifier(model, loader(8, [3, 8, 8]), loader(8, [3, 8, 8]), { ...quiet, ...options })
      return numbersOf(model.stateDict())
    }
    expect(await run({ ema: 0.9 })).toEqual(await run({}))
  })

  it.each([0, 1, -1, NaN, '0.9', null])('refuses the decay %s', async ema => {
    const train = trainClassifier(
      made(() => new Net()),
      loader(8, [3, 8, 8]),
      null,
      { ...quiet, ema: ema as number },
    )
    await expect(train).rejects.toThrow(/ema: expected a number above 0 and below 1/)
  })
})

describe('an array of batches', () => {
  it.each([false, true])(
    'is trained on in every epoch, and stays the caller’s (compile: %s)',
    async compile => {
      const train = async (batches: FirstArgument) => {
        const model = made(() => new Plain())
        const { history } = await trainClassifier(model, batches, batches, { ...quiet, compile })
        return [history.map(({ loss, accuracy }) => [loss, accuracy]), numbersOf(model.stateDict())]
      }
      type FirstArgument = data.DataLoader | data.Batch[]
      const list = [...loader(8)]
      const ofArray = await train(list)
      const ofLoader = await train(loader(8))
      expect(ofArray).toEqual(ofLoader)
      expect(
        await evaluate(
          made(() => new Plain()),
          list,
        ),
      ).toBe(
        await evaluate(
          made(() => new Plain()),
          loader(8),
        ),
      )
      for (const { data, labels } of list) expect([data.shape[0], labels.shape[0]]).toEqual([8, 8])
    },
  )
})
