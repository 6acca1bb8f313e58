/** TorchScript files as modules: what they are made of, calling their methods, training them. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AlambicError,
  isGradEnabled,
  loadTorchScript,
  manualSeed,
  memory,
  nn,
  noGrad,
  ones,
  optim,
  randn,
  scope,
  ScriptModule,
  tensor,
  zeros,
  type Tensor,
} from '../lib/index.js'
import { codeOf, codeOfAsync } from './codes.js'
import { errorOf } from './nn.fixtures.js'
import { Expectation, findModels } from './script.fixtures.js'
import { handmadeScript } from './script.handmade.js'
import { settledTensors } from './settle.js'

const models = findModels()
const folder = 'folder' in models ? models.folder : ''
const reason = 'reason' in models ? ` (no Python with this libtorch: ${models.reason})` : ''
const load = (name: string, options?: Parameters<typeof loadTorchScript>[1]) =>
  loadTorchScript(join(folder, `${name}.pt`), options)

describe('loadTorchScript', () => {
  test('takes the bytes of a file, of which it keeps none', async () => {
    const bytes = Uint8Array.from(handmadeScript({}))
    const nets = [await loadTorchScript(bytes), await loadTorchScript(bytes.buffer)]
    bytes.fill(0)
    const x = ones([2, 3])
    for (const net of nets)
      expect((net.forward(x) as Tensor).tolist()).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ])
  })

  test.each([
    ['an empty file', Buffer.alloc(0)],
    ['text', Buffer.from('a text')],
    ['a pickle', Buffer.from('\x80\x02}q\x00.', 'latin1')],
    ['a zip archive of something else', handmadeScript({}).subarray(0, 100)],
  ])('refuses %s', async (_, bytes) => {
    expect(await codeOfAsync(() => loadTorchScript(bytes))).toBe('ERR_FILE_FORMAT')
  })

  test('refuses what is not there, and what is no file', async () => {
    expect(await codeOfAsync(() => loadTorchScript('nowhere.pt'))).toBe('ERR_FILE_NOT_FOUND')
    expect(await codeOfAsync(() => loadTorchScript(tmpdir()))).toBe('ERR_FILE_NOT_FOUND')
    expect(await codeOfAsync(() => loadTorchScript(3 as unknown as string))).toBe('ERR_ARGUMENT')
  })

  test('refuses options that make no sense', async () => {
    const bytes = handmadeScript({})
    expect(await codeOfAsync(() => loadTorchScript(bytes, { device: 'gpu' }))).toBe('ERR_DEVICE')
    expect(await codeOfAsync(() => loadTorchScript(bytes, { dtype: 'int64' }))).toBe('ERR_DTYPE')
  })

  test('a class without a forward says so, and which methods there are', async () => {
    const body = '  def encode(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n    return x\n'
    const net = await loadTorchScript(handmadeScript({ body }))
    expect(errorOf(() => net.forward(ones([1]))).message).toBe(
      'Net has no method "forward"; there are: encode',
    )
    expect((net.call('encode', ones([1])) as Tensor).tolist()).toEqual([1])
  })
})

describe.skipIf(reason)(`what a file holds${reason}`, () => {
  test('state dict, parameters, buffers and output are those that Python sees', async () => {
    const facts = JSON.parse(readFileSync(join(folder, 'tied.json'), 'utf8')) as Record<string, unknown[]>
    const model = await load('tied')
    expect(Object.keys(model.stateDict())).toEqual(facts['state'])
    expect(model.namedParameters().map(([key]) => key)).toEqual(facts['parameters'])
    expect(model.namedBuffers().map(([key]) => key)).toEqual(facts['buffers'])
    expect(model.parameters().map(parameter => parameter.requiresGrad)).toEqual(facts['requiresGrad'])
    expect((model.forward(ones([1, 4])) as Tensor).tolist()).toEqual(facts['output'])
  })

  test('tensors that are shared are one', async () => {
    const tied = await load('tied')
    expect(tied.getSubmodule('out').parameters()[0]).toBe(tied.getSubmodule('embed').parameters()[0])
    // Of shared modules the file has several, which share their tensors.
    const shared = await loadTorchScript(join(folder, 'shared.scripted.pt'))
    const [inner, alias] = [shared.getSubmodule('inner.0'), shared.getSubmodule('alias.0')]
    const handles = (module: typeof inner) => module.parameters().map(({ handle }) => handle)
    expect(handles(alias)).toEqual(handles(inner))
    expect(shared.parameterCount()).toBe(30)
  })

  test('the tree has paths, types and numbers of parameters', async () => {
    const model = await loadTorchScript(join(folder, 'residual.scripted.pt'))
    const expected = new Expectation(folder, 'residual')
    const counts = new Map(
      model.modules().map(module => [module.path, [module.typeName, module.parameterCount()]]),
    )
    expect(counts.get('')).toEqual(['Residual', 11130])
    expect(counts.get('layer2.0.downsample.1')).toEqual(['BatchNorm2d', 32])
    expect(Object.keys(model.stateDict())).toEqual(Object.keys(expected.state))
    expect(model.getSubmodule('fc').qualifiedName).toBe('torch.nn.modules.linear.Linear')
    expect(model.getSubmodule('layer1.0')).toBeInstanceOf(ScriptModule)
    expect(model.getSubmodule('fc').toString()).toBe('Linear()')
    expect(model.summary().find(({ path }) => path === 'layer1.0.relu')).toEqual({
      path: 'layer1.0.relu',
      type: 'ReLU',
      parameters: 0,
      calls: 2,
    })
  })

  test('code gives the source of a method or of the class', async () => {
    const calls = await load('calls')
    expect(calls.code('big')).toContain('return torch.mul(n, 2)')
    expect(calls.code('big')).not.toContain('forward')
    expect(calls.code()).toContain('def forward(self')
    expect(errorOf(() => calls.code('bigg')).message).toBe('Calls has no method "bigg"; near names: big')
  })

  test('methods lists names, types and defaults', async () => {
    const named = (await load('calls')).methods().find(({ name }) => name === 'named')
    expect(named).toEqual({
      name: 'named',
      arguments: [
        { name: 'a', type: 'int', isOptional: false },
        { name: 'b', type: 'int', isOptional: true },
        { name: 'c', type: 'int', isOptional: true },
      ],
      returns: 'int',
    })
  })

  test('a part runs by itself', async () => {
    const model = await loadTorchScript(join(folder, 'residual.traced.pt'))
    const x = ones([1, 3, 4, 4])
    expect((model.getSubmodule('stem').forward(x) as Tensor).shape).toEqual([1, 8, 4, 4])
  })
})

describe.skipIf(reason)(`calling methods${reason}`, () => {
  let calls: ScriptModule
  beforeAll(async () => {
    calls = await load('calls')
  })

  test.each<[string, unknown[], unknown]>([
    ['scalars', [1, 3, true, 'a', { re: 1, im: 2 }], [2, 1.5, false, 'a!', { re: 2, im: 4 }]],
    ['optional', [], [null, null]],
    ['optional', [null, 3], [null, 3]],
    ['optional', [{ n: 3 }], [null, 3]],
    ['named', [1], 1001],
    ['named', [1, 2], 201],
    ['named', [1, { c: 2 }], 21],
    ['named', [{ a: 1, c: 2, b: 3 }], 7],
    ['big', [2n ** 60n], 2n ** 61n],
    ['big', [4], 8],
    ['color', ['RED'], 'BLUE'],
    ['color', [2], 'RED'],
    ['where', ['cpu'], 'cpu'],
    ['nothing', [], null],
    ['either', [3], 'int'],
    ['either', ['3'], 'str'],
  ])('%s(%o) gives %o', (method, args, result) => {
    expect(calls.call(method, ...args)).toEqual(result)
  })

  test('tensors in lists, dicts and tuples, nested', () => {
    const [one, two] = [tensor([1]), tensor([2])]
    const [xs, n, s] = calls.call('lists', [one, two], [[1], [2, 3]], ['a']) as [
      Tensor[],
      number[][],
      string[],
    ]
    expect(xs.map(x => x.tolist())).toEqual([[2], [1]])
    expect([n, s]).toEqual([[[1], [2, 3], [7]], ['a']])
    const [d, e] = calls.call('dicts', new Map([['x', one]]), new Map([[1, [1.5]]])) as [
      Record<string, Tensor>,
      Map<number, number[]>,
    ]
    expect([Object.keys(d), d['x']!.tolist(), e]).toEqual([['x', 'new'], [1], new Map([[1, [1.5]], [5, [0.5]]])]) // prettier-ignore
    const [point, [text, sum]] = calls.call('tuples', { x: 1, y: 2 }, [3, [one, 's']]) as [
      unknown,
      [string, Tensor],
    ]
    expect([point, text, sum.tolist()]).toEqual([{ x: 2, y: 4 }, 's', [4]])
    expect((calls.call('tuples', [1, 2], [3, [one, 's']]) as unknown[])[0]).toEqual({ x: 2, y: 4 })
  })

  test.each<[string, unknown[], string]>([
    ['scalars', [1.5, 1, true, 'a', 1], 'scalars: i: expected int, got 1.5'],
    ['scalars', [1, 1, 'yes', 'a', 1], 'scalars: b: expected bool, got "yes"'],
    ['lists', [[1], [], []], 'lists: xs[0]: expected Tensor, got 1'],
    ['lists', [[], [[1.5]], []], 'lists: n[0][0]: expected int, got 1.5'],
    ['named', [], 'named: expected a: int as argument 1, got nothing'],
    ['named', [1, { d: 2 }], 'named: unknown argument "d"; it takes (a: int, b?: int, c?: int)'],
    ['named', [1, { a: 2 }], 'named: a was given twice, by position and by name'],
    ['named', [1, 2, 3, 4], 'named: expected (a: int, b?: int, c?: int), got 4 values'],
    ['color', ['GREEN'], 'color: c: expected one of RED, BLUE, got "GREEN"'],
    ['tuples', [[1], [1, []]], 'tuples: p: expected __torch__.Point, got an array of 1'],
    ['forward', [() => 1], 'forward: x: expected a tensor, number, bigint, boolean, string, null, or an array, object or Map of those, got function (anonymous)'], // prettier-ignore
  ])('%s(%o) is refused', (method, args, message) => {
    const error = errorOf(() => calls.call(method, ...args))
    expect([error.code, error.message]).toEqual(['ERR_ARGUMENT', message])
  })

  test('an exception of the code and a failing operator are ERR_SCRIPT', () => {
    const raised = errorOf(() => calls.call('fails', ones([2])))
    expect([raised.code, raised.message]).toEqual([
      'ERR_SCRIPT',
      'fails of Calls raised builtins.ValueError: more than one element',
    ])
    const failed = errorOf(() => calls.call('fails', ones([1])))
    expect(failed.code).toBe('ERR_SCRIPT')
    expect(failed.message).toMatch(/^fails of Calls: .*matri[^]*torch\.mm\(x, x\)[^]*HERE/)
  })

  test('a released tensor is refused', () => {
    const x = ones([1])
    x.dispose()
    expect(errorOf(() => calls.call('forward', x)).code).toBe('ERR_TENSOR_RELEASED')
  })

  test('what a call makes is released by the scope around', () => {
    const before = memory().tensors
    scope(() => {
      calls.call('lists', [ones([1]), ones([1])], [], [])
    })
    expect(memory().tensors).toBe(before)
  })
})

describe.skipIf(reason)(`asynchronous calls${reason}`, () => {
  let calls: ScriptModule
  beforeAll(async () => {
    calls = await load('calls')
  })

  test('leave the event loop free', async () => {
    const x = ones([600, 600])
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    await calls.callAsync('busy', x, 30)
    clearInterval(timer)
    expect(turns).toBeGreaterThan(2)
  })

  test('run in order, and keep tensors that are disposed of meanwhile', async () => {
    const done: number[] = []
    const before = await settledTensors()
    const x = tensor([[2]])
    const all = [40, 1, 20].map(async (rounds, i) => {
      const result = (await calls.callAsync('busy', x, rounds)) as Tensor
      result.dispose()
      done.push(i)
    })
    x.dispose()
    await Promise.all(all)
    expect(done).toEqual([0, 1, 2])
    expect(memory().tensors).toBe(before)
  })

  test('go on after one that failed', async () => {
    const failing = codeOfAsync(() => calls.callAsync('fails', ones([2])))
    const after = calls.forwardAsync(ones([2]))
    expect(await failing).toBe('ERR_SCRIPT')
    expect(((await after) as Tensor).tolist()).toEqual([1, 1])
  })

  test('nothing that they read is moved or switched meanwhile', async () => {
    const model = (await load('residual.scripted')).eval()
    const x = randn([2, 3, 16, 16])
    const running = [model.forwardAsync(x), model.forwardAsync(x)]
    const around = new nn.Sequential(new nn.Linear(2, 2), model)
    expect(codeOf(() => model.to('float64'))).toBe('ERR_BUSY')
    expect(codeOf(() => around.to('float64'))).toBe('ERR_BUSY')
    expect((around.at(0) as nn.Linear).weight.dtype).toBe('float32')
    expect(codeOf(() => model.train())).toBe('ERR_BUSY')
    expect(model.eval().training).toBe(false)
    const [first, second] = (await Promise.all(running)) as [Tensor, Tensor]
    expect(second.tolist()).toEqual(first.tolist())
    expect(around.to('float64').train().training).toBe(true)
    expect(model.parameters()[0]!.dtype).toBe('float64')
  })

  test('take the grad mode of the moment of the call', async () => {
    const recorded = calls.forwardAsync(ones([2]))
    let unrecorded!: Promise<unknown>
    noGrad(() => {
      unrecorded = calls.forwardAsync(ones([2]))
    })
    expect(((await recorded) as Tensor).requiresGrad).toBe(true)
    expect(((await unrecorded) as Tensor).requiresGrad).toBe(false)
    expect(isGradEnabled()).toBe(true)
  })
})

describe.skipIf(reason)(`a file trains as any module${reason}`, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'alambic-script-'))
  afterAll(() => rmSync(scratch, { recursive: true }))

  test('an optimizer brings the loss down, and the saved file has the new weights', async () => {
    manualSeed(1)
    const model = await load('student')
    expect(model.training).toBe(true)
    const optimizer = new optim.Adam(model.parameters(), { lr: 3e-2 })
    const [x, labels] = [randn([16, 3, 8, 8]), tensor(Array.from({ length: 16 }, (_, i) => BigInt(i % 10)))]
    const step = () =>
      scope(() => {
        optimizer.zeroGrad()
        const loss = nn.functional.crossEntropy(model.forward(x) as Tensor, labels)
        loss.backward()
        optimizer.step()
        return loss.item()
      })
    const losses = Array.from({ length: 30 }, step)
    expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]!)
    expect(
      Number(
        model
          .namedBuffers()
          .find(([key]) => key.endsWith('num_batches_tracked'))![1]
          .item(),
      ),
    ).toBe(30)

    model.eval()
    await model.save(join(scratch, 'tuned.pt'))
    const again = await loadTorchScript(join(scratch, 'tuned.pt'))
    expect(again.training).toBe(false)
    expect((again.forward(x) as Tensor).tolist()).toEqual((model.forward(x) as Tensor).tolist())
  })

  test('training is the flag of the file', async () => {
    const model = await load('student')
    model.eval()
    const x = randn([2, 3, 8, 8])
    const run = () => (model.forward(x) as Tensor).tolist()
    expect(run()).toEqual(run())
    expect(model.modules().every(module => !module.training)).toBe(true)
    model.train()
    expect(model.getSubmodule('drop').training).toBe(true)
    expect(run()).not.toEqual(run())
  })

  test('requiresGrad(false) freezes, zeroGrad empties', async () => {
    const model = await load('student')
    const x = randn([2, 3, 8, 8])
    ;(model.forward(x) as Tensor).sum().backward()
    expect(model.parameters().every(parameter => parameter.grad !== null)).toBe(true)
    model.zeroGrad()
    expect(model.parameters().every(parameter => parameter.grad === null)).toBe(true)
    model.requiresGrad(false)
    expect((model.forward(x) as Tensor).requiresGrad).toBe(false)
  })

  test('loadStateDict and to change what forward computes with', async () => {
    const model = (await load('student')).eval()
    const zeroed = Object.fromEntries(
      Object.entries(model.stateDict()).map(([key, value]) => [key, zeros(value.shape)]),
    )
    model.loadStateDict(zeroed)
    expect((model.forward(ones([1, 3, 4, 4])) as Tensor).sum().item()).toBe(0)
    model.to('float64')
    expect((model.forward(ones([1, 3, 4, 4], { dtype: 'float64' })) as Tensor).dtype).toBe('float64')
    const error = errorOf(() => model.loadStateDict({ 'fc.bias': zeros([3]) }))
    expect(error.code).toBe('ERR_STATE_DICT')
    expect(error.message).toContain('loadStateDict into Student')
  })

  test('loadStateDict changes nothing where a value does not fit, also as a part', async () => {
    const model = await load('student')
    const parameters = () => model.parameters().map(each => each.sum().item())
    const before = parameters()
    const keys = Object.keys(model.stateDict())
    for (const [module, prefix] of [
      [model, ''],
      [new nn.ModuleList([model]), '0.'],
    ] as const)
      for (const other of [zeros([1], { device: 'meta' }), null]) {
        const dict = Object.fromEntries(
          Object.entries(model.stateDict()).map(([key, value]) => [prefix + key, zeros(value.shape)]),
        )
        const last = prefix + keys.at(-1)!
        const value = other?.expand(dict[last]!.shape) ?? (null as never)
        const error = errorOf(() => module.loadStateDict({ ...dict, [last]: value }))
        expect(error.code).toBe('ERR_STATE_DICT')
        expect(error.message).toContain(`: ${last}`)
        expect(parameters()).toEqual(before)
      }
  })

  test("to 'meta' is refused, also as a part of another module", async () => {
    const model = await load('student')
    for (const module of [model, new nn.ModuleList([model])])
      expect(errorOf(() => module.to('meta'))).toMatchObject({
        code: 'ERR_NOT_IMPLEMENTED',
        message: expect.stringMatching(
          /^to: expected a device with data for the TorchScript module \w+, got "meta"$/,
        ) as string,
      })
    expect(model.parameters().every(({ device }) => device === 'cpu')).toBe(true)
  })

  test("to 'meta' moves nothing of a module that has a TorchScript module behind other parts", async () => {
    const whole = new nn.ModuleList([
      new nn.Linear(2, 2),
      new nn.BatchNorm1d(2),
      await load('student'),
    ] as nn.Module[])
    expect(errorOf(() => whole.to('meta')).code).toBe('ERR_NOT_IMPLEMENTED')
    expect(errorOf(() => whole.to({ device: 'meta', dtype: 'float64' })).code).toBe('ERR_NOT_IMPLEMENTED')
    for (const each of [...whole.parameters(), ...whole.buffers()]) expect(each.device).toBe('cpu')
    for (const each of whole.parameters()) expect(each.dtype).toBe('float32')
  })

  test('dtype converts while loading', async () => {
    const model = (await load('student', { dtype: 'bfloat16' })).eval()
    expect(new Set(model.parameters().map(parameter => parameter.dtype))).toEqual(new Set(['bfloat16']))
    expect(model.namedBuffers().map(([, buffer]) => buffer.dtype)).toEqual(['bfloat16', 'bfloat16', 'int64'])
  })

  test('saving where nothing can be written is an error', async () => {
    const model = await load('student')
    await expect(model.save(join(scratch, 'nowhere', 'x.pt'))).rejects.toBeInstanceOf(AlambicError)
  })
})
