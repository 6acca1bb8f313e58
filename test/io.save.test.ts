import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  loadCheckpoint,
  loadStateDict,
  memory,
  models,
  nn,
  ones,
  rand,
  saveCheckpoint,
  saveStateDict,
  tensor,
  zeros,
  type Memory,
  type Tensor,
} from '../lib/index.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { openSource } from '../lib/io/source.js'
import { validateZip } from '../lib/io/zip.js'
import { native } from '../lib/native/loader.js'
import { failure, folderWith } from './data.fixtures.js'

const formats = ['.safetensors', '.pt', '.pth']

/** Less may be alive: finalizers of other tests run in between. */
function expectNoMoreThan(before: Memory): void {
  const { tensors, bytes } = memory()
  expect(tensors).toBeLessThanOrEqual(before.tensors)
  expect(bytes).toBeLessThanOrEqual(before.bytes)
}

function bits(tensor: Tensor): string {
  return Buffer.from(native.tensorToData(tensor.handle)).toString('hex')
}

describe.each(formats)('saveStateDict to %s', ending => {
  it('writes a model that another loads', async () => {
    const path = join(await folderWith(), `model${ending}`)
    const trained = models.resnet20()
    const before = memory()
    const dict = trained.stateDict()
    await saveStateDict(dict, path)
    for (const each of Object.values(dict)) each.dispose()
    expectNoMoreThan(before)
    const other = models.resnet20()
    const loaded = await loadStateDict(path)
    expect(Object.keys(loaded).sort()).toEqual(Object.keys(dict).sort())
    other.loadStateDict(loaded)
    expect(bits(other.linear.weight)).toBe(bits(trained.linear.weight))
    expect(bits(other.layer3.at(2).stateDict()['bn2.running_var'] as Tensor)).toBe(
      bits(trained.layer3.at(2).stateDict()['bn2.running_var'] as Tensor),
    )
  })

  it('replaces a file that is mapped into the tensors it is saved from', async () => {
    const path = join(await folderWith(), `weights${ending}`)
    await saveStateDict({ a: ones([1000]) }, path)
    const loaded = await loadStateDict(path)
    loaded['a']!.mul_(3)
    await saveStateDict(loaded, path)
    expect((await loadStateDict(path))['a']!.sum().item()).toBe(3000)
    expect(loaded['a']!.sum().item()).toBe(3000)
  })

  it('leaves what was there, and nothing else, when it fails in the middle', async () => {
    const folder = await folderWith()
    const path = join(folder, `weights${ending}`)
    await saveStateDict({ a: ones([2]) }, path)
    const before = readFileSync(path)
    const dict = { a: rand([4]), b: rand([4]) }
    dict.b.dispose()
    expect((await failure(() => saveStateDict(dict, path))).code).toBe('ERR_TENSOR_RELEASED')
    expect(readdirSync(folder)).toEqual([`weights${ending}`])
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  it('writes the values of the moment of the call', async () => {
    const path = join(await folderWith(), `weights${ending}`)
    const dict = { a: ones([1 << 20]), b: ones([1 << 20]) }
    const saving = saveStateDict(dict, path)
    dict.a.mul_(2)
    dict.b.dispose()
    await saving
    const { a, b } = await loadStateDict(path)
    expect([a!.sum().item(), b!.sum().item()]).toEqual([1 << 20, 1 << 20])
  })

  it('leaves nothing where the file cannot take its place', async () => {
    const folder = await folderWith()
    const path = join(folder, `weights${ending}`)
    mkdirSync(path)
    await expect(saveStateDict({ a: ones([2]) }, path)).rejects.toThrow()
    expect(readdirSync(folder)).toEqual([`weights${ending}`])
  })

  it('is read back while it is written again and again: always whole', async () => {
    const path = join(await folderWith(), `weights${ending}`)
    await saveStateDict({ a: zeros([5000]) }, path)
    let isDone = false
    const writing = (async () => {
      for (let i = 1; i <= 20; i++) await saveStateDict({ a: ones([5000]).mul(i) }, path)
      isDone = true
    })()
    let reads = 0
    while (!isDone) {
      const { a } = await loadStateDict(path, { mmap: false })
      expect(a!.max().item()).toBe(a!.min().item())
      reads++
    }
    await writing
    expect(reads).toBeGreaterThan(0)
  })

  it('saves nothing at all, and names of any kind', async () => {
    const path = join(await folderWith(), `weights${ending}`)
    const dict = { ['__proto__']: ones([1]), 'ünï "x"\n': ones([2]), '': ones([3]), '7': ones([4]) }
    await saveStateDict(dict, path)
    const loaded = await loadStateDict(path)
    expect(Object.keys(loaded).sort()).toEqual(Object.keys(dict).sort())
    await saveStateDict({}, path)
    expect(await loadStateDict(path)).toEqual({})
    expect((await inspectWeights(path)).tensors).toEqual([])
  })

  it('refuses what it cannot hold, by its key', async () => {
    const path = join(await folderWith(), `weights${ending}`)
    const refusal = (dict: Record<string, unknown>) => failure(() => saveStateDict(dict as never, path))
    expect((await refusal({ a: 5 })).message).toContain('saveStateDict: a: expected a tensor, got 5')
    expect((await refusal({ a: ones([2], { device: 'meta' }) })).message).toContain('it has no data')
    const sparse = ones([2, 2]).toSparse()
    expect((await refusal({ a: sparse })).message).toContain('convert it with toDense()')
    expect((await failure(() => saveStateDict(7 as never, path))).code).toBe('ERR_ARGUMENT')
    expect(readdirSync(join(path, '..'))).toEqual([])
  })
})

describe('saveStateDict', () => {
  it('refuses other endings, folders that are not there, and options that it does not know', async () => {
    const folder = await folderWith()
    for (const name of ['weights.bin', 'weights', 'weights.pt.gz', 'weights.npz'])
      expect((await failure(() => saveStateDict({ a: ones([1]) }, join(folder, name)))).message).toContain(
        'expected a path that ends with .safetensors or .pt or .pth',
      )
    const nowhere = await failure(() => saveStateDict({ a: ones([1]) }, join(folder, 'no', 'w.pt')))
    expect(nowhere.code).toBe('ERR_FILE_NOT_FOUND')
    const option = await failure(() => saveStateDict({}, join(folder, 'w.pt'), { meta: 1 } as object))
    expect(option.code).toBe('ERR_ARGUMENT')
    const metadata = await failure(() => saveStateDict({}, join(folder, 'w.pt'), { metadata: {} }))
    expect(metadata.message).toContain('a .safetensors file to put it into')
    expect(readdirSync(folder)).toEqual([])
  })

  it('follows a link to the file that it replaces', async () => {
    const folder = await folderWith()
    mkdirSync(join(folder, 'real'))
    writeFileSync(join(folder, 'real', 'w.pt'), 'old')
    symlinkSync(join('real', 'w.pt'), join(folder, 'latest.pt'))
    await saveStateDict({ a: ones([1]) }, join(folder, 'latest.pt'))
    expect(Object.keys(await loadStateDict(join(folder, 'real', 'w.pt')))).toEqual(['a'])
  })

  it('writes complex128 to .pt only', async () => {
    const folder = await folderWith()
    const dict = { a: zeros([2], { dtype: 'complex128' }) }
    const error = await failure(() => saveStateDict(dict, join(folder, 'w.safetensors')))
    expect(error.message).toContain(
      'a: expected a dtype that safetensors has, got complex128; save it as .pt',
    )
    await saveStateDict(dict, join(folder, 'w.pt'))
  })

  it('keeps metadata in safetensors', async () => {
    const path = join(await folderWith(), 'w.safetensors')
    await saveStateDict({ a: ones([1]) }, path, { metadata: { epoch: '3' } })
    expect((await inspectWeights(path)).metadata).toEqual({ epoch: '3' })
  })

  it('shares memory in .pt: tied weights are written once', async () => {
    const path = join(await folderWith(), 'w.pt')
    const weight = rand([100, 100])
    await saveStateDict({ weight, transposed: weight.t(), row: weight.at(7) }, path)
    const { totals, tensors } = await inspectWeights(path)
    expect(totals).toMatchObject({ tensors: 3, bytes: 40_000 })
    expect(tensors[1]).toMatchObject({ strides: [1, 100], sharesWith: 'weight' })
    const loaded = await loadStateDict(path)
    loaded['row']!.fill_(9)
    expect(loaded['weight']!.at(7, 3).item()).toBe(9)
  })

  it('writes archives that the zip reader takes, with data at multiples of 64 bytes', async () => {
    const path = join(await folderWith(), 'w.pt')
    await saveStateDict({ a: ones([3]), b: ones([5]), c: ones([0]) }, path)
    const source = await openSource(path)
    const archive = await validateZip(source)
    expect([...archive.entries.values()].map(({ offset }) => offset % 64)).toEqual([0, 0, 0, 0, 0, 0])
    await source.close()
  })
})

describe('saveStateDict', () => {
  it('refuses keys and metadata that would come back as something else', async () => {
    const folder = await folderWith()
    for (const format of formats) {
      const path = join(folder, `m${format}`)
      const error = await failure(() => saveStateDict({ '\ud800': ones([1]) }, path))
      expect(error.code).toBe('ERR_ARGUMENT')
      expect(error.message).toContain('saveStateDict: key: expected text that UTF-8 can hold')
      const symbol = { [Symbol('s')]: ones([1]) } as Record<string, Tensor>
      expect((await failure(() => saveStateDict(symbol, path))).message).toContain('got Symbol(s)')
    }
    const metadata = { by: '\ud800' }
    const error = await failure(() => saveStateDict({}, join(folder, 'm.safetensors'), { metadata }))
    expect(error.message).toContain('saveStateDict: metadata: expected text')
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('saveCheckpoint', () => {
  it('gives back what it was given', async () => {
    const path = join(await folderWith(), 'c.pt')
    const value = {
      list: [1, -5, 2 ** 40, 0.1, -0, Infinity, NaN, [true, false, null]],
      text: 'ünï 🎉',
      big: -(2n ** 100n),
      bytes: Buffer.from([0, 127, 255]),
      nested: { 0: { a: tensor([1, 2]) }, 1: {} },
    }
    await saveCheckpoint({ ...value, map: new Map([[1, 'one']]), left: undefined }, path)
    const loaded = await loadCheckpoint<typeof value>(path)
    const { nested, ...plain } = loaded
    expect(plain).toEqual({
      list: value.list,
      text: value.text,
      big: value.big,
      bytes: value.bytes,
      map: { 1: 'one' },
    })
    expect(nested[0].a.tolist()).toEqual([1, 2])
  })

  it('refuses what would come back as something else, and names the place', async () => {
    const folder = await folderWith()
    const path = join(folder, 'c.pt')
    const detached = new Uint8Array(4)
    structuredClone(detached.buffer, { transfer: [detached.buffer] })
    const refused: [unknown, string][] = [
      // eslint-disable-next-line no-sparse-arrays -- this is what is tested
      [{ a: [1, , 3] }, 'saveCheckpoint: a[1]: expected tensors'],
      [{ a: [1, { b: [undefined] }] }, 'saveCheckpoint: a[1].b[0]: expected tensors'],
      [{ a: ['x\ud800'] }, 'saveCheckpoint: a[0]: expected text that UTF-8 can hold'],
      [{ a: { '\udc00': 1 } }, 'saveCheckpoint: a: expected text that UTF-8 can hold'],
      [
        { a: Object.assign([1], { mean: 2 }) },
        'saveCheckpoint: a: expected an array with elements only, got "mean"',
      ],
      [
        { a: { [Symbol('s')]: 1 } },
        'saveCheckpoint: a: expected keys that are strings or numbers, got Symbol(s)',
      ],
      [{ a: detached }, 'whose memory was transferred'],
    ]
    for (const [value, message] of refused) {
      const error = await failure(() => saveCheckpoint(value, path))
      expect(error.code).toBe('ERR_ARGUMENT')
      expect(error.message).toContain(message)
    }
    expect(readdirSync(folder)).toEqual([])
  })

  it('refuses what a checkpoint cannot hold, circles, and other endings', async () => {
    const folder = await folderWith()
    const path = join(folder, 'c.pt')
    const circle: unknown[] = []
    circle.push(circle)
    const refused = {
      a: { b: new Date() },
      c: circle,
      d: () => 1,
      e: new nn.Linear(1, 1),
      f: new Map([[{}, 1]]),
    }
    for (const [key, value] of Object.entries(refused))
      expect((await failure(() => saveCheckpoint({ [key]: value }, path))).code).toBe('ERR_ARGUMENT')
    expect((await failure(() => saveCheckpoint({ a: { b: new Date() } }, path))).message).toContain(
      'saveCheckpoint: a.b: expected tensors, numbers',
    )
    expect((await failure(() => saveCheckpoint({}, join(folder, 'c.safetensors')))).code).toBe('ERR_ARGUMENT')
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('Weights in several files', () => {
  async function sharded(map: Record<string, string>): Promise<string> {
    const folder = await folderWith()
    await saveStateDict({ a: ones([1]), extra: ones([2]) }, join(folder, 'm-1.safetensors'))
    await saveStateDict({ b: ones([3]) }, join(folder, 'm-2.pt'))
    const path = join(folder, 'm.index.json')
    writeFileSync(path, JSON.stringify({ metadata: { total_size: 16 }, weight_map: map }))
    return path
  }

  it('are loaded and inspected by their index, in its order', async () => {
    const path = await sharded({ b: 'm-2.pt', a: 'm-1.safetensors' })
    const dict = await loadStateDict(path)
    expect(Object.entries(dict).map(([key, { shape }]) => [key, shape])).toEqual([
      ['b', [3]],
      ['a', [1]],
    ])
    expect((await inspectWeights(path)).totals.tensors).toBe(2)
  })

  it.each([
    ['a tensor that is not there', { c: 'm-1.safetensors' }, 'expected "c" in m-1.safetensors'],
    [
      'a file that is not there',
      { a: 'm-3.safetensors' },
      'm-3.safetensors: expected a file that can be read',
    ],
    ['a file elsewhere', { a: '../m-1.safetensors' }, 'names of files beside the index'],
    ['itself', { a: 'm.index.json' }, 'found another index'],
  ])('are refused when the index names %s', async (_, map, reason) => {
    const path = await sharded(map)
    expect((await failure(() => loadStateDict(path))).message).toContain(reason)
  })

  it('need a path', async () => {
    const bytes = readFileSync(await sharded({ a: 'm-1.safetensors' }))
    expect((await failure(() => loadStateDict(bytes))).message).toContain('give its path')
  })
})
