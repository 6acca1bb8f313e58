/** Schedules that the training functions drive, and gradients that are not finite although the loss is. */
import { describe, expect, it } from 'vitest'
import {
  AlambicError,
  fromTypedArray,
  manualSeed,
  nn,
  optim,
  scope,
  tensor,
  trainClassifier,
  type EpochReport,
  type FitOptions,
  type Tensor,
} from '../lib/index.js'
import { CompiledSteps } from '../lib/distill/compiled.js'
import { codeOfAsync } from './codes.js'

const { lrScheduler } = optim

/** Batches of four points; `scales` multiply the points of each. */
function batches(scales: number[]) {
  return {
    length: scales.length,
    *[Symbol.iterator]() {
      for (const scale of scales) {
        const points = Float32Array.from({ length: 8 }, (_, i) => scale * Math.sin(i + 1))
        yield { data: fromTypedArray(points, [4, 2]), labels: tensor([0n, 1n, 0n, 1n]) }
      }
    },
  }
}

/** Its logits are finite for all inputs, its gradient is not where all inputs are zero. */
class Rooted extends nn.Module<[Tensor], Tensor> {
  head = new nn.Linear(2, 2)
  scale = new nn.Parameter(tensor([1, 1]))
  override forward(x: Tensor): Tensor {
    const root = x.abs().mean().mul(this.scale.mul(this.scale)).sqrt()
    return this.head.forward(x).add(root.mul(tensor([1, 2])))
  }
}

const quiet = { log: null, epochs: 4 }
const plateau = (options: optim.lrScheduler.ReduceLROnPlateauOptions) => (optimizer: optim.Optimizer) =>
  new lrScheduler.ReduceLROnPlateau(optimizer, options)

/** Learning rates after each epoch, as the schedule sets them. */
async function ratesOf(
  options: FitOptions,
  hasValidation = true,
): Promise<{ lrs: number[]; history: EpochReport[] }> {
  manualSeed(1)
  let made: optim.Optimizer | undefined
  const lrs: number[] = []
  const { history } = await trainClassifier(
    new nn.Linear(2, 2),
    batches([1, 1]),
    hasValidation ? batches([1]) : null,
    {
      ...quiet,
      optimizer: parameters => (made = new optim.SGD(parameters, { lr: 0.5 })),
      onEpoch: () => lrs.push(made!.paramGroups[0]!.lr),
      ...options,
    },
  )
  return { lrs, history }
}

describe('ReduceLROnPlateau in a training', () => {
  it('with mode min goes by the mean loss of the epoch: no decay while it falls', async () => {
    const { lrs, history } = await ratesOf({ scheduler: plateau({ patience: 0, threshold: 0 }) })
    const losses = history.map(({ loss }) => loss)
    expect(losses).toEqual([...losses].sort((a, b) => b - a))
    expect(lrs).toEqual([0.5, 0.5, 0.5, 0.5])
  })

  it('with mode max goes by the accuracy on the validation data', async () => {
    const { lrs, history } = await ratesOf({ scheduler: plateau({ mode: 'max', patience: 0, factor: 0.5 }) })
    let [best, lr] = [-Infinity, 0.5]
    const expected = history.map(({ accuracy }) => {
      if (accuracy! > best * (best > 0 ? 1 + 1e-4 : 1)) best = accuracy!
      else lr /= 2
      return lr
    })
    expect(lrs).toEqual(expected)
    expect(lrs.at(-1)).toBeLessThan(0.5)
  })

  it('goes by schedulerMetric, which sees the report', async () => {
    const seen: number[] = []
    const { lrs } = await ratesOf({
      scheduler: plateau({ mode: 'max', patience: 0, factor: 0.5 }),
      schedulerMetric: ({ epoch }) => {
        seen.push(epoch)
        return -epoch
      },
    })
    expect(seen).toEqual([1, 2, 3, 4])
    expect(lrs).toEqual([0.5, 0.25, 0.125, 0.0625])
  })

  it('is driven by a compiled training as well', async () => {
    const { lrs } = await ratesOf({
      compile: true,
      scheduler: plateau({ patience: 0, factor: 0.5 }),
      schedulerMetric: () => 1,
    })
    expect(lrs).toEqual([0.5, 0.25, 0.125, 0.0625])
  })

  it.each([
    ['mode max without validation data', { scheduler: plateau({ mode: 'max' }) }],
    ['a step at a time', { scheduler: plateau({}), schedulerInterval: 'step' }],
    ['an interval that is none', { scheduler: plateau({}), schedulerInterval: 'epochs' }],
    ['a metric that is none', { scheduler: plateau({}), schedulerMetric: () => undefined }],
    ['a function that returns nothing', { scheduler: () => {} }],
    ['a list of schedules', { scheduler: (o: optim.Optimizer) => [new lrScheduler.StepLR(o, 1)] }],
  ])('is refused with %s', async (_, options) => {
    expect(await codeOfAsync(() => ratesOf(options as never, false))).toBe('ERR_ARGUMENT')
  })

  it('is refused before any weight changes', async () => {
    const model = new nn.Linear(2, 2)
    const before = model.weight.tolist()
    const training = trainClassifier(model, batches([1]), null, {
      ...quiet,
      scheduler: plateau({ mode: 'max' }),
    })
    await expect(training).rejects.toThrow(/scheduler: expected validation data/)
    expect(model.weight.tolist()).toEqual(before)
  })
})

it('schedules of one’s own may have a step with or without a metric', async () => {
  const calls: unknown[][] = []
  const scheduler = () => ({ step: (...values: unknown[]) => void calls.push(values) })
  await ratesOf({ scheduler, epochs: 1 })
  await ratesOf({ scheduler, schedulerMetric: () => 7, epochs: 1 })
  expect(calls).toEqual([[], [7]])
})

describe('a gradient that is not finite, of a finite loss', () => {
  const message =
    /the norm of the gradient is (NaN|Infinity) at .*step 4, of a loss that is finite: total=0\./

  async function stopped(
    options: FitOptions,
  ): Promise<{ model: Rooted; good: Record<string, unknown>; error: unknown }> {
    manualSeed(2)
    const model = new Rooted()
    let good: Record<string, unknown> = {}
    let error: unknown
    try {
      await trainClassifier(model, batches([1, 1, 1, 0, 1]), null, {
        ...quiet,
        onStep: () => (good = valuesOf(model)),
        ...options,
      })
    } catch (thrown) {
      error = thrown
    }
    return { model, good, error }
  }

  const valuesOf = (model: Rooted) =>
    Object.fromEntries(model.namedParameters().map(([name, each]) => [name, each.tolist()]))

  describe.each([{ compile: false }, { compile: true }])('(%o)', options => {
    it.each([1, Infinity])(
      'stops the training before weights change, where norms are clipped to %d',
      async most => {
        const { model, good, error } = await stopped({ ...options, clipGradNorm: most })
        expect(error).toBeInstanceOf(AlambicError)
        expect(error).toMatchObject({ code: 'ERR_NAN_LOSS' })
        expect((error as Error).message).toMatch(message)
        expect(good).not.toEqual({})
        expect(valuesOf(model)).toEqual(good)
      },
    )

    it('clips as before where the norm is finite', async () => {
      const [clipped, free] = await Promise.all(
        [1e9, undefined].map(async clipGradNorm => {
          manualSeed(2)
          const model = new Rooted()
          const more = clipGradNorm === undefined ? {} : { clipGradNorm }
          await trainClassifier(model, batches([1, 1, 1]), null, { ...quiet, ...options, ...more })
          return valuesOf(model)
        }),
      )
      expect(clipped).toEqual(free)
    })
  })

  it.each(['SGD', 'Adam', 'AdamW'] as const)('leaves %s alone where the device decides', async name => {
    manualSeed(2)
    const model = new Rooted()
    const parameters = model.parameters()
    const optimizer =
      name === 'SGD' ? new optim.SGD(parameters, { lr: 0.1, momentum: 0.9 }) : new optim[name](parameters)
    const steps = new CompiledSteps({
      loss: ({ data, labels }) => ({ total: nn.functional.crossEntropy(model.forward(data), labels) }),
      parameters,
      optimizer,
      clipGradNorm: 1,
      trained: [model],
      used: [],
      log: null,
      runner: 'device',
    })
    let good = {}
    let state = ''
    let error: unknown
    let step = 0
    for (const batch of batches([1, 1, 1, 0])) {
      const { values } = scope(() => ({ values: steps.start(batch, `step ${++step}`) }))
      try {
        await values
        good = valuesOf(model)
        state = JSON.stringify(optimizer.stateDict().state)
      } catch (thrown) {
        error = thrown
      }
    }
    expect(steps.report.steps).toBe(1)
    expect((error as Error | undefined)?.message).toMatch(message)
    expect(valuesOf(model)).toEqual(good)
    expect(JSON.stringify(optimizer.stateDict().state)).toBe(state)
    steps.release()
  })

  it('is refused as an option where it is none', async () => {
    for (const clipGradNorm of [-1, NaN, '1', null] as never[])
      expect(await codeOfAsync(() => ratesOf({ clipGradNorm }))).toBe('ERR_ARGUMENT')
  })
})

describe('schedules that would do nothing are refused', () => {
  const failure = async (options: FitOptions): Promise<AlambicError> => {
    const error: unknown = await trainClassifier(new nn.Linear(2, 2), batches([1]), null, {
      ...quiet,
      ...options,
    }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(AlambicError)
    return error as AlambicError
  }
  const other = new optim.SGD([new nn.Parameter(tensor([1]))], { lr: 0.1 })

  it.each([
    ['StepLR', () => new lrScheduler.StepLR(other, 1)],
    ['ReduceLROnPlateau', () => new lrScheduler.ReduceLROnPlateau(other)],
    ['SequentialLR', () => new lrScheduler.SequentialLR(other, [new lrScheduler.StepLR(other, 1)], [])],
  ])('a %s of another optimizer', async (_, scheduler) => {
    const { code, message } = await failure({ scheduler })
    expect(code).toBe('ERR_ARGUMENT')
    expect(message).toMatch(/^scheduler: expected a schedule of the optimizer that the function is given/)
  })

  it('a metric without a schedule, and beside one that counts', async () => {
    const schedulerMetric = ({ loss }: EpochReport) => loss
    expect((await failure({ schedulerMetric })).message).toMatch(/^schedulerMetric: expected a scheduler/)
    const scheduler = (optimizer: optim.Optimizer) => new lrScheduler.StepLR(optimizer, 1)
    expect((await failure({ schedulerMetric, scheduler })).message).toMatch(/got StepLR/)
  })

  it('a metric with a schedule of one’s own is given to it', async () => {
    const metrics: number[] = []
    const scheduler = () => ({ step: (metric: number) => metrics.push(metric) })
    const schedulerMetric = ({ epoch }: EpochReport) => epoch
    await trainClassifier(new nn.Linear(2, 2), batches([1]), null, { ...quiet, scheduler, schedulerMetric })
    expect(metrics).toEqual([1, 2, 3, 4])
  })
})

describe('What makes an optimizer or a schedule', () => {
  const fit = (options: FitOptions, model = new nn.Linear(2, 2)) =>
    trainClassifier(model, batches([1]), null, { epochs: 1, log: null, ...options })

  it.each([
    ['a class for the optimizer', { optimizer: optim.SGD }, 'optimizer: expected a function that makes .* got class SGD$'],
    ['nothing of the kind', { optimizer: {} }, 'optimizer: expected a function that makes an optimizer, such as .*, got {}$'],
    ['an instance', { optimizer: new optim.SGD(new nn.Linear(1, 1).parameters()) }, 'optimizer: .* got SGD$'],
    ['a function that returns a class', { optimizer: () => optim.SGD }, 'optimizer: expected .* returns an optimizer, got class SGD$'],
    ['a class for the schedule', { scheduler: lrScheduler.StepLR }, 'scheduler: expected a function that makes .* got class StepLR$'],
    ['a class for the log', { log: class Log {} }, 'log: expected a function, or null, got class Log$'],
    ['a class for a callback', { onEpoch: class Report {} }, 'onEpoch: expected a function, got class Report$'],
  ])('is a function, not %s', async (_, options, message) => {
    const error = (await fit(options as never).catch((thrown: unknown) => thrown)) as AlambicError
    expect(error).toBeInstanceOf(AlambicError)
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toMatch(new RegExp(message))
  }) // prettier-ignore

  it('says that nothing is trainable where all parameters are frozen', async () => {
    const model = new nn.Linear(2, 2).requiresGrad(false)
    const error = (await fit({}, model).catch((thrown: unknown) => thrown)) as AlambicError
    expect(error.code).toBe('ERR_AUTOGRAD')
    expect(error.message).toBe(
      'expected parameters to train, got 2, of which requiresGrad is false: nothing is trainable; ' +
        'model.requiresGrad(true) makes them so',
    )
    // The function that makes the optimizer may still choose.
    const thaw = (parameters: Tensor[]) => {
      for (const each of parameters) each.requiresGrad = true
      return new optim.SGD(parameters)
    }
    expect((await fit({ optimizer: thaw }, model)).history).toHaveLength(1)
  })
})
