/** Values of other realms, as in `vm` contexts and test runners that have one per file: taken as this realm's are. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  AlambicError,
  captureFeatures,
  data,
  evaluate,
  exportTorchScript,
  fromTypedArray,
  loadCheckpoint,
  loadStateDict,
  loadTorchScript,
  memory,
  nn,
  noGrad,
  ones,
  optim,
  saveCheckpoint,
  saveStateDict,
  scope,
  tensor,
  torch,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { codeOf } from './codes.js'
import { failure, folderWith, idxBytes } from './data.fixtures.js'

/** What the code gives in a realm of its own, where it sees these values under their names. */
function foreign<T>(code: string, values: Record<string, unknown> = {}): T {
  return runInNewContext(`(${code})`, values) as T
}

describe('Typed arrays of another realm', () => {
  it.each([
    ['Float64Array', 'float64'],
    ['Float32Array', 'float32'],
    ['Int8Array', 'int8'],
    ['Uint8Array', 'uint8'],
    ['Uint8ClampedArray', 'uint8'],
    ['Int16Array', 'int16'],
    ['Int32Array', 'int32'],
  ])('%s are data', (name, dtype) => {
    const x = tensor(foreign<Float32Array>(`new ${name}([1, 2, 3])`))
    expect(x.dtype).toBe(dtype)
    expect(x.tolist()).toEqual([1, 2, 3])
    const y = fromTypedArray(foreign<Float32Array>(`new ${name}([0, 1, 2, 3, 4]).subarray(1)`), [2, 2])
    expect(y.tolist()).toEqual([
      [1, 2],
      [3, 4],
    ])
  })

  it('of 64 bits keep every digit', () => {
    const x = tensor(foreign<BigInt64Array>('new BigInt64Array([2n ** 62n])'))
    expect(x.toTypedArray()).toEqual(BigInt64Array.of(2n ** 62n))
  })

  it('of a class that extends one are data too', () => {
    class Samples extends Float32Array {}
    expect(tensor(new Samples([1, 2])).tolist()).toEqual([1, 2])
  })

  it('are sizes and indices', () => {
    const x = ones([2, 3])
    expect(torch.reshape(x, foreign<number[]>('new Int32Array([3, 2])')).shape).toEqual([3, 2])
    expect(torch.sum(x, foreign<number[]>('[0]'), foreign<object>('{ keepdim: true }')).shape).toEqual([1, 3])
  })

  it('are refused with a code where they are no numbers', () => {
    expect(codeOf(() => tensor(foreign<Float32Array>('new DataView(new ArrayBuffer(4))')))).toBe(
      'ERR_ARGUMENT',
    )
  })
})

describe('Memory that threads share', () => {
  const shared = <T>(make: (buffer: SharedArrayBuffer) => T) => make(new SharedArrayBuffer(16))

  it('is copied into tensors', () => {
    const floats = shared(buffer => new Float32Array(buffer, 4, 2))
    floats.set([1.5, 2.5])
    const x = tensor(floats)
    floats[0] = 7
    expect(x.tolist()).toEqual([1.5, 2.5])
    const other = foreign<Int16Array>('new Int16Array(new SharedArrayBuffer(4)).fill(3)')
    expect(fromTypedArray(other, [1, 2]).tolist()).toEqual([[3, 3]])
  })

  it('may hold files of weights, idx files and TorchScript', async () => {
    const folder = await folderWith()
    const share = (bytes: Uint8Array) => {
      const view = new Uint8Array(new SharedArrayBuffer(bytes.length + 3), 3)
      view.set(bytes)
      return view
    }
    const path = join(folder, 'w.safetensors')
    await saveStateDict({ a: tensor([1, 2]) }, path)
    expect((await loadStateDict(share(await readFile(path))))['a']!.tolist()).toEqual([1, 2])
    const idx = await data.readIdx(share(idxBytes(0x08, [2], [5, 6])))
    expect(Array.from(idx.data)).toEqual([5, 6])
    const script = join(folder, 'm.pt')
    await exportTorchScript(new nn.ReLU(), [ones([2])], script, { warn: null })
    const loaded = await loadTorchScript(share(await readFile(script)))
    expect((loaded.forward(tensor([-1, 2])) as Tensor).tolist()).toEqual([0, 2])
  })

  it('may be saved in a checkpoint', async () => {
    const path = join(await folderWith(), 'c.pt')
    await saveCheckpoint({ bytes: shared(buffer => new Uint8Array(buffer, 0, 2).fill(9)) }, path)
    expect(await loadCheckpoint(path)).toEqual({ bytes: Buffer.from([9, 9]) })
  })
})

describe('The bytes of a file', () => {
  it('come from another realm, as they do in a test runner', async () => {
    const folder = await folderWith()
    const path = join(folder, 'w.safetensors')
    await saveStateDict({ a: tensor([1, 2]) }, path)
    const bytes = foreign<Uint8Array>('Uint8Array.from(list)', { list: [...(await readFile(path))] })
    expect(bytes instanceof Uint8Array).toBe(false)
    expect((await loadStateDict(bytes))['a']!.tolist()).toEqual([1, 2])
    const idx = foreign<Uint8Array>('Uint8Array.from(list)', { list: [...idxBytes(0x08, [2], [5, 6])] })
    expect(Array.from((await data.readIdx(idx)).data)).toEqual([5, 6])
    const script = join(folder, 'm.pt')
    await exportTorchScript(new nn.ReLU(), [ones([2])], script, { warn: null })
    const code = foreign<Uint8Array>('Uint8Array.from(list)', { list: [...(await readFile(script))] })
    expect(await loadTorchScript(code)).toBeInstanceOf(nn.Module)
  })

  it('may be named by a URL of another implementation', async () => {
    const path = join(await folderWith(), 'w.safetensors')
    await saveStateDict({ a: tensor([1]) }, path)
    const { href, protocol, hostname, host, pathname, search, hash } = pathToFileURL(path)
    const url = { href, protocol, hostname, host, pathname, search, hash } as URL
    expect(Object.keys(await loadStateDict(url))).toEqual(['a'])
  })

  it('of a TorchScript model may change after the call', async () => {
    const script = join(await folderWith(), 'm.pt')
    await exportTorchScript(new nn.ReLU(), [ones([2])], script, { warn: null })
    const bytes = await readFile(script)
    const loading = loadTorchScript(bytes)
    bytes.fill(0)
    expect(await loading).toBeInstanceOf(nn.Module)
  })
})

describe('Options, state dicts and containers of another realm', () => {
  it('are options of operators', () => {
    expect(torch.sum(ones([2, 3]), [0], foreign<object>('{ keepdim: true }')).shape).toEqual([1, 3])
  })

  it('are saved and loaded', async () => {
    const folder = await folderWith()
    const model = new nn.Linear(2, 1)
    const dict = foreign<Record<string, Tensor>>('Object.fromEntries(entries)', {
      entries: Object.entries(model.stateDict()),
    })
    const metadata = foreign<Record<string, string>>('{ epoch: "3" }')
    await saveStateDict(dict, join(folder, 'a.safetensors'), { metadata })
    new nn.Linear(2, 1).loadStateDict(dict)
    const checkpoint = foreign<object>(
      '{ epoch: 3, list: [1, [2]], map: new Map([[0, { a: 1 }]]), bytes: Uint8Array.of(1, 2), dict }',
      { dict },
    )
    await saveCheckpoint(checkpoint, join(folder, 'c.pt'))
    expect(await loadCheckpoint(join(folder, 'c.pt'))).toMatchObject({
      epoch: 3,
      list: [1, [2]],
      map: { 0: { a: 1 } },
      bytes: Buffer.from([1, 2]),
    })
  })

  it('are layers of a Sequential, and groups of an optimizer', () => {
    const layer = new nn.Linear(2, 1)
    const model = new nn.Sequential(foreign<Record<string, nn.Module>>('{ layer }', { layer }))
    expect(Object.keys(model.stateDict())).toEqual(['layer.weight', 'layer.bias'])
    const groups = foreign<{ params: Tensor[] }[]>('[{ params: list }]', { list: layer.parameters() })
    const sgd = new optim.SGD(groups, foreign<{ lr: number }>('{ lr: 0.5 }'))
    sgd.loadStateDict(
      foreign<optim.OptimizerStateDict>('JSON.parse(text)', { text: JSON.stringify(sgd.stateDict()) }),
    )
    expect(sgd.stateDict().param_groups[0]!['lr']).toBe(0.5)
  })

  it('are where features are found', () => {
    class Holder extends nn.Module<[Tensor], unknown> {
      override forward(x: Tensor): unknown {
        return foreign('new Map([["a", { list: [x] }]])', { x: x.mul(2) })
      }
    }
    class Outer extends nn.Module<[Tensor], Tensor> {
      readonly part = new Holder()
      override forward(x: Tensor): Tensor {
        this.part.forward(x)
        return x
      }
    }
    const { features } = captureFeatures(new Outer(), ['part[a][list][0]'], ones([1]))
    expect((features['part[a][list][0]'] as Tensor).tolist()).toEqual([2])
  })
})

describe('scope()', () => {
  let before = 0
  beforeEach(() => {
    before = memory().tensors
  })
  const held: Tensor[] = []
  afterEach(() => {
    for (const each of held.splice(0)) each.dispose()
  })

  function leaves(make: (x: Tensor) => unknown): void {
    const x = scope(() => {
      const made = ones([2])
      held.push(made)
      return [make(made)]
    })
    expect(x).toHaveLength(1)
    expect(held.at(-1)!.isDisposed).toBe(false)
    expect(memory().tensors).toBe(before + 1)
  }

  it.each([
    ['a plain object', '{ x }'],
    ['an array', '[[x]]'],
    ['a Map, as a value', 'new Map([[1, x]])'],
    ['a Map, as a key', 'new Map([[x, 1]])'],
    ['a Set', 'new Set([x])'],
    ['all of them, nested', '{ a: [new Map([["b", new Set([[{ x }]])]])] }'],
    ['classes that extend Map and Set', 'new (class extends Map {})([[1, new (class extends Set {})([x])]])'],
    ['an object without a prototype', 'Object.assign(Object.create(null), { x })'],
  ])('keeps what is in %s of another realm', (_, code) => {
    leaves(x => foreign(code, { x }))
  })

  it('keeps what is in a circle', () => {
    leaves(x => {
      const circle: { self?: unknown; x: Tensor } = { x }
      circle.self = new Set([circle])
      return circle
    })
  })

  it('does not look into instances of classes, of whatever realm', () => {
    for (const make of [
      (x: Tensor) => foreign<object>('new (class Result { constructor() { this.x = x } })()', { x }),
      (x: Tensor) =>
        new (class Result {
          constructor(readonly x: Tensor) {}
        })(x),
    ]) {
      const result = scope(() => make(ones([2]))) as { x: Tensor }
      expect(result.x.isDisposed).toBe(true)
    }
  })

  it('bears results that are nested a hundred thousand deep', () => {
    leaves(x => {
      let list: unknown = [x]
      for (let i = 0; i < 100_000; i++) list = [list]
      return list
    })
  })

  it('refuses promises and thenables of another realm', () => {
    expect(codeOf(() => scope(() => foreign('Promise.resolve(1)')))).toBe('ERR_ASYNC_CALLBACK')
    expect(codeOf(() => noGrad(() => foreign('(async () => 1)()')))).toBe('ERR_ASYNC_CALLBACK')
    expect(codeOf(() => scope(() => foreign('{ then() {} }')))).toBe('ERR_ASYNC_CALLBACK')
  })
})

describe('Functions, signals and errors of another realm', () => {
  it('are callbacks', () => {
    expect(scope(foreign<() => number>('() => 5'))).toBe(5)
  })

  it('end an evaluation', async () => {
    const signal = foreign<AbortSignal>('{ aborted: true, addEventListener() {}, removeEventListener() {} }')
    let asked = 0
    const batches = (function* () {
      for (;;) {
        asked++
        yield { data: ones([1, 2]), labels: tensor([0n]) }
      }
    })()
    await evaluate(new nn.Linear(2, 2), batches, { signal })
    expect(asked).toBe(1)
  })

  it('are AlambicErrors where another copy of the package made them, and nothing else is', async () => {
    const here = await failure(() => tensor([[1], [2, 3]]))
    const there = foreign<unknown>(
      'Object.assign(new Error("x"), { name: "AlambicError", code: "ERR_ARGUMENT" })',
    )
    expect(here).toBeInstanceOf(AlambicError)
    expect(there).toBeInstanceOf(AlambicError)
    expect(Object.assign(new Error('x'), { code: 'ERR_FS' })).not.toBeInstanceOf(AlambicError)
    expect(null).not.toBeInstanceOf(AlambicError)
    class Mine extends AlambicError {}
    expect(here).not.toBeInstanceOf(Mine)
    expect(new Mine('ERR_ARGUMENT', 'x')).toBeInstanceOf(Mine)
  })
})

// Node.js has Float16Array from version 24 on.
const { Float16Array } = globalThis as { Float16Array?: new (values: number[]) => Float32Array }

describe.skipIf(Float16Array === undefined)('Float16Array', () => {
  it('is float16, bit for bit', () => {
    const array = new Float16Array!([1.5, -65504, 6e-8, Infinity])
    const x = tensor(array)
    expect(x.dtype).toBe('float16')
    expect(Buffer.from(native.tensorToData(x.handle)).equals(Buffer.from(array.buffer))).toBe(true)
    expect(fromTypedArray(array, [2, 2], { dtype: 'float32' }).tolist()).toEqual([
      [1.5, -65504],
      [Math.fround(2 ** -24), Infinity],
    ])
  })
})
