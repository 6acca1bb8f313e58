/** What optimizers do besides the arithmetic: groups, state, gradients that are missing or odd, bad input. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  isGradEnabled,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { expectError } from './codes.js'
import { randn, tensor, zeros } from './device.js'

function parameter(shape: number[] = [2, 3]): Tensor {
  const made = randn(shape)
  made.requiresGrad = true
  return made
}

function withGradient(made: Tensor, gradient: Tensor = torch.onesLike(made)): Tensor {
  made.grad = gradient
  return made
}

const [major, minor] = native.systemInfo().torchVersion.split('.').map(Number) as [number, number]
const hasFusedOnCpu = major > 2 || (major === 2 && minor >= 4)

/** Beside float32 and float64. libtorch 1.13 has no arithmetic in float16 on the CPU. */
const trainable: DType[] = ['bfloat16', 'complex128', ...(hasFusedOnCpu ? (['float16'] as const) : [])]

const optimizers = [
  ['SGD', (params: Tensor[]) => new optim.SGD(params, { lr: 0.1, momentum: 0.9 })],
  ['Adam', (params: Tensor[]) => new optim.Adam(params, { lr: 0.1, amsgrad: true })],
  ['AdamW', (params: Tensor[]) => new optim.AdamW(params, { lr: 0.1 })],
] as const

describe.each(optimizers)('%s', (_, make) => {
  test('leaves a parameter without gradient alone, and keeps no state for it', () => {
    const [a, b] = [withGradient(parameter()), parameter()]
    const before = b.tolist()
    const optimizer = make([a, b])
    optimizer.step()
    expect(b.tolist()).toEqual(before)
    expect(Object.keys(optimizer.stateDict().state)).toEqual(['0'])
  })

  test('records nothing, and tells autograd that the parameter has changed', () => {
    const a = parameter()
    const optimizer = make([a])
    const loss = a.mul(a).sum() // needs the value of a for its gradient
    withGradient(a)
    optimizer.step()
    expect(a.isLeaf).toBe(true)
    expectError(() => loss.backward(), 'ERR_AUTOGRAD', /modified by an inplace operation/)
  })

  test('takes channels-last parameters with gradients in row-major order', () => {
    const values = randn([4, 3, 2, 2])
    const gradient = randn([4, 3, 2, 2])
    const plain = values.clone()
    const channelsLast = values.clone({ memoryFormat: 'channelsLast' })
    for (const each of [plain, channelsLast]) {
      each.requiresGrad = true
      const optimizer = make([each])
      for (let i = 0; i < 3; i++) {
        each.grad = gradient.clone()
        optimizer.step()
      }
      for (const [name, state] of Object.entries(optimizer.stateDict().state[0]!))
        if (name !== 'step') expect((state as Tensor).strides).toEqual(each.strides)
    }
    expect(channelsLast.isContiguous({ memoryFormat: 'channelsLast' })).toBe(true)
    expect(torch.allclose(plain, channelsLast.contiguous(), { rtol: 1e-6, atol: 1e-7 })).toBe(true)
  })

  test('takes parameters whose memory has gaps', () => {
    const storage = zeros([3, 8])
    const gaps = torch.asStrided(storage, [3, 4], [8, 2])
    const gradient = randn([3, 4])
    const plain = zeros([3, 4])
    for (const each of [gaps, plain]) {
      each.requiresGrad = true
      withGradient(each, gradient.clone())
      make([each]).step()
    }
    expect(torch.allclose(gaps, plain)).toBe(true)
    expect(torch.slice(storage, { dim: 1, start: 1, step: 2 }).abs().sum().item()).toBe(0)
  })

  test.each(trainable)('trains in %s', dtype => {
    const x = tensor([1, -2, 3], { dtype, requiresGrad: true })
    const optimizer = make([x])
    for (let i = 0; i < 50; i++) {
      withGradient(x, x.detach().clone())
      optimizer.step()
    }
    expect(x.dtype).toBe(dtype)
    expect(torch.abs(x).to('float32').max().item()).toBeLessThan(0.7)
  })

  test('keeps its state with a parameter that changes its dtype', () => {
    const layer = new Holder(parameter())
    const optimizer = make(layer.parameters())
    withGradient(layer.weight)
    optimizer.step()
    layer.to('float64')
    optimizer.step()
    const { state } = optimizer.stateDict()
    for (const [name, value] of Object.entries(state[0]!))
      expect((value as Tensor).dtype).toBe(name === 'step' ? 'float32' : 'float64')
  })

  test('goes on bit for bit from its state dict', () => {
    const gradients = Array.from({ length: 10 }, () => randn([2, 3]))
    const a = parameter()
    const run = (made: Tensor, optimizer: optim.Optimizer, from: number, to: number) => {
      for (const gradient of gradients.slice(from, to)) {
        withGradient(made, gradient.clone())
        optimizer.step()
      }
    }
    const first = make([a])
    run(a, first, 0, 5)
    const b = a.detach().clone()
    b.requiresGrad = true
    const second = make([b])
    second.loadStateDict(first.stateDict())
    run(a, first, 5, 10)
    run(b, second, 5, 10)
    expect(b.tolist()).toEqual(a.tolist())
  })

  test('copies the state that it loads', () => {
    const a = withGradient(parameter())
    const optimizer = make([a])
    optimizer.step()
    const dict = optimizer.stateDict()
    const names = Object.keys(dict.state[0]!).filter(name => name !== 'step')
    const copies = Object.fromEntries(
      Object.entries(dict.state[0]!).map(([name, value]) => [name, (value as Tensor).clone()]),
    )
    optimizer.loadStateDict({ ...dict, state: { 0: copies } })
    for (const name of names) copies[name]!.zero_()
    for (const name of names)
      expect((optimizer.stateDict().state[0]![name] as Tensor).abs().sum().item()).toBeGreaterThan(0)
  })

  test('holds on to no memory from step to step', () => {
    const a = parameter([16, 16])
    const optimizer = make([a])
    const step = () =>
      scope(() => {
        a.mul(a).sum().backward()
        optimizer.step()
        optimizer.zeroGrad()
      })
    step()
    const { tensors, storages, bytes } = memory()
    for (let i = 0; i < 1000; i++) step()
    expect(memory()).toMatchObject({ tensors, storages, bytes })
  })

  test('names a parameter that was disposed of, and changes none', () => {
    const [a, b] = [withGradient(parameter()), withGradient(parameter())]
    const optimizer = make([a, b])
    const before = a.tolist()
    b.dispose()
    expectError(() => optimizer.step(), 'ERR_TENSOR_RELEASED', /step: parameter 1: .*released/)
    expect(a.tolist()).toEqual(before)
  })

  test('refuses sparse gradients', () => {
    const a = parameter([3, 2])
    a.grad = torch.toSparse(zeros([3, 2]))
    expectError(() => make([a]).step(), 'ERR_NOT_IMPLEMENTED', /gradient of parameter 0 .* is sparse/)
  })

  test('refuses the result of an operation', () => {
    expectError(() => make([parameter(), parameter().mul(2)]), 'ERR_AUTOGRAD', /parameter 1 .*leaf/)
  })

  test('refuses the same parameter twice', () => {
    const a = parameter()
    expectError(() => make([a, a]), 'ERR_ARGUMENT', /parameter 1 .*twice/)
    const optimizer = make([a])
    expectError(() => optimizer.addParamGroup({ params: a }), 'ERR_ARGUMENT', /twice/)
    expect(optimizer.paramGroups.length).toBe(1)
  })

  test('refuses a learning rate below 0, at once or at the next step', () => {
    const optimizer = make([withGradient(parameter())])
    expectError(() => optimizer.addParamGroup({ params: parameter(), lr: -1 }), 'ERR_ARGUMENT', /^lr: .*-1/)
    optimizer.paramGroups[0]!.lr = NaN
    expectError(() => optimizer.step(), 'ERR_ARGUMENT', /^step: paramGroups\[0\]\.lr: .*nan/i)
  })

  test('refuses empty and odd lists of parameters', () => {
    expectError(() => make([]), 'ERR_ARGUMENT', /at least one parameter/)
    expectError(() => make(null as never), 'ERR_ARGUMENT', /params/)
    expectError(() => make([3] as never), 'ERR_ARGUMENT', /params/)
    expectError(() => make([parameter(), { params: [] }] as never), 'ERR_ARGUMENT', /params\[1\]/)
  })

  test('refuses a state dict of other groups, sizes or shapes, and then changes nothing', () => {
    const optimizer = make([withGradient(parameter()), withGradient(parameter())])
    optimizer.step()
    const before = values(optimizer)
    const dict = optimizer.stateDict()
    const group = dict.param_groups[0]!
    const two = { ...dict, param_groups: [group, group] }
    const short = { ...dict, param_groups: [{ ...group, params: [0] }] }
    expectError(() => optimizer.loadStateDict(two), 'ERR_STATE_DICT', /groups of 2 parameters, got 2, 2/)
    expectError(() => optimizer.loadStateDict(short), 'ERR_STATE_DICT', /groups of 2 parameters, got 1/)
    expectError(() => optimizer.loadStateDict({} as never), 'ERR_STATE_DICT', /param_groups/)
    const name = Object.keys(dict.state[1]!).find(each => each !== 'step')!
    const misshapen = { ...dict, state: { 0: dict.state[0]!, 1: { ...dict.state[1]!, [name]: zeros([4]) } } }
    expectError(
      () => optimizer.loadStateDict(misshapen),
      'ERR_STATE_DICT',
      new RegExp(`${name} of parameter 1`),
    )
    expect(values(optimizer)).toEqual(before)
  })
})

class Holder extends nn.Module {
  weight: nn.Parameter
  constructor(weight: Tensor) {
    super()
    this.weight = new nn.Parameter(weight)
  }
  forward() {
    return this.weight
  }
}

function values(optimizer: optim.Optimizer): unknown {
  return Object.values(optimizer.stateDict().state).map(entries =>
    Object.entries(entries).map(([name, value]) => [name, (value as Tensor).tolist()]),
  )
}

test('SGD and Adam refuse options out of range by name', () => {
  const a = parameter()
  const sgd = (options: optim.SGDOptions) => () => new optim.SGD([a], options)
  const adam = (options: optim.AdamOptions) => () => new optim.Adam([a], options)
  expectError(sgd({ momentum: -0.5 }), 'ERR_ARGUMENT', /^momentum: .*-0.5/)
  expectError(sgd({ weightDecay: -0.5 }), 'ERR_ARGUMENT', /^weightDecay: .*-0.5/)
  expectError(sgd({ nesterov: true }), 'ERR_ARGUMENT', /^nesterov: .*momentum 0/)
  expectError(sgd({ nesterov: true, momentum: 0.9, dampening: 0.1 }), 'ERR_ARGUMENT', /dampening 0.1/)
  expectError(sgd({ lr: '1' as never }), 'ERR_ARGUMENT', /^lr: .*number/)
  expectError(
    sgd({ weigthDecay: 1 } as never),
    'ERR_ARGUMENT',
    /SGD: .*"weigthDecay"; did you mean "weightDecay"\?/,
  )
  expectError(adam({ betas: [0.9, 1] }), 'ERR_ARGUMENT', /^betas\[1\]: .*1/)
  expectError(adam({ betas: [-0.1, 0.9] }), 'ERR_ARGUMENT', /^betas\[0\]: .*-0.1/)
  expectError(adam({ betas: 0.9 as never }), 'ERR_ARGUMENT', /^betas: .*two numbers/)
  expectError(adam({ eps: -1 }), 'ERR_ARGUMENT', /^eps: .*-1/)
})

test('an option that is undefined has its default', () => {
  const optimizer = new optim.Adam([parameter()], { lr: undefined, betas: undefined })
  expect(optimizer.paramGroups[0]).toMatchObject({ lr: 1e-3, betas: [0.9, 0.999] })
})

test('changing an option of a group takes effect at the next step', () => {
  const a = withGradient(zeros([2], { requiresGrad: true }))
  const optimizer = new optim.SGD([a], { lr: 1 })
  optimizer.step()
  optimizer.paramGroups[0]!.lr = 0.25
  optimizer.step()
  expect(a.tolist()).toEqual([-1.25, -1.25])
})

test('groups have options of their own, and later ones join them', () => {
  const params = Array.from({ length: 3 }, () => withGradient(zeros([1], { requiresGrad: true })))
  const optimizer = new optim.SGD([{ params: params[0]! }, { params: [params[1]!], lr: 2 }], { lr: 1 })
  optimizer.addParamGroup({ params: [params[2]!], lr: 3 })
  optimizer.step()
  expect(params.map(each => each.item())).toEqual([-1, -2, -3])
  expect(optimizer.stateDict().param_groups.map(({ lr, params }) => [lr, params])).toEqual([
    [1, [0]],
    [2, [1]],
    [3, [2]],
  ])
})

test('parameters of several dtypes train together', () => {
  const params = (['float32', 'float64', 'bfloat16'] as const).map(dtype =>
    tensor([1, 1], { dtype, requiresGrad: true }),
  )
  for (const each of params) withGradient(each)
  new optim.Adam(params, { lr: 0.5 }).step()
  for (const each of params) expect(each.sum().item()).toBeCloseTo(1, 1)
})

test('zeroGrad() drops gradients, or fills them with 0', () => {
  const a = withGradient(parameter())
  const optimizer = new optim.SGD([a, parameter()])
  optimizer.zeroGrad({ setToNone: false })
  expect(a.grad!.abs().sum().item()).toBe(0)
  optimizer.zeroGrad()
  expect(a.grad).toBeNull()
})

test('`fused` asks for a fused kernel and says where there is none', () => {
  const step = (made: Tensor) => new optim.Adam([withGradient(made)], { fused: true }).step()
  if (hasFusedOnCpu) step(parameter())
  else expectError(() => step(parameter()), 'ERR_NOT_IMPLEMENTED', /fused: libtorch .* no fused kernel/)
  const gaps = torch.asStrided(zeros([8]), [4], [2])
  gaps.requiresGrad = true
  expectError(() => step(gaps), 'ERR_NOT_IMPLEMENTED', /fused: /)
})

test('Adam makes a small net fit, and repeats bit for bit from a seed', () => {
  const train = () => {
    manualSeed(3)
    const [x, y] = [randn([32, 4]), randn([32, 1])]
    const [w1, w2] = [parameter([4, 16]), parameter([16, 1])]
    const optimizer = new optim.Adam([w1, w2], { lr: 0.05 })
    const losses: number[] = []
    for (let i = 0; i < 60; i++)
      scope(() => {
        const loss = x.matmul(w1).tanh().matmul(w2).sub(y).pow(2).mean()
        optimizer.zeroGrad()
        loss.backward()
        optimizer.step()
        losses.push(loss.item())
      })
    return losses
  }
  const losses = train()
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 10)
  expect(train()).toEqual(losses)
})

// ---- Clipping ------------------------------------------------------------------------------------------------------

test('clipGradValue_ clamps every element', () => {
  const x = withGradient(zeros([3], { requiresGrad: true }), tensor([-3, 0.25, 7]))
  optim.clipGradValue_(x, 0.5)
  expect(x.grad!.tolist()).toEqual([-0.5, 0.25, 0.5])
  expectError(() => optim.clipGradValue_(x, -1), 'ERR_ARGUMENT', /^clipValue: .*-1/)
})

test('clipGradNorm_ is 0 without gradients, and spans dtypes', () => {
  expect(optim.clipGradNorm_([parameter()], 1).item()).toBe(0)
  const a = withGradient(zeros([1], { requiresGrad: true }), tensor([3]))
  const b = withGradient(
    zeros([1], { dtype: 'float64', requiresGrad: true }),
    tensor([4], { dtype: 'float64' }),
  )
  expect(optim.clipGradNorm_([a, b], 1).item()).toBeCloseTo(5, 6)
  expect(a.grad!.item()).toBeCloseTo(0.6, 5)
  expect(b.grad!.item()).toBeCloseTo(0.8, 5)
})

test('clipGradNorm_ reports a norm that is not finite only when asked', () => {
  const x = withGradient(zeros([2], { requiresGrad: true }), tensor([1, Infinity]))
  expectError(() => optim.clipGradNorm_(x, 1, { errorIfNonfinite: true }), 'ERR_NAN_LOSS', /norm .*inf/)
  expect(x.grad!.tolist()).toEqual([1, Infinity])
  expect(optim.clipGradNorm_(x, 1).item()).toBe(Infinity)
  expectError(() => optim.clipGradNorm_([3] as never, 1), 'ERR_ARGUMENT', /params\[0\]/)
  expectError(() => optim.clipGradNorm_(x, NaN), 'ERR_ARGUMENT', /^maxNorm: .*nan/i)
})

// ---- Schedules -----------------------------------------------------------------------------------------------------

describe('schedules', () => {
  const { lrScheduler } = optim
  const make = () => new optim.SGD([parameter()], { lr: 1 })

  test('refuse what is no optimizer, and options out of range', () => {
    expectError(() => new lrScheduler.StepLR({} as never, 3), 'ERR_ARGUMENT', /^optimizer: /)
    expectError(() => new lrScheduler.StepLR(make(), 0), 'ERR_ARGUMENT', /^stepSize: .*0/)
    expectError(() => new lrScheduler.LinearLR(make(), { startFactor: 0 }), 'ERR_ARGUMENT', /^startFactor: /)
    expectError(() => new lrScheduler.LinearLR(make(), { endFactor: 2 }), 'ERR_ARGUMENT', /^endFactor: /)
    expectError(() => new lrScheduler.OneCycleLR(make(), 1), 'ERR_ARGUMENT', /^totalSteps: /)
    expectError(
      () => new lrScheduler.OneCycleLR(make(), [1, 2], { totalSteps: 3 }),
      'ERR_ARGUMENT',
      /^maxLr: /,
    )
    expectError(() => new lrScheduler.ReduceLROnPlateau(make(), { factor: 1 }), 'ERR_ARGUMENT', /^factor: /)
    expectError(() => new lrScheduler.LambdaLR(make(), []), 'ERR_ARGUMENT', /^lrLambda: /)
    const other = new lrScheduler.ExponentialLR(make(), 0.9)
    expectError(() => new lrScheduler.SequentialLR(make(), [other], []), 'ERR_ARGUMENT', /same optimizer/)
    expectError(() => new lrScheduler.SequentialLR(make(), [], []), 'ERR_LENGTH_MISMATCH', /^milestones: /)
  })

  test('OneCycleLR ends', () => {
    const schedule = new lrScheduler.OneCycleLR(make(), 1, { totalSteps: 2 })
    schedule.step()
    schedule.step()
    expectError(() => schedule.step(), 'ERR_ARGUMENT', /beyond the cycle's totalSteps 2/)
  })

  test('taken up again at an epoch, they need the initial learning rate', () => {
    const options = { lastEpoch: 3 }
    expectError(() => new lrScheduler.StepLR(make(), 2, options), 'ERR_ARGUMENT', /initialLr/)
    const optimizer = new optim.SGD([{ params: parameter(), lr: 0.5, initialLr: 1 }])
    const schedule = new lrScheduler.StepLR(optimizer, 2, { gamma: 0.5, ...options })
    expect(schedule.lastEpoch).toBe(4)
    expect(schedule.getLastLr()).toEqual([0.25])
  })

  test('refuse a state dict that lacks a field, and change nothing', () => {
    const schedule = new lrScheduler.StepLR(make(), 2)
    const { step_size: _, ...rest } = schedule.stateDict()
    expectError(
      () => schedule.loadStateDict({ ...rest, last_epoch: 9 }),
      'ERR_STATE_DICT',
      /StepLR needs step_size/,
    )
    expect(schedule.lastEpoch).toBe(0)
  })
})

test('every name in the docs exists', () => {
  const page = readFileSync(new URL('../docs/optimizers.md', import.meta.url), 'utf8')
  const names = Array.from(page.matchAll(/\boptim\.((?:lrScheduler\.)?\w+)/g), ([, name]) => name!.split('.'))
  expect(names.length).toBeGreaterThan(10)
  for (const path of names)
    expect(
      path.reduce<unknown>((value, name) => (value as Record<string, unknown>)[name], optim),
      path.join('.'),
    ).toBeDefined()
})

describe('step(closure) refuses', () => {
  test.each([
    ['a promise', () => Promise.resolve(1)],
    ['one that rejects', () => Promise.reject(new Error('nobody waits for it'))],
    ['another kind of promise', () => ({ then: () => undefined })],
    ['an async generator', async function* () {}],
  ])('%s, and changes no parameter', (_, closure) => {
    const p = tensor([1], { requiresGrad: true })
    p.grad = tensor([1])
    const optimizer = new optim.SGD([p], { lr: 0.5 })
    noGrad(() => {
      expectError(
        () => optimizer.step(closure as () => unknown),
        'ERR_ASYNC_CALLBACK',
        /^step: closure: expected a function that returns the loss, got one that returns a promise; make it a plain/,
      )
      expect(isGradEnabled()).toBe(false)
    })
    expect(p.tolist()).toEqual([1])
  })

  test.each([null, 3, 'loss', {}, tensor(1)])('%s', closure => {
    const optimizer = new optim.SGD([zeros([1], { requiresGrad: true })])
    expectError(
      () => optimizer.step(closure as never),
      'ERR_ARGUMENT',
      /^step: closure: expected a function, got/,
    )
  })
})
