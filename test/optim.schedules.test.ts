/** Schedules at the edge of their options, what they refuse, and their state as JSON. */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { optim, tensor, zeros } from '../lib/index.js'
import { findPython } from '../scripts/find-python.js'
import { codeOf, expectError } from './codes.js'

const { lrScheduler } = optim

const make = (lr = 0.1) => new optim.SGD([zeros([2], { requiresGrad: true })], { lr, momentum: 0.5 })

function rates(schedule: { step(): void; getLastLr(): number[] }, steps: number): number[] {
  const list = [schedule.getLastLr()[0]!]
  for (let i = 0; i < steps; i++) {
    schedule.step()
    list.push(schedule.getLastLr()[0]!)
  }
  return list
}

function expectRates(schedule: { step(): void; getLastLr(): number[] }, expected: number[]): void {
  rates(schedule, expected.length - 1).forEach((lr, i) =>
    expect(lr, `epoch ${i}`).toBeCloseTo(expected[i]!, 12),
  )
}

describe('OneCycleLR', () => {
  test.each([
    [10, 0.1],
    [20, 0.05],
    [2, 0.5],
    [1, 1],
    [3, 1 / 3],
  ])('of %d steps whose rise has no length (pctStart %d) begins at the top', (totalSteps, pctStart) => {
    for (const threePhase of [false, true])
      for (const annealStrategy of ['cos', 'linear'] as const) {
        const optimizer = make()
        const options = { totalSteps, pctStart, threePhase, annealStrategy }
        const list = rates(new lrScheduler.OneCycleLR(optimizer, 0.5, options), totalSteps)
        expect(list.every(lr => Number.isFinite(lr) && lr >= 0)).toBe(true)
        expect(list[0]).toBeCloseTo(0.5, 6)
        expect(optimizer.paramGroups[0]!.momentum).toBeGreaterThan(0)
        if (totalSteps > 3) expect(list[totalSteps - 1]).toBeCloseTo(0.5 / 25 / 1e4, 9)
      }
  })

  test("has PyTorch's numbers where the rise is shorter than a step, and where it is all there is", () => {
    // torch 2.13, OneCycleLR(o, 1.0, total_steps=…, pct_start=…, cycle_momentum=False)
    const cycle = (totalSteps: number, pctStart: number, more = {}) =>
      new lrScheduler.OneCycleLR(make(), 1, { totalSteps, pctStart, cycleMomentum: false, ...more })
    expectRates(cycle(1, 0.3), [4e-6, 0.6112620219362891])
    expectRates(cycle(1, 0.3, { threePhase: true }), [4e-6, 0.03247054905757095])
    expectRates(
      cycle(10, 0.05),
      [
        0.9931806789787544, 0.9397371166557421, 0.8386414312497273, 0.7008489089356355, 0.5412915075774754,
        0.3772597474005747, 0.2265290148351029, 0.10543332358282206, 0.027095270784166084, 4e-6,
      ],
    )
    expectRates(
      cycle(5, 0.3, { divFactor: 0.5 }),
      [2.0, 0.9504943370644193, 0.6113382148847615, 0.18841744805081914, 0.0002],
    )
  })

  test.each([
    { divFactor: 0 },
    { finalDivFactor: 0 },
    { divFactor: -1 },
    { finalDivFactor: NaN },
    { divFactor: '25' },
    { pctStart: NaN },
    { pctStart: '0.3' },
    { baseMomentum: -1 },
    { maxMomentum: 'high' },
    { maxMomentum: null },
    { cycleMomentum: 'no' },
    { lastEpoch: 0.5 },
    { totalSteps: 0 },
    { totalSteps: 2.5 },
  ])('refuses %o, and changes no group', options => {
    const optimizer = make()
    const before = JSON.stringify(optimizer.stateDict())
    expect(
      codeOf(() => new lrScheduler.OneCycleLR(optimizer, 1, { totalSteps: 5, ...options } as never)),
    ).toBe('ERR_ARGUMENT')
    expect(JSON.stringify(optimizer.stateDict())).toBe(before)
  })

  test.each([NaN, -1, '1', null, undefined, [NaN]])('refuses the maximum %j', maxLr => {
    expect(codeOf(() => new lrScheduler.OneCycleLR(make(), maxLr as never, { totalSteps: 5 }))).toBe(
      'ERR_ARGUMENT',
    )
  })

  test('refuses what is no optimizer', () => {
    expect(codeOf(() => new lrScheduler.OneCycleLR({} as never, 1, { totalSteps: 5 }))).toBe('ERR_ARGUMENT')
  })
})

const python = findPython()

const grid = `
import json, math, torch, warnings
warnings.simplefilter('ignore')
def moments(optimizer):
    group = optimizer.param_groups[0]
    return [group['lr'], group['momentum']]
def cycle(steps, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.5)
    try:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, **options)
        values = [moments(optimizer)]
        for _ in range(1, steps):
            schedule.step()
            values.append(moments(optimizer))
    except ZeroDivisionError:
        return None
    return values if all(math.isfinite(each) for pair in values for each in pair) else None
print(json.dumps([
    [dict(totalSteps=steps, pctStart=pct, threePhase=three, annealStrategy=strategy),
     cycle(steps, pct_start=pct, three_phase=three, anneal_strategy=strategy)]
    for steps in (*range(1, 11), 20, 60) for pct in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.9, 1.0)
    for three in (False, True) for strategy in ('cos', 'linear')]))
`

describe.skipIf(typeof python === 'string')('OneCycleLR of few and many steps', () => {
  test("has PyTorch's rates and momenta, and finite ones that begin at the top where PyTorch divides by 0", () => {
    if (typeof python === 'string') return
    const run = spawnSync(python.executable, ['-c', grid], { encoding: 'utf8', maxBuffer: 2 ** 28 })
    expect(run.status, run.stderr).toBe(0)
    const cases = JSON.parse(run.stdout) as [optim.lrScheduler.OneCycleLROptions, number[][] | null][]
    expect(cases.filter(([, values]) => values === null)).toHaveLength(28)
    const wrong: string[] = []
    for (const [options, expected] of cases) {
      const optimizer = make()
      const [group] = optimizer.paramGroups as unknown as [{ lr: number; momentum: number }]
      const schedule = new lrScheduler.OneCycleLR(optimizer, 1, options)
      for (let step = 0; step <= options.totalSteps!; step++) {
        if (step > 0) schedule.step()
        const values = [group.lr, group.momentum]
        // PyTorch allows one step more than the cycle has, which leads anywhere there.
        const fits =
          expected === null || step === options.totalSteps
            ? values.every(each => each >= 0 && each <= 1) && (step > 0 || group.lr === 1)
            : expected[step]!.every((each, i) => Math.abs(values[i]! - each) < 1e-14)
        if (!fits) wrong.push(`${JSON.stringify(options)}, step ${step}: ${values.join(', ')}`)
      }
    }
    expect(wrong).toEqual([])
  }, 60_000)
})

describe('OneCycleLR whose pctStart · totalSteps is 1 but for rounding', () => {
  test.each([
    [49, 1 / 49],
    [98, 1 / 98],
    [107, 1 / 107],
    [161, 1 / 161],
    [10, 0.10000000000000002],
    [11, 0.09090909090909093],
    [7, 0.1428571428571429],
  ])('begins at the top (%d steps, pctStart %d)', (totalSteps, pctStart) => {
    for (const threePhase of [true, false])
      for (const annealStrategy of ['cos', 'linear'] as const) {
        const optimizer = make()
        const options = { totalSteps, pctStart, threePhase, annealStrategy }
        const [first, ...others] = rates(new lrScheduler.OneCycleLR(optimizer, 0.5, options), totalSteps - 1)
        expect(first, JSON.stringify(options)).toBeCloseTo(0.5, 12)
        others.forEach((lr, i) => expect(lr).toBeLessThan(i === 0 ? first! : others[i - 1]!))
      }
  })
})

describe('a schedule that comes a rounding error below 0 is at 0', () => {
  const falling: [string, (o: optim.Optimizer) => optim.lrScheduler.LRScheduler, number][] = [
    ['a line to 0', o => new lrScheduler.LinearLR(o, { endFactor: 0 }), 5],
    ['a line of 7', o => new lrScheduler.LinearLR(o, { startFactor: 0.7, endFactor: 0, totalIters: 7 }), 7],
    ['a line of 100', o => new lrScheduler.LinearLR(o, { endFactor: 0, totalIters: 100 }), 100],
    ['a function', o => new lrScheduler.LambdaLR(o, epoch => (epoch < 3 ? 1 : -1e-16)), 3],
  ]
  test.each(falling)('%s', (_, schedule, epochs) => {
    for (const lr of [0.1, 1, 3e-4, 1e4]) {
      const optimizer = make(lr)
      const list = rates(schedule(optimizer), epochs + 3)
      expect(list.every(each => each >= 0)).toBe(true)
      for (const each of list.slice(epochs)) expect(each / lr).toBeCloseTo(0, 15)
      optimizer.step()
    }
  })

  test('two lines on one optimizer, and one in a sequence', () => {
    const optimizer = make()
    const lines = [0, 1].map(() => new lrScheduler.LinearLR(optimizer, { endFactor: 0 }))
    for (let i = 0; i < 8; i++) for (const line of lines) line.step()
    expect(optimizer.paramGroups[0]!.lr).toBe(0)
    const other = make()
    const sequence = new lrScheduler.SequentialLR(
      other,
      [new lrScheduler.LinearLR(other, { endFactor: 0 }), new lrScheduler.LambdaLR(other, () => 0.5)],
      [7],
    )
    expectRates(sequence, [0.1 / 3, 0.08 / 3, 0.06 / 3, 0.04 / 3, 0.02 / 3, 0, 0, 0.05, 0.05])
  })

  test.each([1, 7, 100, 1000])('a cosine of %d epochs that comes down again to a first rate of 0', tMax => {
    for (const base of [0, 1e-9]) {
      const list = rates(new lrScheduler.CosineAnnealingLR(make(base), tMax, { etaMin: 0.5 }), 6 * tMax + 3)
      const exact = (epoch: number) => 0.5 + ((base - 0.5) * (1 + Math.cos((Math.PI * epoch) / tMax))) / 2
      expect(list.filter((lr, epoch) => !(lr >= 0 && Math.abs(lr - exact(epoch)) < 1e-9))).toEqual([])
    }
  })

  test('what is further below is an error, and so is anything below a rate of 0', () => {
    for (const factor of [-1e-11, -1e-3, -Infinity])
      expectError(
        () => new lrScheduler.LambdaLR(make(), () => factor),
        'ERR_ARGUMENT',
        /learning rate of group 0 at epoch 0: expected a finite number of at least 0, got -/,
      )
    const optimizer = make(0.1)
    const cosine = new lrScheduler.CosineAnnealingLR(optimizer, 4, { etaMin: 0.5 })
    for (let i = 0; i < 5; i++) cosine.step()
    optimizer.paramGroups[0]!.lr = 0
    expectError(() => cosine.step(), 'ERR_ARGUMENT', /CosineAnnealingLR: learning rate .* got -/)
  })

  test("the state of PyTorch's schedule and optimizer at -1.48e-18 loads", () => {
    const optimizer = make()
    const line = new lrScheduler.LinearLR(optimizer, { endFactor: 0 })
    const lr = -1.480297366166875e-18
    line.loadStateDict({ ...line.stateDict(), last_epoch: 5, _step_count: 6, _last_lr: [lr] })
    const dict = optimizer.stateDict()
    optimizer.loadStateDict({ ...dict, param_groups: [{ ...dict.param_groups[0]!, lr }] })
    expect(optimizer.paramGroups[0]!.lr).toBe(0)
    line.step()
    expect(line.getLastLr()).toEqual([0])
    const state = line.stateDict()
    expect(codeOf(() => line.loadStateDict({ ...state, _last_lr: [-1e-3] }))).toBe('ERR_STATE_DICT')
    const wrong = { ...dict, param_groups: [{ ...dict.param_groups[0]!, lr: -1e-3 }] }
    expect(codeOf(() => optimizer.loadStateDict(wrong))).toBe('ERR_STATE_DICT')
  })
})

describe('LambdaLR names what its functions are and return', () => {
  test.each([
    ['1', '"1"'],
    [1n, '1n'],
    [null, 'null'],
    [undefined, 'undefined'],
    [true, 'true'],
    [[0.5], '\\[0.5\\]'],
    [{ valueOf: () => 1 }, '\\{ valueOf \\}'],
    [tensor(1), 'Tensor'],
  ])('a function that returns %s', (value, shown) => {
    const optimizer = make()
    const schedule = new lrScheduler.LambdaLR(optimizer, epoch => (epoch < 2 ? 1 : (value as number)))
    schedule.step()
    expectError(
      () => schedule.step(),
      'ERR_ARGUMENT',
      new RegExp(`^LambdaLR: lrLambda of group 0 at epoch 2: expected a number, got ${shown}$`),
    )
    expect([schedule.lastEpoch, optimizer.paramGroups[0]!.lr]).toEqual([1, 0.1])
    expect(codeOf(() => new lrScheduler.LambdaLR(optimizer, () => value as number))).toBe('ERR_ARGUMENT')
  })

  test.each([
    () => Promise.resolve(1),
    () => Promise.reject(new Error('nobody waits for it')),
    () => ({ then: () => undefined }),
    async function* () {},
  ])('an asynchronous function: %s', lambda => {
    expectError(
      () => new lrScheduler.LambdaLR(make(), lambda as never),
      'ERR_ASYNC_CALLBACK',
      /^LambdaLR: lrLambda of group 0 at epoch 0: expected a function that returns a number, got one that returns a/,
    )
  })

  test.each([1, '1', null, undefined, {}, [], [1, 2], [() => 1, () => 1], new Set([() => 1])])(
    '%s in its place',
    lambda => {
      expectError(
        () => new lrScheduler.LambdaLR(make(), lambda as never),
        'ERR_ARGUMENT',
        /^lrLambda: expected a function of the epoch, or an array of 1 \(one per group\), got /,
      )
    },
  )

  test('an entry that is none, also one that is not there', () => {
    for (const lambda of [[3], [null], Array(1)])
      expectError(
        () => new lrScheduler.LambdaLR(make(), lambda as never),
        'ERR_ARGUMENT',
        /^lrLambda\[0\]: expected a function of the epoch, got (3|null|undefined)$/,
      )
  })
})

test.each([[[4, 2]], [[1, 3, 2]], [[0.5]], [[-1]], [['2']], [[NaN]]])(
  'SequentialLR says of the milestones %j what they have to be',
  milestones => {
    const optimizer = make()
    const schedules = [...milestones, 0].map(() => new lrScheduler.StepLR(optimizer, 2))
    expectError(
      () => new lrScheduler.SequentialLR(optimizer, schedules, milestones as number[]),
      'ERR_ARGUMENT',
      /^milestones(: expected integers of at least 0, none less than the one before|\[0\]: expected an integer of at least 0), got/,
    )
  },
)

test('SequentialLR passes over a schedule between equal milestones', () => {
  const optimizer = make()
  const schedules = [1, 0.5, 0.25].map(factor => new lrScheduler.LambdaLR(optimizer, () => factor))
  expectRates(new lrScheduler.SequentialLR(optimizer, schedules, [2, 2]), [0.1, 0.1, 0.025, 0.025])
})

describe("the others have PyTorch's numbers where it has some", () => {
  test.each([
    ['a cosine of one epoch', o => new lrScheduler.CosineAnnealingLR(o, 1), [0.1, 0, 0.1, 0, 0.1]],
    [
      'a cosine that rises',
      o => new lrScheduler.CosineAnnealingLR(o, 4, { etaMin: 0.5 }),
      [0.1, 0.15857864376269049, 0.3, 0.4414213562373095, 0.5, 0.4414213562373095],
    ],
    [
      'a cosine without height',
      o => new lrScheduler.CosineAnnealingLR(o, 4, { etaMin: 0.1 }),
      [0.1, 0.1, 0.1, 0.1],
    ],
    ['steps by 0', o => new lrScheduler.StepLR(o, 2, { gamma: 0 }), [0.1, 0.1, 0, 0]],
    ['steps that grow', o => new lrScheduler.StepLR(o, 2, { gamma: 2 }), [0.1, 0.1, 0.2, 0.2, 0.4]],
    [
      'milestones in any order, one twice',
      o => new lrScheduler.MultiStepLR(o, [7, 3, 3], { gamma: 0.5 }),
      [0.1, 0.1, 0.1, 0.025, 0.025, 0.025, 0.025, 0.0125],
    ],
    ['no milestones', o => new lrScheduler.MultiStepLR(o, []), [0.1, 0.1, 0.1]],
    ['a milestone at 0', o => new lrScheduler.MultiStepLR(o, [0, 2], { gamma: 0.5 }), [0.05, 0.05, 0.025]],
    ['a line of one epoch', o => new lrScheduler.LinearLR(o, { totalIters: 1 }), [0.1 / 3, 0.1, 0.1]],
    [
      'a line to 0',
      o => new lrScheduler.LinearLR(o, { startFactor: 1, endFactor: 0, totalIters: 4 }),
      [0.1, 0.075, 0.05, 0.025, 0, 0],
    ],
  ] as [string, (o: optim.Optimizer) => optim.lrScheduler.LRScheduler, number[]][])(
    '%s',
    (_, schedule, expected) => {
      expectRates(schedule(make()), expected)
    },
  )
})

describe('schedules refuse', () => {
  const odd: [string, (o: optim.Optimizer) => unknown][] = [
    ['a cosine of 0 epochs', o => new lrScheduler.CosineAnnealingLR(o, 0)],
    ['a cosine of −2 epochs', o => new lrScheduler.CosineAnnealingLR(o, -2)],
    ['a cosine of none', o => new lrScheduler.CosineAnnealingLR(o, undefined as never)],
    ['a negative end', o => new lrScheduler.CosineAnnealingLR(o, 2, { etaMin: -1 })],
    ['an end that is NaN', o => new lrScheduler.CosineAnnealingLR(o, 2, { etaMin: NaN })],
    ['a step size of 0', o => new lrScheduler.StepLR(o, 0)],
    ['a step size of 2.5', o => new lrScheduler.StepLR(o, 2.5)],
    ['a negative gamma', o => new lrScheduler.StepLR(o, 2, { gamma: -1 })],
    ['a gamma that is NaN', o => new lrScheduler.MultiStepLR(o, [2], { gamma: NaN })],
    ['no gamma', o => new lrScheduler.ExponentialLR(o, undefined as never)],
    ['an infinite gamma', o => new lrScheduler.ExponentialLR(o, Infinity)],
    ['milestones that are no array', o => new lrScheduler.MultiStepLR(o, 3 as never)],
    ['milestones between epochs', o => new lrScheduler.MultiStepLR(o, [2.5])],
    ['negative milestones', o => new lrScheduler.MultiStepLR(o, [-1, 2])],
    ['a line of 0 epochs', o => new lrScheduler.LinearLR(o, { totalIters: 0 })],
    ['a factor that is text', o => new lrScheduler.LinearLR(o, { startFactor: '1' as never })],
    ['what is no function', o => new lrScheduler.LambdaLR(o, [3 as never])],
    ['a function that gives NaN', o => new lrScheduler.LambdaLR(o, () => NaN)],
    ['a function that gives nothing', o => new lrScheduler.LambdaLR(o, (() => {}) as never)],
    ['a function that gives less than 0', o => new lrScheduler.LambdaLR(o, () => -1)],
    ['an epoch that is none', o => new lrScheduler.StepLR(o, 2, { lastEpoch: -2 })],
    ['a plateau of factor 1', o => new lrScheduler.ReduceLROnPlateau(o, { factor: 1 })],
    ['a plateau of factor −1', o => new lrScheduler.ReduceLROnPlateau(o, { factor: -1 })],
    ['a plateau of factor NaN', o => new lrScheduler.ReduceLROnPlateau(o, { factor: NaN })],
    ['a patience that is text', o => new lrScheduler.ReduceLROnPlateau(o, { patience: '3' as never })],
    ['a negative patience', o => new lrScheduler.ReduceLROnPlateau(o, { patience: -1 })],
    ['a threshold of NaN', o => new lrScheduler.ReduceLROnPlateau(o, { threshold: NaN })],
    ['a least rate of null', o => new lrScheduler.ReduceLROnPlateau(o, { minLr: null as never })],
    ['a mode that is none', o => new lrScheduler.ReduceLROnPlateau(o, { mode: 'best' as never })],
    [
      'milestones that fall',
      o =>
        new lrScheduler.SequentialLR(
          o,
          [1, 2, 3].map(size => new lrScheduler.StepLR(o, size)),
          [4, 2],
        ),
    ],
    ['schedules that are no array', o => new lrScheduler.SequentialLR(o, 3 as never, [])],
  ]
  test.each(odd)('%s', (_, run) => {
    expect(codeOf(() => run(make()))).toBe('ERR_ARGUMENT')
  })

  test('a step to a learning rate that is none, and stay where they were', () => {
    const schedule = new lrScheduler.LambdaLR(make(), epoch => (epoch === 1 ? NaN : 1))
    for (let i = 0; i < 2; i++) {
      expect(() => schedule.step()).toThrow(
        /LambdaLR: learning rate of group 0 at epoch 1: expected .* got NaN/,
      )
      expect(schedule.lastEpoch).toBe(0)
      expect(schedule.optimizer.paramGroups[0]!.lr).toBe(0.1)
    }
  })

  test('groups that came after them', () => {
    const optimizer = make()
    const schedule = new lrScheduler.LambdaLR(optimizer, () => 1)
    optimizer.addParamGroup({ params: zeros([1], { requiresGrad: true }) })
    expect(codeOf(() => schedule.step())).toBe('ERR_LENGTH_MISMATCH')
  })
})

describe('ReduceLROnPlateau', () => {
  test.each([null, undefined, {}, [], [1], 'x', '1', true, 1n, tensor([1, 2]), zeros([0])])(
    'refuses %s for a metric, and counts no epoch',
    metric => {
      const schedule = new lrScheduler.ReduceLROnPlateau(make(), { patience: 0 })
      for (let i = 0; i < 3; i++) expect(codeOf(() => schedule.step(metric as never))).toBe('ERR_ARGUMENT')
      expect(schedule.lastEpoch).toBe(0)
      expect(schedule.getLastLr()).toEqual([0.1])
    },
  )

  test('takes numbers and tensors with one element; NaN is no improvement', () => {
    for (const metric of [1, tensor(1), tensor([[1]])]) {
      const schedule = new lrScheduler.ReduceLROnPlateau(make(), { patience: 0 })
      schedule.step(metric)
      expect(schedule.getLastLr()).toEqual([0.1])
      schedule.step(NaN)
      expect(schedule.getLastLr()[0]).toBeCloseTo(0.01, 12)
    }
  })
})

describe('state', () => {
  const all: [
    string,
    (o: optim.Optimizer) => optim.lrScheduler.LRScheduler | optim.lrScheduler.SequentialLR,
  ][] = [
    ['StepLR', o => new lrScheduler.StepLR(o, 2)],
    ['MultiStepLR', o => new lrScheduler.MultiStepLR(o, [1, 3])],
    ['ExponentialLR', o => new lrScheduler.ExponentialLR(o, 0.5)],
    ['LinearLR', o => new lrScheduler.LinearLR(o)],
    ['CosineAnnealingLR', o => new lrScheduler.CosineAnnealingLR(o, 5)],
    ['OneCycleLR', o => new lrScheduler.OneCycleLR(o, 1, { totalSteps: 20 })],
    [
      'SequentialLR',
      o => new lrScheduler.SequentialLR(o, [new lrScheduler.LinearLR(o), new lrScheduler.StepLR(o, 2)], [3]),
    ],
  ]

  test.each(all)('of a %s goes through JSON before and after steps', (_, schedule) => {
    for (const steps of [0, 4]) {
      const [one, other] = [schedule(make()), schedule(make())]
      rates(one, steps)
      other.loadStateDict(JSON.parse(JSON.stringify(one.stateDict())) as never)
      expect(other.stateDict()).toEqual(one.stateDict())
      other.optimizer.paramGroups[0]!.lr = one.optimizer.paramGroups[0]!.lr
      expect(rates(other, 3)).toEqual(rates(one, 3))
    }
  })

  test.each(['min', 'max'] as const)('of a plateau keeps its infinite best (mode %s)', mode => {
    const [one, other] = [0, 1].map(
      () => new lrScheduler.ReduceLROnPlateau(make(), { mode, patience: 0 }),
    ) as [optim.lrScheduler.ReduceLROnPlateau, optim.lrScheduler.ReduceLROnPlateau]
    const saved = one.stateDict()
    expect(saved['best']).toBe(mode === 'min' ? Infinity : -Infinity)
    const json = JSON.stringify({ scheduler: saved })
    expect(json).toContain(mode === 'min' ? '"best":"Infinity"' : '"best":"-Infinity"')
    other.loadStateDict((JSON.parse(json) as { scheduler: never }).scheduler)
    expect(other.stateDict()).toEqual(saved)
    for (const each of [one, other]) {
      each.step(-3)
      each.step(3)
      each.step(0)
    }
    expect(other.stateDict()).toEqual(one.stateDict())
  })

  test('of a plateau keeps −0', () => {
    const schedule = new lrScheduler.ReduceLROnPlateau(make())
    schedule.step(-0)
    const other = new lrScheduler.ReduceLROnPlateau(make())
    other.loadStateDict(JSON.parse(JSON.stringify(schedule.stateDict())) as never)
    expect(other.stateDict()['best']).toBe(-0)
  })

  test('with a value that no option could have is refused, and nothing changes', () => {
    const plateau = new lrScheduler.ReduceLROnPlateau(make())
    const before = plateau.stateDict()
    const wrong = {
      best: null,
      mode: 'best',
      factor: 1,
      patience: '3',
      min_lrs: [0, 0],
      eps: NaN,
      last_epoch: -2,
    }
    for (const [name, value] of Object.entries(wrong)) {
      expect(
        codeOf(() => plateau.loadStateDict({ ...before, [name]: value })),
        name,
      ).toBe('ERR_STATE_DICT')
      expect(plateau.stateDict()).toEqual(before)
    }
    const steps = new lrScheduler.StepLR(make(), 2)
    for (const change of [
      { step_size: 0 },
      { gamma: null },
      { base_lrs: [1, 2] },
      { _last_lr: ['1'] },
      { _step_count: 0.5 },
    ])
      expect(codeOf(() => steps.loadStateDict({ ...steps.stateDict(), ...change }))).toBe('ERR_STATE_DICT')
    expect(codeOf(() => steps.loadStateDict(null as never))).toBe('ERR_STATE_DICT')
    expect(codeOf(() => steps.loadStateDict('abc' as never))).toBe('ERR_STATE_DICT')
  })

  test('of another schedule is refused', () => {
    const steps = new lrScheduler.StepLR(make(), 2).stateDict()
    expect(() => new lrScheduler.ExponentialLR(make(), 0.5).loadStateDict(steps)).toThrow(
      /ExponentialLR has no step_size: the state dict is that of another schedule/,
    )
  })

  test('of one schedule in a sequence that does not fit leaves all as they were', () => {
    const sequence = all.at(-1)![1](make())
    const before = sequence.stateDict()
    const [first, second] = before['_schedulers'] as [object, object]
    const broken = {
      ...before,
      last_epoch: 9,
      _schedulers: [
        { ...first, last_epoch: 9 },
        { ...second, gamma: null },
      ],
    }
    expect(codeOf(() => sequence.loadStateDict(broken))).toBe('ERR_STATE_DICT')
    expect(sequence.stateDict()).toEqual(before)
  })

  test('takes what PyTorch saves besides', () => {
    const python = {
      factor: 0.1, default_min_lr: 0, min_lrs: [0], patience: 10, cooldown: 0, eps: 1e-8, last_epoch: 0, _last_lr: [0.1],
      mode_worse: Infinity, mode: 'min', threshold: 1e-4, threshold_mode: 'rel', best: Infinity, cooldown_counter: 0,
      num_bad_epochs: 3,
    } // prettier-ignore
    const schedule = new lrScheduler.ReduceLROnPlateau(make())
    schedule.loadStateDict(python)
    expect(schedule.stateDict()['num_bad_epochs']).toBe(3)
    const steps = new lrScheduler.StepLR(make(), 2)
    steps.loadStateDict({ ...steps.stateDict(), _is_initial: false, _get_lr_called_within_step: false })
  })
})

describe('Groups that changed after the schedule was made', () => {
  test('are no part of a cycle, and nothing is changed', () => {
    for (const cycleMomentum of [true, false]) {
      const optimizer = make()
      const schedule = new lrScheduler.OneCycleLR(optimizer, 1, { totalSteps: 10, cycleMomentum })
      optimizer.addParamGroup({ params: zeros([1], { requiresGrad: true }) })
      const before = optimizer.paramGroups.map(({ lr, momentum }) => [lr, momentum])
      expectError(
        () => schedule.step(),
        'ERR_ARGUMENT',
        /^OneCycleLR: paramGroups\[1\]\.initialLr: expected a group .* after addParamGroup\(\)$/,
      )
      expect(optimizer.paramGroups.map(({ lr, momentum }) => [lr, momentum])).toEqual(before)
    }
  })

  test.each([
    ['StepLR', (optimizer: optim.SGD) => new lrScheduler.StepLR(optimizer, 1)],
    ['ExponentialLR', (optimizer: optim.SGD) => new lrScheduler.ExponentialLR(optimizer, 0.5)],
    ['ReduceLROnPlateau', (optimizer: optim.SGD) => new lrScheduler.ReduceLROnPlateau(optimizer)],
  ])('have learning rates that are numbers: %s', (name, schedule) => {
    const optimizer = make()
    const made = schedule(optimizer)
    optimizer.paramGroups[0]!.lr = '1' as never
    expectError(
      () => made.step(1),
      'ERR_ARGUMENT',
      new RegExp(`^${name}: paramGroups\\[0\\]\\.lr: expected a number, got "1"$`),
    )
  })
})
