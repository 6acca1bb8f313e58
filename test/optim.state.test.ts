/** The state of optimizers: what fits a parameter, what is taken from a state dict, and its form in JSON. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  fromTypedArray,
  loadCheckpoint,
  noGrad,
  ones,
  optim,
  randn,
  tensor,
  torch,
  zeros,
  type Tensor,
} from '../lib/index.js'
import { findPython } from '../scripts/find-python.js'
import { codeOf, expectError } from './codes.js'
import { folderWith } from './data.fixtures.js'

function parameter(shape: number[] = [2, 3]): Tensor {
  const made = randn(shape)
  made.requiresGrad = true
  made.grad = torch.onesLike(made)
  return made
}

const optimizers = [
  ['SGD', (params: Tensor[], more = {}) => new optim.SGD(params, { lr: 0.1, momentum: 0.9, ...more })],
  ['Adam', (params: Tensor[], more = {}) => new optim.Adam(params, { lr: 0.1, amsgrad: true, ...more })],
  ['AdamW', (params: Tensor[], more = {}) => new optim.AdamW(params, { lr: 0.1, ...more })],
] as const

const kernels = [{}, { fused: false }, { fused: false, foreach: false }]

describe.each(optimizers)('%s: a parameter that changes in place', (_, make) => {
  test.each(kernels)('and has another size than its state is an error that names both (%o)', kernel => {
    const [other, p] = [parameter(), parameter()]
    const optimizer = make([other, p], kernel)
    optimizer.step()
    const before = other.tolist()
    noGrad(() => p.set_(zeros([64, 3])))
    p.grad = ones([64, 3])
    expectError(
      () => optimizer.step(),
      'ERR_SHAPE_MISMATCH',
      /parameter 1 \(float32 \(64, 3\)\) is float32 \(2, 3\)/,
    )
    expect(other.tolist()).toEqual(before)
    expect(p.tolist()).toEqual(zeros([64, 3]).tolist())
  })

  test('and has as many elements in another shape is an error too', () => {
    const p = parameter([2, 3])
    const optimizer = make([p])
    optimizer.step()
    noGrad(() => p.set_(zeros([3, 2])))
    p.grad = ones([3, 2])
    expectError(() => optimizer.step(), 'ERR_SHAPE_MISMATCH', /parameter 0 .*\(3, 2\).*\(2, 3\)/)
  })

  test('and is smaller is an error, after resize_ as after set_', () => {
    const p = parameter([8, 3])
    const optimizer = make([p])
    optimizer.step()
    p.requiresGrad = false
    p.resize_([2, 3])
    p.requiresGrad = true
    p.grad = ones([2, 3])
    expectError(() => optimizer.step(), 'ERR_SHAPE_MISMATCH', /parameter 0/)
  })

  test('goes on after a state that fits was loaded, and without one from the beginning', () => {
    const p = parameter()
    const optimizer = make([p])
    optimizer.step()
    noGrad(() => p.set_(zeros([4])))
    p.grad = ones([4])
    optimizer.loadStateDict({ ...optimizer.stateDict(), state: {} })
    optimizer.step()
    expect(p.sum().item()).toBeLessThan(0)
  })

  test('a gradient of another shape is an error', () => {
    const p = parameter()
    const optimizer = make([p])
    optimizer.step()
    p.grad = ones([2, 3])
    noGrad(() => p.set_(zeros([3])))
    expectError(() => optimizer.step(), 'ERR_SHAPE_MISMATCH', /parameter 0/)
  })

  test('a state tensor that was resized by hand is an error', () => {
    const p = parameter()
    const optimizer = make([p])
    optimizer.step()
    for (const value of Object.values(optimizer.stateDict().state[0]!)) (value as Tensor).resize_([0])
    expectError(() => optimizer.step(), 'ERR_SHAPE_MISMATCH', /parameter 0/)
  })

  test('an expanded parameter is refused before its state changes', () => {
    const p = torch.expand(zeros([1]), [4])
    p.requiresGrad = true
    p.grad = ones([4])
    const optimizer = make([p])
    expectError(() => optimizer.step(), 'ERR_ARGUMENT', /parameter 0 .*expanded/)
    expect(optimizer.stateDict().state).toEqual({})
  })

  test('strides of dimensions of one element do not matter', () => {
    const p = torch.asStrided(zeros([4]), [4, 1, 1], [1, 7, 9])
    const plain = zeros([4, 1, 1], { requiresGrad: true })
    p.requiresGrad = true
    for (const each of [p, plain]) each.grad = ones([4, 1, 1])
    const both = make([p, plain])
    both.step()
    both.step()
    expect(p.tolist()).toEqual(plain.tolist())
  })
})

// ---- State dicts ---------------------------------------------------------------------------------------------------

type Dict = optim.OptimizerStateDict

/** Of an optimizer that has taken a step, with changes. */
function changed(dict: Dict, options: Record<string, unknown>, state: Record<string, unknown> = {}): Dict {
  return {
    state: { 0: { ...dict.state[0], ...(state as Dict['state'][string]) } },
    param_groups: [{ ...dict.param_groups[0]!, ...options }],
  }
}

function snapshot(optimizer: optim.Optimizer): string {
  return JSON.stringify(optimizer.stateDict())
}

describe.each(optimizers)('%s.loadStateDict', (name, make) => {
  const stepped = () => {
    const optimizer = make([parameter()])
    optimizer.step()
    return optimizer
  }

  function refuses(make: (dict: Dict) => unknown, message: RegExp): void {
    const optimizer = stepped()
    const before = snapshot(optimizer)
    expectError(() => optimizer.loadStateDict(make(optimizer.stateDict()) as Dict), 'ERR_STATE_DICT', message)
    expect(snapshot(optimizer)).toBe(before)
  }

  test.each(['0.1', null, -1, NaN, Infinity, true, {}, [0.1]])('refuses the learning rate %j', lr => {
    refuses(dict => changed(dict, { lr }), /param_groups\[0\]\.lr: expected/)
  })

  test('refuses other options of the wrong type or out of range', () => {
    refuses(dict => changed(dict, { weight_decay: -1 }), /weightDecay/)
    refuses(dict => changed(dict, { maximize: 'yes' }), /maximize/)
    refuses(dict => changed(dict, { initial_lr: '1' }), /initialLr/)
    if (name === 'SGD') {
      refuses(dict => changed(dict, { momentum: '0.9' }), /momentum/)
      refuses(dict => changed(dict, { momentum: -0.9 }), /momentum/)
      refuses(dict => changed(dict, { dampening: NaN }), /dampening/)
      refuses(dict => changed(dict, { nesterov: true, momentum: 0 }), /nesterov/)
    } else {
      refuses(dict => changed(dict, { betas: [2, 0] }), /betas\[0\]/)
      refuses(dict => changed(dict, { betas: [0.9] }), /betas/)
      refuses(dict => changed(dict, { betas: ['0.9', 0.9] }), /betas\[0\]/)
      refuses(dict => changed(dict, { eps: null }), /eps/)
      refuses(dict => changed(dict, { amsgrad: 1 }), /amsgrad/)
    }
  })

  test('refuses options and state of another optimizer, by name', () => {
    const other =
      name === 'SGD' ? new optim.Adam([parameter()]) : new optim.SGD([parameter()], { momentum: 0.5 })
    other.step()
    const { state, param_groups: groups } = other.stateDict()
    refuses(
      () => ({ state, param_groups: groups }),
      name === 'SGD'
        ? /param_groups\[0\]\.betas: this optimizer has no such option, Adam has; expected .* of class SGD/
        : new RegExp(
            `\\[0\\]\\.momentum: this optimizer has no such option, SGD has; expected .* of class ${name}$`,
          ),
    )
    const foreign =
      name === 'SGD' ? /step.*another optimizer.*keeps momentum_buffer/ : /momentum_buffer.*another/
    refuses(dict => ({ ...dict, state }), foreign)
  })

  test('refuses names that nobody knows, with the nearest', () => {
    refuses(dict => changed(dict, { weigth_decay: 1 }), /weigth_decay: .*did you mean weight_decay/)
    refuses(dict => changed(dict, {}, { exp: zeros([2, 3]) }), /state exp/)
  })

  test('refuses state that is no tensor, not of the parameter, or of no parameter', () => {
    const key = name === 'SGD' ? 'momentum_buffer' : 'exp_avg'
    refuses(
      dict => changed(dict, {}, { [key]: 'abc' }),
      new RegExp(`state\\[0\\]\\.${key}: expected a tensor`),
    )
    refuses(dict => changed(dict, {}, { [key]: zeros([3]) }), new RegExp(`${key} of parameter 0`))
    refuses(dict => changed(dict, {}, { [key]: zeros([2, 3], { dtype: 'complex64' }) }), /real numbers/)
    refuses(dict => changed(dict, {}, { [key]: zeros([2, 3], { device: 'meta' }) }), /data/)
    refuses(dict => changed(dict, {}, { [key]: torch.toSparse(zeros([2, 3])) }), /dense/)
    refuses(dict => ({ ...dict, state: { 7: dict.state[0] } }), /state\[7\]: no group has/)
    refuses(dict => ({ ...dict, state: { 0: 3 } }), /state\[0\]: expected an object/)
    for (const state of [null, undefined, [], [{}], 'x', new Map()])
      refuses(
        dict => ({ ...dict, state }),
        /loadStateDict: state: expected an object of states .*, got (?!\{ s)/,
      )
    for (const groups of [null, undefined, {}, 3])
      refuses(
        dict => ({ ...dict, param_groups: groups }),
        /loadStateDict: param_groups: expected an array .*, got/,
      )
    refuses(() => null, /expected \{ state, param_groups \}/)
    refuses(() => ({ weight: zeros([2]) }), /expected \{ state, param_groups \}, got \{ weight \}/)
    refuses(() => [], /expected \{ state, param_groups \}, got \[\]/)
    refuses(dict => ({ ...dict, param_groups: [{ lr: 1 }] }), /params: expected numbers/)
    for (const params of [[null], ['0'], [-1], [0.5], Array(1), { 0: 0 }])
      refuses(dict => changed(dict, { params }), /param_groups\[0\]\.params: expected numbers/)
    for (const group of [null, 3, []])
      refuses(dict => ({ ...dict, param_groups: [group] }), /param_groups\[0\]: expected a group/)
  })

  test('takes one-element tensors for numbers', () => {
    const optimizer = stepped()
    optimizer.loadStateDict(changed(optimizer.stateDict(), { lr: tensor(0.25), weight_decay: tensor([0.5]) }))
    expect(optimizer.paramGroups[0]).toMatchObject({ lr: 0.25, weightDecay: 0.5 })
    optimizer.step()
  })

  test('changes nothing that the dict holds, and the dict changes nothing later', () => {
    const optimizer = stepped()
    const dict = optimizer.stateDict()
    optimizer.loadStateDict(dict)
    const [group] = dict.param_groups
    if (name !== 'SGD') (group!['betas'] as number[])[0] = 5
    optimizer.step()
  })

  test('goes on bit for bit from its JSON', () => {
    const [p, q] = [parameter(), parameter()]
    noGrad(() => q.copy_(p))
    const [one, other] = [make([p]), make([q])]
    one.step()
    noGrad(() => q.copy_(p))
    for (const value of Object.values(one.stateDict().state[0]!).filter(each => (each as Tensor).ndim > 0))
      noGrad(() =>
        (value as Tensor).copy_(
          tensor([
            [0.1, 1e30, -0],
            [3, 1e-40, 2],
          ]),
        ),
      )
    other.loadStateDict(JSON.parse(JSON.stringify(one.stateDict())) as Dict)
    expect(snapshot(other)).toBe(snapshot(one))
    one.step()
    other.step()
    expect(q.tolist()).toEqual(p.tolist())
  })
})

/** The state dict of a stepped optimizer as `JSON.parse` returns it, with one place changed. */
function mangled(optimizer: optim.Optimizer, change: (entry: Record<string, unknown>) => void): Dict {
  const dict = JSON.parse(JSON.stringify(optimizer.stateDict())) as Dict
  const [key] = Object.keys(dict.state[0]!).filter(name => name !== 'step')
  change(dict.state[0]![key!] as never)
  return dict
}

describe.each(optimizers)(
  '%s.loadStateDict of mangled JSON names the place, what was expected, and what came',
  (name, make) => {
    const key = name === 'SGD' ? 'momentum_buffer' : 'exp_avg'
    const place = `^loadStateDict: state\\[0\\]\\.${key}\\.`

    test.each([
      ['null in data', { data: [1, null, 1, 1, 1, 1] }, 'data\\[1\\]: expected a number, .*, got null'],
      ['text in data', { data: ['1', 1, 1, 1, 1, 1] }, 'data\\[0\\]: expected a number, .*, got "1"'],
      ['empty text in data', { data: [1, 1, 1, 1, 1, ''] }, 'data\\[5\\]: expected a number, .*, got ""'],
      ['true in data', { data: [1, 1, true, 1, 1, 1] }, 'data\\[2\\]: expected a number, .*, got true'],
      [
        'nested data',
        {
          data: [
            [1, 1, 1],
            [1, 1, 1],
          ],
        },
        'data: expected 6 numbers, as float32 \\(2, 3\\) has, got 2',
      ],
      ['lists of one', { data: [[1], 1, 1, 1, 1, 1] }, 'data\\[0\\]: expected a number, .*, got \\[1\\]'],
      ['a hole', { data: [1, , 1, 1, 1, 1] }, 'data\\[1\\]: expected a number, .*, got undefined'], // eslint-disable-line no-sparse-arrays
      ['too few', { data: [1, 1, 1] }, 'data: expected 6 numbers, as float32 \\(2, 3\\) has, got 3'],
      ['too many', { data: [1, 1, 1, 1, 1, 1, 1] }, 'data: expected 6 numbers, .* got 7'],
      ['none', { data: [] }, 'data: expected 6 numbers, .* got 0'],
      ['half of complex numbers', { dtype: 'complex64' }, 'data: expected 12 numbers, as complex64 .* got 6'],
      ['no data', { data: undefined }, 'data: expected an array of numbers, got undefined'],
      [
        'a typed array as JSON has it',
        { data: { 0: 1 } },
        'data: expected an array of numbers, got \\{ 0 \\}',
      ],
      [
        'a negative size',
        { shape: [-2, -3] },
        'shape: expected an array of integers of at least 0, got \\[-2, -3\\]',
      ],
      ['a size that is null', { shape: [2, null] }, 'shape: .*, got \\[2, null\\]'],
      ['no shape', { shape: undefined }, 'shape: expected an array .*, got undefined'],
      [
        'a dtype that is none',
        { dtype: 'float33' },
        'dtype: expected a dtype such as "float32", got "float33"',
      ],
      ['no dtype', { dtype: null }, 'dtype: expected a dtype .*, got null'],
      [
        'fractions in an integer dtype',
        { dtype: 'int32', data: [0.5, 1, 1, 1, 1, 1] },
        'data\\[0\\]: expected an integer, .*, got 0.5',
      ],
    ])('%s', (_, change, message) => {
      const optimizer = make([parameter()])
      optimizer.step()
      const before = snapshot(optimizer)
      const dict = mangled(optimizer, entry => Object.assign(entry, change))
      expectError(() => optimizer.loadStateDict(dict), 'ERR_STATE_DICT', new RegExp(place + message))
      expect(snapshot(optimizer)).toBe(before)
    })

    test('an entry that is null, none or empty, and a group without lr', () => {
      const optimizer = make([parameter(), parameter()])
      optimizer.step()
      const before = snapshot(optimizer)
      const nulls = name === 'SGD' ? {} : { step: null, exp_avg: null, exp_avg_sq: null }
      for (const [entry, message] of [
        [null, /^loadStateDict: state\[1\]: expected an object of tensors, got null/],
        [[], /^loadStateDict: state\[1\]: expected an object of tensors, got \[\]/],
        ['', /^loadStateDict: state\[1\]: expected an object of tensors, got ""/],
        [
          {},
          /^loadStateDict: state\[1\]: expected the state of a parameter, got \{\} without any; a parameter that/,
        ],
        [nulls, /^loadStateDict: state\[1\]: expected the state of a parameter, got/],
      ] as const) {
        const dict = JSON.parse(before) as Dict
        dict.state[1] = entry as never
        expectError(() => optimizer.loadStateDict(dict), 'ERR_STATE_DICT', message)
      }
      const dict = JSON.parse(before) as Dict
      delete dict.param_groups[0]!['lr']
      expectError(
        () => optimizer.loadStateDict(dict),
        'ERR_STATE_DICT',
        /^loadStateDict: param_groups\[0\]\.lr: expected a number, but the group has none$/,
      )
      expect(snapshot(optimizer)).toBe(before)
    })

    test('but takes what has made no step, in whole or in part, as JSON and as PyTorch saves it', () => {
      const fresh = JSON.parse(snapshot(make([parameter(), parameter()]))) as Dict
      const [p, q] = [parameter(), parameter()]
      q.grad = null
      const half = make([p, q])
      half.step()
      for (const dict of [fresh, JSON.parse(snapshot(half)) as Dict]) {
        const other = make([parameter(), parameter()])
        other.step()
        other.loadStateDict(dict)
        expect(JSON.parse(snapshot(other))).toEqual(dict)
        // Reading `optimizer.state[p]` makes an empty entry there.
        const python = {
          state: { ...dict.state, 1: {} },
          param_groups: [{ ...dict.param_groups[0]!, foreach: null }],
        }
        other.loadStateDict(python)
        expect(JSON.parse(snapshot(other))).toEqual(dict)
      }
    })
  },
)

test('SGD without momentum takes entries without a buffer', () => {
  const optimizer = new optim.SGD([parameter()])
  const dict = optimizer.stateDict()
  for (const entry of [{}, { momentum_buffer: null }] as Dict['state'][string][]) {
    optimizer.loadStateDict({ ...dict, state: { 0: entry } })
    expect(optimizer.stateDict().state).toEqual({})
  }
})

test('JSON keeps Infinity, NaN and −0 in tensors of every dtype', () => {
  for (const dtype of ['float32', 'float64', 'bfloat16', 'complex64'] as const) {
    const p = zeros([4], { dtype, requiresGrad: true })
    p.grad = torch.onesLike(p)
    const optimizer = new optim.SGD([p], { lr: 1, momentum: 0.5 })
    optimizer.step()
    const buffer = optimizer.stateDict().state[0]!['momentum_buffer'] as Tensor
    noGrad(() => buffer.copy_(tensor([Infinity, NaN, -0, -Infinity])))
    const json = JSON.stringify(optimizer.stateDict())
    optimizer.loadStateDict(JSON.parse(json) as Dict)
    const loaded = optimizer.stateDict().state[0]!['momentum_buffer'] as Tensor
    expect(loaded.dtype).toBe(dtype)
    expect(loaded.tolist()).toEqual(buffer.tolist())
    expect(JSON.stringify(optimizer.stateDict())).toBe(json)
  }
})

test("an Adam refuses part of a state, a count that is none, and AdamW's", () => {
  const optimizer = new optim.Adam([parameter()])
  optimizer.step()
  const dict = optimizer.stateDict()
  const { exp_avg: _, ...part } = dict.state[0]!
  expectError(
    () => optimizer.loadStateDict({ ...dict, state: { 0: part } }),
    'ERR_STATE_DICT',
    /no exp_avg beside/,
  )
  for (const step of [-1, NaN, 0.5, 'NaN'])
    expectError(
      () => optimizer.loadStateDict(changed(dict, {}, { step })),
      'ERR_STATE_DICT',
      /count of steps/,
    )
  const decoupled = changed(dict, { decoupled_weight_decay: true })
  expectError(() => optimizer.loadStateDict(decoupled), 'ERR_STATE_DICT', /got that of an AdamW/)
  new optim.AdamW([parameter()]).loadStateDict(decoupled)
  optimizer.loadStateDict(changed(dict, {}, { step: 7 }))
  expect((optimizer.stateDict().state[0]!['step'] as Tensor).item()).toBe(7)
})

test('options of the constructor and of later groups are checked, those set by hand at the next step', () => {
  for (const lr of ['0.1', null, -1, NaN, Infinity, tensor(0.1)] as never[]) {
    expect(codeOf(() => new optim.SGD([parameter()], { lr }))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => new optim.Adam([{ params: parameter(), lr }]))).toBe('ERR_ARGUMENT')
    const optimizer = new optim.AdamW([parameter()])
    expect(codeOf(() => optimizer.addParamGroup({ params: parameter(), lr }))).toBe('ERR_ARGUMENT')
    optimizer.paramGroups[0]!.lr = lr
    expect(codeOf(() => optimizer.step())).toBe('ERR_ARGUMENT')
    expect(optimizer.stateDict().state).toEqual({})
  }
  expect(codeOf(() => new optim.SGD([{ params: parameter(), initialLr: '1' as never }]))).toBe('ERR_ARGUMENT')
  expect(codeOf(() => new optim.SGD([parameter()], { dampening: NaN, momentum: 1 }))).toBe('ERR_ARGUMENT')
})

test('changing the betas of one optimizer leaves the defaults of others alone', () => {
  const optimizer = new optim.Adam([parameter()])
  ;(optimizer.paramGroups[0]!.betas as unknown as number[])[0] = 0.5
  expect(new optim.Adam([parameter()]).paramGroups[0]!.betas).toEqual([0.9, 0.999])
})

// ---- Python's ------------------------------------------------------------------------------------------------------

const python = findPython()
const save = `
import sys, torch
folder = sys.argv[1]
def made(name, **options):
    torch.manual_seed(0)
    p = [torch.zeros(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)]
    o = getattr(torch.optim, name)(p, **options)
    for _ in range(2):
        for each in p: each.grad = torch.ones_like(each)
        o.step()
    torch.save({'optimizer': o.state_dict(), 'parameters': p}, f'{folder}/{name}.pt')
    for each in p: each.grad = torch.full_like(each, 0.5)
    o.step()
    torch.save([each.detach() for each in p], f'{folder}/{name}.next.pt')
made('SGD', lr=0.1, momentum=0.9, weight_decay=0.01)
made('Adam', lr=torch.tensor(0.125), foreach=False, amsgrad=True)
made('AdamW', lr=0.1)
`

describe.skipIf(typeof python === 'string')("PyTorch's own checkpoints", () => {
  let folder: string
  beforeAll(async () => {
    folder = await folderWith()
    if (typeof python === 'string') return
    const run = spawnSync(python.executable, ['-c', save, folder], { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(run.stderr)
  })

  test.each(['SGD', 'Adam', 'AdamW'] as const)('of %s go on as there', async name => {
    const { optimizer: dict, parameters } = await loadCheckpoint<{ optimizer: Dict; parameters: Tensor[] }>(
      join(folder, `${name}.pt`),
    )
    for (const each of parameters) {
      each.requiresGrad = true
      each.grad = fromTypedArray(new Float32Array(each.numel()).fill(0.5), each.shape)
    }
    const optimizer = new optim[name](parameters)
    optimizer.loadStateDict(dict)
    optimizer.step()
    const next = await loadCheckpoint<Tensor[]>(join(folder, `${name}.next.pt`))
    next.forEach((each, i) => expect(torch.allclose(parameters[i]!, each, { rtol: 1e-6 })).toBe(true))
  })
})
