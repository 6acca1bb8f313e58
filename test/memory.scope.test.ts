import { describe, expect, it } from 'vitest'
import { enableGrad, keep, memory, nn, noGrad, scope, torch, unscoped } from '../lib/index.js'
import { codeOf } from './codes.js'
import { device, ones, tensor, zeros } from './device.js'

describe('scope()', () => {
  it('releases what was made in it, except the result', () => {
    const before = memory().tensors
    const result = scope(() => {
      const a = ones([3])
      const b = a.add(1)
      return b.mul(2)
    })
    expect(memory().tensors).toBe(before + 1)
    expect(result.tolist()).toEqual([4, 4, 4])
    result.dispose()
    expect(memory().tensors).toBe(before)
  })

  it('looks for tensors inside arrays, objects, maps and sets', () => {
    const before = memory().tensors
    const result = scope(() => ({
      list: [ones([1]), { deep: zeros([1]) }],
      map: new Map([['a', ones([1])]]),
      set: new Set([ones([1])]),
      other: ones([1]).item(),
    }))
    expect(memory().tensors).toBe(before + 4)
    expect((result.list[1] as { deep: (typeof result.list)[0] }).deep).toBeDefined()
    scope(() => result) // does not own them: they were made outside
    expect(memory().tensors).toBe(before + 4)
  })

  it('leaves its tensors to the backstop where a promise may resolve to one of them', async () => {
    const result = scope(() => {
      const sum = ones([2]).add(1)
      return { now: ones([1]), later: Promise.resolve({ sum }) }
    })
    const { sum } = await result.later
    expect(sum.tolist()).toEqual([2, 2])
    expect(result.now.isDisposed).toBe(false)
  })

  it('finds tensors under symbols, beside elements, and where they are not enumerable', () => {
    const before = memory().tensors
    const key = Symbol('k')
    const long = new Array<number>(5000).fill(0)
    const results = scope(() => [
      { [key]: ones([1]) },
      Object.assign([1], { beside: ones([1]) }),
      Object.assign(long, { [key]: ones([1]) }),
      Object.defineProperty({ a: 1 }, 'hidden', { value: ones([1]) }),
      Object.assign(new Map(), { beside: ones([1]) }),
      Object.assign([], { deep: [{ [key]: ones([1]) }] }),
    ])
    expect(memory().tensors).toBe(before + results.length)
  })

  it('refuses generators, whose body would run outside', () => {
    const generator = function* () {
      yield ones([1])
    }
    for (const run of [scope, noGrad, enableGrad]) {
      expect(codeOf(() => run(generator))).toBe('ERR_ASYNC_CALLBACK')

      expect(codeOf(() => run(async function* () {}))).toBe('ERR_ASYNC_CALLBACK')
    }
    expect(scope(() => [...generator()])[0]!.tolist()).toEqual([1])
  })

  it('hands what leaves an inner scope to the outer one', () => {
    const before = memory().tensors
    scope(() => {
      const inner = scope(() => ones([2]).add(1))
      expect(inner.tolist()).toEqual([2, 2])
    })
    expect(memory().tensors).toBe(before)
  })

  it('releases after an error too', () => {
    const before = memory().tensors
    expect(() =>
      scope(() => {
        ones([2])
        throw new Error('mine')
      }),
    ).toThrow('mine')
    expect(memory().tensors).toBe(before)
  })

  it('spares what was kept, made outside of scopes, or belongs to a module', () => {
    const [kept, free, layer] = scope(() => {
      const holder: { tensor?: ReturnType<typeof ones>; free?: ReturnType<typeof ones> } = {}
      holder.tensor = keep(ones([1]))
      holder.free = unscoped(() => zeros([1]))
      const module = new nn.BatchNorm1d(2).to(device)
      return [() => holder.tensor!.item(), () => holder.free!.item(), module] as const
    })
    expect(kept()).toBe(1)
    expect(free()).toBe(0)
    expect(layer.stateDict()['running_var']!.tolist()).toEqual([1, 1])
    expect(layer.forward(ones([4, 2])).shape).toEqual([4, 2])
  })

  it('refuses callbacks that return a promise', () => {
    expect(codeOf(() => scope(() => Promise.resolve(1)))).toBe('ERR_ASYNC_CALLBACK')
  })
})

describe('dispose()', () => {
  it('makes every later use an error, and a second dispose() nothing', () => {
    const x = ones([2])
    x.dispose()
    x.dispose()
    expect(x.isDisposed).toBe(true)
    for (const use of [
      () => x.add(1),
      () => torch.cat([x, x]),
      () => x.shape,
      () => x.tolist(),
      () => x.backward(),
    ])
      expect(codeOf(use)).toBe('ERR_TENSOR_RELEASED')
  })

  it('never lets an old handle name a new tensor', () => {
    const old = ones([2])
    const { handle } = old
    old.dispose()
    const fresh = Array.from({ length: 100 }, (_, i) => tensor([i]))
    expect(fresh.map(each => each.handle)).not.toContain(handle)
    old.handle = handle // as a bug would
    expect(codeOf(() => old.add(1))).toBe('ERR_TENSOR_RELEASED')
  })

  it('works through `using`', () => {
    const before = memory().tensors
    {
      using x = ones([2])
      expect(x.sum().item()).toBe(2)
      expect(memory().tensors).toBe(before + 2)
    }
    expect(memory().tensors).toBe(before + 1) // the sum: left to the backstop
  })
})

describe('memory()', () => {
  it('counts a storage once, however many views it has', () => {
    const before = memory()
    const x = zeros([1024], { dtype: 'float32' })
    const views = [x.reshape([32, 32]), x.narrow(0, 0, 10), x.detach()]
    const after = memory()
    expect(after.tensors - before.tensors).toBe(4)
    expect(after.storages - before.storages).toBe(1)
    expect(after.bytes - before.bytes).toBe(4096)
    for (const view of views) view.dispose()
    expect(memory().bytes - before.bytes).toBe(4096)
    x.dispose()
    expect(memory().bytes).toBe(before.bytes)
  })
})

describe('memory() after operators in place', () => {
  const bytesOf = (body: () => void) => {
    const { bytes, storages } = memory()
    body()
    const now = memory()
    return [now.bytes - bytes, now.storages - storages]
  }

  it('counts what resize_ and out grew', () => {
    const x = zeros([4])
    const y = zeros([0])
    expect(bytesOf(() => x.resize_([100]))).toEqual([96 * 4, 0])
    expect(bytesOf(() => torch.cat([x, x], { out: y }))).toEqual([200 * 4, 0])
    expect(bytesOf(() => [x, y].forEach(each => each.dispose()))).toEqual([-300 * 4, -2])
  })

  it('counts the storage that set_ gave a tensor, and not the one that it had', () => {
    const x = zeros([1000])
    const y = zeros([10])
    expect(bytesOf(() => x.set_(y))).toEqual([-1000 * 4, -1])
    expect(bytesOf(() => x.dispose())).toEqual([0, 0])
    expect(bytesOf(() => y.dispose())).toEqual([-10 * 4, -1])
  })

  it('takes no storage for one that is gone and lay at its address', () => {
    const tensors = Array.from({ length: 50 }, () => zeros([1000]))
    const small = zeros([1])
    for (const each of tensors) each.set_(small)
    const { bytes, storages } = memory()
    const others = Array.from({ length: 50 }, (_, i) => zeros([10 + i]))
    expect(memory().storages - storages).toBe(50)
    expect(memory().bytes - bytes).toBe(others.reduce((sum, each) => sum + 4 * each.numel(), 0))
    for (const each of [...tensors, ...others]) each.dispose()
    expect(memory()).toMatchObject({ bytes, storages })
  })

  it('counts all handles of a tensor whose data a module replaced', () => {
    const linear = new nn.Linear(100, 100, { bias: false }).to(device)
    linear.weight.requiresGrad = false
    const state = linear.stateDict()
    const { bytes } = memory()
    linear.to('float64')
    expect(memory().bytes - bytes).toBe(100 * 100 * 8)
    for (const each of Object.values(state)) each.dispose()
    expect(memory().bytes - bytes).toBe(100 * 100 * 4)
  })
})
