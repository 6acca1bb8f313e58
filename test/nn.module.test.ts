/** What a module owns, its state, its modes, and the containers. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  captureFeatures,
  evaluate,
  exportTorchScript,
  full,
  memory,
  nn,
  ones,
  optim,
  randn,
  scope,
  tensor,
  torch,
  zeros,
  type Tensor,
} from '../lib/index.js'
import { errorOf } from './nn.fixtures.js'

class Head extends nn.Module<[Tensor], Tensor> {
  norm = new nn.BatchNorm1d(4)
  linear = new nn.Linear(4, 2)
  scale = new nn.Parameter(tensor([2]))

  override forward(x: Tensor): Tensor {
    return this.linear.forward(this.norm.forward(x)).mul(this.scale)
  }
}

class Net extends nn.Module<[Tensor], Tensor> {
  first = new nn.Linear(3, 4, { bias: false })
  head = new Head()
  again = this.first

  constructor() {
    super()
    this.registerBuffer('mean', tensor([1, 2, 3]))
    this.registerBuffer('cache', zeros([2]), { persistent: false })
  }

  override forward(x: Tensor): Tensor {
    return this.head.forward(this.first.forward(x))
  }
}

const names = (named: [string, unknown][]) => named.map(([name]) => name)

describe('what belongs to a module', () => {
  test('modules come in the order of assignment, each once', () => {
    expect(names(new Net().namedModules())).toEqual(['', 'first', 'head', 'head.norm', 'head.linear'])
    expect(names(new Net().namedChildren())).toEqual(['first', 'head', 'again'])
  })

  test('parameters and buffers come by dotted path, each once', () => {
    const net = new Net()
    expect(names(net.namedParameters())).toEqual([
      'first.weight',
      'head.scale',
      'head.norm.weight',
      'head.norm.bias',
      'head.linear.weight',
      'head.linear.bias',
    ])
    expect(names(net.namedBuffers())).toEqual([
      'mean',
      'cache',
      'head.norm.running_mean',
      'head.norm.running_var',
      'head.norm.num_batches_tracked',
    ])
    expect(net.parameterCount()).toBe(12 + 1 + 4 + 4 + 8 + 2)
  })

  test('parameters and buffers made in a scope outlive it', () => {
    const norm = scope(() => [new nn.BatchNorm2d(3)])[0]!
    expect(norm.forward(randn([2, 3, 2, 2])).shape).toEqual([2, 3, 2, 2])
  })

  test('a layer keeps no tensor but its parameters and buffers', () => {
    const before = memory().tensors
    const layers = scope(() => [
      new nn.Conv2d(3, 4, 3),
      new nn.BatchNorm2d(4),
      new nn.Embedding(3, 2, { paddingIdx: 0 }),
    ])
    expect(memory().tensors - before).toBe(2 + 5 + 1)
    expect(layers).toHaveLength(3)
  })

  test.each(['forward', 'train', 'training', 'toString', '__proto__', 'first', 'head.mean', ''])(
    'a buffer cannot be called %j',
    name => {
      const net = new Net()
      const error = errorOf(() => net.registerBuffer(name, zeros([2])))
      expect(error.code).toBe('ERR_ARGUMENT')
      expect(error.message).toContain(JSON.stringify(name))
      expect(names(net.namedBuffers())).toEqual(names(new Net().namedBuffers()))
      expect(net.forward(zeros([2, 3])).shape).toEqual([2, 2])
    },
  )

  test('a buffer can be registered again', () => {
    const net = new Net()
    net.registerBuffer('mean', zeros([3]))
    net.registerBuffer('cache', null)
    net.registerBuffer('cache', zeros([1]))
    expect(net.namedBuffers().map(([, buffer]) => buffer.numel())).toEqual([3, 1, 4, 4, 1])
  })

  test('a parameter can be replaced', () => {
    const linear = new nn.Linear(2, 1, { bias: false })
    linear.weight = new nn.Parameter(tensor([[3, 4]]))
    expect(linear.forward(tensor([1, 1])).tolist()).toEqual([7])
    expect(linear.parameters()).toHaveLength(1)
    expect(linear.parameters()[0]).toBe(linear.weight)
  })
})

describe('getSubmodule', () => {
  test('finds modules by path', () => {
    const net = new Net()
    expect(net.getSubmodule('')).toBe(net)
    expect(net.getSubmodule('head.linear')).toBe(net.head.linear)
  })

  test('offers near names for a mistyped one, and all names where none is near', () => {
    const net = new Net()
    const near = errorOf(() => net.getSubmodule('head.liner'))
    expect(near.code).toBe('ERR_UNKNOWN_LAYER')
    expect(near.message).toMatch(/^Net has no layer "head\.liner"; near names: head\.linear/)
    const far = errorOf(() => net.getSubmodule('zzzzzzzzzzzzzzzzzzzz'))
    expect(far.message).toContain('there are: first, head, head.norm, head.linear')
  })
})

describe('modes', () => {
  test('train and eval reach every module', () => {
    const net = new Net()
    const modes = () => new Set(net.modules().map(module => module.training))
    expect(modes()).toEqual(new Set([true]))
    expect(net.eval()).toBe(net)
    expect(modes()).toEqual(new Set([false]))
    net.train()
    expect(modes()).toEqual(new Set([true]))
  })

  test('dropout and batch norm go by them', () => {
    const x = randn([8, 4])
    const dropout = new nn.Dropout(0.5)
    expect(dropout.forward(x).tolist()).not.toEqual(x.tolist())
    expect(dropout.eval().forward(x).tolist()).toEqual(x.tolist())
    const norm = new nn.BatchNorm1d(4).eval()
    norm.forward(x)
    expect(norm.num_batches_tracked!.item()).toBe(0)
    norm.train().forward(x)
    expect(norm.num_batches_tracked!.item()).toBe(1)
  })

  test('requiresGrad freezes, zeroGrad forgets', () => {
    const net = new Net()
    net.first.requiresGrad(false)
    net
      .forward(randn([4, 3]))
      .sum()
      .backward()
    expect(net.first.weight.grad).toBeNull()
    expect(net.head.linear.bias!.grad!.tolist()).toEqual([8, 8])
    net.zeroGrad()
    expect(net.head.linear.bias!.grad).toBeNull()
  })
})

describe('to', () => {
  test('converts floating point tensors in place and leaves counters alone', () => {
    const net = new Net()
    const { weight } = net.first
    net.to('float64')
    expect(net.first.weight).toBe(weight)
    expect(weight.dtype).toBe('float64')
    expect(net.head.norm.running_mean!.dtype).toBe('float64')
    expect(net.head.norm.num_batches_tracked!.dtype).toBe('int64')
    expect(net.forward(randn([4, 3], { dtype: 'float64' })).dtype).toBe('float64')
  })

  test('takes gradients along', () => {
    const linear = new nn.Linear(2, 1)
    linear
      .forward(randn([3, 2]))
      .sum()
      .backward()
    linear.to('float64')
    expect(linear.weight.grad!.dtype).toBe('float64')
    linear
      .forward(randn([3, 2], { dtype: 'float64' }))
      .sum()
      .backward()
    expect(linear.bias!.grad!.tolist()).toEqual([6])
  })

  test('orders images by channels where there are four dimensions', () => {
    const model = new nn.Sequential(
      new nn.Conv2d(3, 4, 3),
      new nn.BatchNorm2d(4),
      new nn.Flatten(),
      new nn.Linear(16, 2),
    )
    const x = randn([2, 3, 4, 4])
    const before = model.forward(x)
    model.to({ memoryFormat: 'channelsLast' })
    expect((model.at(0) as nn.Conv2d).weight.isContiguous({ memoryFormat: 'channelsLast' })).toBe(true)
    const after = model.forward(x.to({ memoryFormat: 'channelsLast' }))
    expect(after.sub(before).abs().max().item()).toBeLessThan(1e-5)
  })

  test('goes by device, dtype and both', () => {
    const linear = new nn.Linear(2, 1)
    expect(linear.to('cpu').weight.dtype).toBe('float32')
    expect(linear.to({ device: 'cpu', dtype: 'bfloat16' }).weight.dtype).toBe('bfloat16')
  })

  test('changes what memory() counts', () => {
    const linear = new nn.Linear(2, 2)
    const { bytes } = memory()
    linear.to('float64')
    expect(memory().bytes - bytes).toBe(6 * 4)
  })

  describe("to 'meta'", () => {
    test('keeps what is known without data, and gives the memory back', () => {
      const net = new Net()
      const described = () =>
        scope(() => Object.entries(net.stateDict()).map(([name, { shape, dtype }]) => [name, shape, dtype]))
      const before = described()
      const { weight } = net.first
      const { bytes } = memory()
      const size = 12 * 4 + (4 + 4 + 8 + 2) * 4 + (3 + 2 + 4 + 4) * 4 + 8 // all but the scale, which came from a tensor
      expect(net.to('meta')).toBe(net)
      expect(described()).toEqual(before)
      expect(net.first.weight).toBe(weight)
      expect([...net.parameters(), ...net.buffers()].map(({ device }) => device)).toEqual(
        [...net.parameters(), ...net.buffers()].map(() => 'meta'),
      )
      expect(net.parameters().every(({ requiresGrad, isLeaf }) => requiresGrad && isLeaf)).toBe(true)
      expect(net.buffers().every(({ requiresGrad }) => !requiresGrad)).toBe(true)
      expect(bytes - memory().bytes).toBe(size)
    })

    test('computes shapes, of gradients too', () => {
      const linear = new nn.Linear(2, 5)
      linear.requiresGrad(true)
      linear
        .forward(randn([3, 2]))
        .sum()
        .backward()
      linear.to('meta')
      expect(linear.weight.grad!.device).toBe('meta')
      linear.zeroGrad()
      const y = linear.forward(randn([3, 2], { device: 'meta' }))
      expect([y.shape, y.device]).toEqual([[3, 5], 'meta'])
      y.sum().backward()
      expect([linear.weight.grad!.shape, linear.weight.grad!.device]).toEqual([[5, 2], 'meta'])
    })

    test('keeps frozen parameters frozen, and shared ones shared', () => {
      const [a, b] = [new nn.Linear(2, 2), new nn.Linear(2, 2)]
      b.weight = a.weight
      a.requiresGrad(false)
      const both = new nn.Sequential(a, b).to('meta')
      expect(a.weight.requiresGrad).toBe(false)
      expect(b.weight).toBe(a.weight)
      expect(both.parameters()).toHaveLength(3)
    })

    test('changes dtypes there as well', () => {
      const linear = new nn.Linear(2, 2).to({ device: 'meta', dtype: 'float64' })
      expect([linear.weight.dtype, linear.to('float32').weight.dtype]).toEqual(['float64', 'float32'])
    })

    test('leaves what an optimizer holds alone', () => {
      const linear = new nn.Linear(1, 1, { bias: false })
      const optimizer = new optim.SGD(linear.parameters(), { lr: 1 })
      linear
        .forward(ones([1, 1]))
        .sum()
        .backward()
      linear.to('meta')
      expect(() => optimizer.step()).not.toThrow()
    })

    test('has no way back, and leaves the parts that have data where they are', () => {
      const [plain, meta] = [new nn.Linear(2, 2), new nn.Linear(2, 2).to('meta')]
      const both = new nn.Sequential(plain, meta)
      expect(errorOf(() => both.to({ device: 'cpu', dtype: 'float64' })).code).toBe('ERR_NOT_IMPLEMENTED')
      expect(plain.weight.dtype).toBe('float32')
    })

    test('is refused with a dtype that parameters cannot have, and moves no buffer', () => {
      const norm = new nn.BatchNorm1d(2)
      for (const target of ['int32', { device: 'meta', dtype: 'int64' }] as const)
        expect(errorOf(() => norm.to(target)).code).toBe('ERR_DTYPE')
      for (const each of [...norm.parameters(), ...norm.buffers()]) expect(each.device).toBe('cpu')
    })

    test('has no way back', () => {
      const linear = new nn.Linear(2, 2).to('meta')
      expect(errorOf(() => linear.to('cpu'))).toMatchObject({
        code: 'ERR_NOT_IMPLEMENTED',
        message: expect.stringContaining('Cannot copy out of meta tensor') as string,
      })
      expect(linear.weight.device).toBe('meta')
    })

    test('loads no weights that would be lost', () => {
      const linear = new nn.Linear(2, 2).to('meta')
      const error = errorOf(() => linear.loadStateDict(new nn.Linear(2, 2).stateDict()))
      expect(error.code).toBe('ERR_STATE_DICT')
      expect(error.message).toContain('on meta, which holds no data: weight, bias')
      expect(linear.loadStateDict(new nn.Linear(2, 2).to('meta').stateDict()).missing).toEqual([])
    })
  })

  test('gives a memory format to what has its number of dimensions', () => {
    const conv = new nn.Conv3d(2, 2, 2).to({ memoryFormat: 'channelsLast3d' })
    expect(conv.weight.isContiguous({ memoryFormat: 'channelsLast3d' })).toBe(true)
    const both = new nn.Sequential(conv, new nn.Conv2d(2, 2, 2)).to({ memoryFormat: 'channelsLast' })
    expect(both.parameters()[2]!.isContiguous({ memoryFormat: 'channelsLast' })).toBe(true)
  })

  test('refuses a dtype that can not learn', () => {
    expect(errorOf(() => new nn.Linear(2, 1).to('int64')).code).toBe('ERR_DTYPE')
  })
})

describe('what is no mode and no buffer', () => {
  test('is refused by train and requiresGrad, and changes nothing', () => {
    const net = new nn.Sequential(new nn.Linear(1, 1)).eval()
    for (const mode of ['false', 0, 1, null]) {
      expect(errorOf(() => net.train(mode as never)).code).toBe('ERR_ARGUMENT')
      expect(errorOf(() => net.requiresGrad(mode as never)).code).toBe('ERR_ARGUMENT')
    }
    expect(errorOf(() => net.train('false' as never)).message).toBe(
      'train: mode: expected true or false, got "false"',
    )
    expect(net.modules().map(each => each.training)).toEqual([false, false])
    expect(net.parameters().every(each => each.requiresGrad)).toBe(true)
  })

  test('is refused by registerBuffer', () => {
    const net = new Net()
    for (const value of [5, undefined, [1], {}])
      expect(errorOf(() => net.registerBuffer('other', value as never)).code).toBe('ERR_ARGUMENT')
    expect(errorOf(() => net.registerBuffer('other', 5 as never)).message).toBe(
      'registerBuffer: other: expected a tensor or null, got 5',
    )
    expect('other' in net).toBe(false)
  })
})

describe('state dicts', () => {
  test('have parameters, persistent buffers and children in this order, shared ones under each name', () => {
    expect(Object.keys(new Net().stateDict())).toEqual([
      'mean',
      'first.weight',
      'head.scale',
      'head.norm.weight',
      'head.norm.bias',
      'head.norm.running_mean',
      'head.norm.running_var',
      'head.norm.num_batches_tracked',
      'head.linear.weight',
      'head.linear.bias',
      'again.weight',
    ])
  })

  test('share the memory of the module and are detached', () => {
    const linear = new nn.Linear(2, 1)
    const { weight } = linear.stateDict()
    expect(weight!.requiresGrad).toBe(false)
    weight!.fill_(5)
    expect(linear.weight.tolist()).toEqual([[5, 5]])
  })

  test('bring one module to the state of another, converting the dtype', () => {
    const from = new Net().to('float64')
    const into = new Net()
    from.forward(randn([4, 3], { dtype: 'float64' }))
    expect(into.loadStateDict(from.stateDict())).toEqual({ missing: [], unexpected: [] })
    expect(into.head.norm.num_batches_tracked!.item()).toBe(1)
    expect(into.first.weight.dtype).toBe('float32')
    expect(into.first.weight.tolist()).toEqual(from.to('float32').first.weight.tolist())
  })

  test('refuse two keys that become one by prefix or rename, and stay as they were', () => {
    const linear = new nn.Linear(2, 1, { bias: false })
    const before = linear.weight.tolist()
    const dict = { weight: zeros([1, 2]), 'module.weight': zeros([1, 2]) }
    for (const strict of [true, false]) {
      const error = errorOf(() => linear.loadStateDict(dict, { prefix: 'module.', strict }))
      expect(error.code).toBe('ERR_STATE_DICT')
      expect(error.message).toContain('given more than once, by prefix or rename: weight')
    }
    expect(linear.weight.tolist()).toEqual(before)
  })

  test('are loaded under other names by prefix and rename', () => {
    const linear = new nn.Linear(2, 1)
    const dict = { 'module.fc.weight': tensor([[1, 2]]), 'module.fc.bias': tensor([3]) }
    linear.loadStateDict(dict, { prefix: 'module.', rename: key => key.replace('fc.', '') })
    expect(linear.forward(tensor([1, 1])).tolist()).toEqual([6])
  })

  test('all that does not fit is reported at once, and nothing is changed', () => {
    const net = new nn.Sequential(new nn.Linear(2, 3), new nn.Linear(3, 1))
    const before = JSON.stringify(net.parameters().map(each => each.tolist()))
    const { '0.weight': _, ...dict } = net.stateDict()
    const wrong = { ...dict, '0.bias': zeros([4]), '1.bias': zeros([1]), '2.bias': zeros([1]) }
    const error = errorOf(() => net.loadStateDict(wrong))
    expect(error.code).toBe('ERR_STATE_DICT')
    expect(error.message).toBe(
      [
        'loadStateDict into Sequential:',
        '  missing keys: 0.weight',
        '  unexpected keys: 2.bias',
        '  wrong shapes: 0.bias: expected (3), got (4)',
      ].join('\n'),
    )
    expect(JSON.stringify(net.parameters().map(each => each.tolist()))).toBe(before)
  })

  test('all values that can not be copied are reported at once, and nothing is changed', () => {
    const net = new nn.Sequential(...Array.from({ length: 8 }, () => new nn.Linear(2, 1, { bias: false })))
    const before = JSON.stringify(net.parameters().map(each => each.tolist()))
    const released = zeros([1, 2])
    released.dispose()
    const quantized = torch.quantizePerTensor(zeros([1, 2]), 1, 0, 'qint8')
    const nested = torch._nestedTensorFromTensorList([zeros([2])])
    const dict = {
      '0.weight': full([1, 2], 7),
      '1.weight': null,
      '2.weight': [1, 2],
      '3.weight': released,
      '4.weight': zeros([1, 2]).toSparse(),
      '5.weight': quantized,
      '6.weight': zeros([1, 2], { dtype: 'complex64' }),
      '7.weight': zeros([1, 2], { device: 'meta' }),
    } as unknown as Record<string, Tensor>
    for (const strict of [true, false]) {
      const error = errorOf(() => net.loadStateDict(dict, { strict }))
      expect(error.code).toBe('ERR_STATE_DICT')
      expect(error.message).toBe(
        [
          'loadStateDict into Sequential:',
          '  no tensors: 1.weight: got null; 2.weight: got [1, 2]',
          '  released tensors: 3.weight',
          '  stored otherwise: 4.weight: expected strided, got sparse; 5.weight: expected strided, got quantized',
          '  complex numbers for real ones: 6.weight: expected float32, got complex64',
          '  given on meta, without data: 7.weight',
        ].join('\n'),
      )
    }
    const last = errorOf(() => net.loadStateDict({ ...net.stateDict(), '7.weight': nested }))
    expect(last.message).toContain('stored otherwise: 7.weight: expected strided, got nested')
    expect(JSON.stringify(net.parameters().map(each => each.tolist()))).toBe(before)
  })

  test('of other kinds of buffers are tried before anything is changed', () => {
    class Kinds extends nn.Module<[], null> {
      constructor(buffer: Tensor) {
        super()
        this.registerBuffer('first', zeros([1]))
        this.registerBuffer('second', buffer)
      }
      override forward() {
        return null
      }
    }
    const quantized = (dtype: 'qint8' | 'quint8') => torch.quantizePerTensor(ones([2]), 1, 0, dtype)
    const fitting = new Kinds(quantized('qint8'))
    fitting.loadStateDict({ first: ones([1]), second: quantized('qint8') })
    const refused: [Kinds, Tensor, string][] = [
      [new Kinds(quantized('qint8')), quantized('quint8'), 'not to be copied: second: '],
      [new Kinds(zeros([1]).expand([3])), ones([3]), 'elements share memory: second'],
      [new Kinds(tensor([1, 0]).toSparse()), ones([2]), 'second: expected sparse, got strided'],
    ]
    for (const [module, second, message] of refused) {
      const error = errorOf(() => module.loadStateDict({ first: ones([1]), second }))
      expect(error.code).toBe('ERR_STATE_DICT')
      expect(error.message).toContain(message)
      expect(module.stateDict()['first']!.item()).toBe(0)
    }
  })

  test('that are no dicts, and names that are no strings, are refused', () => {
    const linear = new nn.Linear(2, 1)
    const dict = linear.stateDict()
    for (const none of [null, undefined, 'x', [zeros([1])], new Map(), Promise.resolve(dict)])
      expect(errorOf(() => linear.loadStateDict(none as never))).toMatchObject({ code: 'ERR_ARGUMENT' })
    const by = (rename: (key: string) => unknown) =>
      errorOf(() => linear.loadStateDict(dict, { rename: rename as () => string }))
    expect(by(() => 5).message).toBe(
      'loadStateDict: rename: expected a function that returns a string for "weight", got 5',
    )
    expect(by(() => undefined).code).toBe('ERR_ARGUMENT')
    expect(by(key => Promise.resolve(key)).code).toBe('ERR_ASYNC_CALLBACK')
  })

  test('missing and unexpected keys are only told with strict: false, wrong shapes stay errors', () => {
    const linear = new nn.Linear(2, 1)
    expect(linear.loadStateDict({ weight: zeros([1, 2]), extra: zeros([1]) }, { strict: false })).toEqual({
      missing: ['bias'],
      unexpected: ['extra'],
    })
    expect(linear.weight.tolist()).toEqual([[0, 0]])
    expect(errorOf(() => linear.loadStateDict({ weight: zeros([2]) }, { strict: false })).code).toBe(
      'ERR_STATE_DICT',
    )
  })

  test('of old files have no count of batches: the module keeps its own', () => {
    const norm = new nn.BatchNorm2d(2)
    norm.forward(randn([2, 2, 2, 2]))
    const { num_batches_tracked: _, ...old } = new nn.BatchNorm2d(2).stateDict()
    expect(norm.loadStateDict(old)).toEqual({ missing: [], unexpected: [] })
    expect(norm.num_batches_tracked!.item()).toBe(1)
    expect(norm.running_mean!.tolist()).toEqual([0, 0])
  })
})

describe('Sequential', () => {
  test('runs its modules one after the other', () => {
    const model = new nn.Sequential(new nn.Flatten(), new nn.Linear(4, 2), new nn.ReLU())
    const x = randn([3, 2, 2])
    const linear = model.at(1) as nn.Linear
    expect(model.forward(x).tolist()).toEqual(
      linear
        .forward(x.flatten({ startDim: 1 }))
        .relu()
        .tolist(),
    )
    expect(model.length).toBe(3)
    expect(model.at(-1)).toBeInstanceOf(nn.ReLU)
    expect([...model]).toEqual(model.children())
  })

  test('passes its input on when it is empty', () => {
    const x = randn([1])
    expect(new nn.Sequential().forward(x)).toBe(x)
  })

  test('takes names from an object', () => {
    const model = new nn.Sequential({ conv: new nn.Conv2d(3, 2, 1), relu: new nn.ReLU() })
    expect(names(model.namedModules())).toEqual(['', 'conv', 'relu'])
    expect(Object.keys(model.stateDict())).toEqual(['conv.weight', 'conv.bias'])
  })

  test('keeps its order beyond ten modules', () => {
    const model = new nn.Sequential(...Array.from({ length: 12 }, () => new nn.Identity())).append(
      new nn.ReLU(),
    )
    expect(model.at(12)).toBeInstanceOf(nn.ReLU)
    expect(names(model.namedChildren()).at(-1)).toBe('12')
  })

  test('refuses what is no module, and an index out of range', () => {
    expect(errorOf(() => new nn.Sequential(3 as unknown as nn.ReLU)).code).toBe('ERR_ARGUMENT')
    const error = errorOf(() => new nn.Sequential(new nn.ReLU()).at(1))
    expect([error.code, error.message]).toEqual([
      'ERR_INDEX',
      'Sequential: expected an index from -1 to 0, got 1',
    ])
  })

  test('prints as a tree', () => {
    const model = new nn.Sequential(new nn.Sequential(new nn.ReLU()), new nn.Linear(2, 1))
    expect(String(model)).toBe(
      [
        'Sequential(',
        '  (0): Sequential(',
        '    (0): ReLU()',
        '  )',
        '  (1): Linear(inFeatures=2, outFeatures=1, bias=true)',
        ')',
      ].join('\n'),
    )
  })
})

describe('ModuleList', () => {
  test('numbers its modules, which belong to it', () => {
    const list = new nn.ModuleList<nn.Module>([new nn.Linear(1, 1)])
      .append(new nn.Linear(1, 2))
      .extend([new nn.ReLU()])
    expect(list.length).toBe(3)
    expect(Object.keys(list.stateDict())).toEqual(['0.weight', '0.bias', '1.weight', '1.bias'])
    expect([...list].map(each => each.constructor.name)).toEqual(['Linear', 'Linear', 'ReLU'])
  })

  test('has no forward of its own', () => {
    expect(errorOf(() => new nn.ModuleList().forward()).code).toBe('ERR_NOT_IMPLEMENTED')
  })
})

describe('ModuleDict', () => {
  test('names its modules, which belong to it', () => {
    const dict = new nn.ModuleDict({ a: new nn.Linear(1, 1) }).set('b', new nn.ReLU())
    expect(dict.keys()).toEqual(['a', 'b'])
    expect(dict.size).toBe(2)
    expect(dict.get('b')).toBeInstanceOf(nn.ReLU)
    expect(dict.get('c')).toBeUndefined()
    expect(dict.has('training')).toBe(false)
    expect([...dict]).toEqual(dict.entries())
    expect(Object.keys(dict.stateDict())).toEqual(['a.weight', 'a.bias'])
    expect([dict.delete('a'), dict.delete('a'), dict.delete('training')]).toEqual([true, false, false])
    expect(dict.keys()).toEqual(['b'])
    expect(dict.values()).toEqual(dict.children())
  })

  test('replaces a module of the same name', () => {
    const relu = new nn.ReLU()
    expect(new nn.ModuleDict([['a', new nn.Tanh()]]).set('a', relu).values()).toEqual([relu])
  })

  test.each(['a.b', '', 'train', 'training', 'keys'])('refuses the name %j', name => {
    expect(errorOf(() => new nn.ModuleDict({ [name]: new nn.ReLU() })).code).toBe('ERR_ARGUMENT')
  })
})

describe('a field that hides a member of every module', () => {
  const modules: Record<string, () => nn.Module> = {
    parameters: () => Object.assign(new Head(), { parameters: new nn.Linear(1, 1) }),
    train: () => Object.assign(new Head(), { train: new nn.Parameter(ones([1])) }),
    namedChildren: () => Object.assign(new Head(), { namedChildren: new nn.Linear(1, 1) }),
    forward: () => Object.assign(new Head(), { forward: new nn.Linear(1, 1) }),
    training: () => Object.assign(new Head(), { training: new nn.Linear(1, 1) }),
  }

  test.each(Object.keys(modules))(
    'is refused by its name, in the module and in parts of it: %s',
    async name => {
      const make = modules[name]!
      const uses: (() => unknown)[] = [
        () => new nn.Sequential(make()).stateDict(),
        () => new nn.Sequential(make()).eval(),
        () => new nn.Sequential(make()).to('float64'),
        () => new nn.Sequential(make()).parameters(),
        () => captureFeatures(make(), ['linear'], ones([1, 4])),
      ]
      for (const use of uses) {
        expect(errorOf(use).message).toContain(`Head: the field "${name}" holds`)
        expect(errorOf(use).code).toBe('ERR_ARGUMENT')
      }
      const path = join(tmpdir(), 'alambic-never-written.pt')
      for (const later of [
        () => exportTorchScript(make(), [ones([1, 4])], path),
        () => evaluate(make() as never, []),
      ])
        await expect(later()).rejects.toMatchObject({
          code: 'ERR_ARGUMENT',
          message: expect.stringContaining(name) as string,
        })
    },
  )

  test('is none where a subclass overrides a method, also by a function in a field', () => {
    const net = Object.assign(new Net(), { describe: () => 'mine', train: () => net })
    expect(net.eval()).toBe(net)
    expect(net.parameters().length).toBe(6)
  })
})

test('loadStateDict says that it got a Map', () => {
  const layer = new nn.Linear(1, 1)
  const error = errorOf(() => layer.loadStateDict(new Map(Object.entries(layer.stateDict())) as never))
  expect(error.code).toBe('ERR_ARGUMENT')
  expect(error.message).toContain('got a Map; Object.fromEntries(map)')
})
