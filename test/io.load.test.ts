/** Files as Python writes them (test/reference/io.py), read here: bit for bit, and never run. */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadCheckpoint, loadStateDict, memory, nn, optim, type Memory, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { failure, folderWith } from './data.fixtures.js'
import reference from './reference/io.json' with { type: 'json' }

interface Described {
  dtype: string
  shape: number[]
  strides: number[]
  bits: string
}

/** Newer dtypes are not in every libtorch that is supported. */
const hasNewer = native.dtypes().includes('float8_e8m0fnu')

/** Less may be alive: finalizers of other tests run in between. */
function expectNoMoreThan(before: Memory): void {
  const { tensors, bytes } = memory()
  expect(tensors).toBeLessThanOrEqual(before.tensors)
  expect(bytes).toBeLessThanOrEqual(before.bytes)
}

function bits(tensor: Tensor): string {
  return Buffer.from(native.tensorToData(tensor.handle)).toString('hex')
}

function described(tensor: Tensor): Described {
  const { dtype, shape, strides } = tensor
  return { dtype, shape, strides, bits: bits(tensor) }
}

function disposeAll(tensors: Record<string, Tensor>): void {
  for (const tensor of Object.values(tensors)) tensor.dispose()
}

function named(list: readonly { name: string; file: string }[], name: string): Buffer {
  return Buffer.from(list.find(each => each.name === name)!.file, 'base64')
}

let before = memory()
beforeEach(() => {
  before = memory()
})

describe.each(reference.cases)('$name', ({ file, tensors, shared, needsNewer }) => {
  const content = Buffer.from(file, 'base64')
  // Old libtorch prints other strides for empty tensors only; all else is the same.
  const test = needsNewer && !hasNewer ? it.skip : it

  test('is read bit for bit, from bytes, from a mapped file and from one that is read', async () => {
    const path = join(await folderWith({ weights: content }), 'weights')
    for (const load of [
      () => loadStateDict(content),
      () => loadStateDict(path),
      () => loadStateDict(path, { mmap: false }),
    ]) {
      const loaded = await load()
      const found = Object.fromEntries(Object.entries(loaded).map(([key, each]) => [key, described(each)]))
      expect(found).toEqual(tensors)
      disposeAll(loaded)
    }
    expectNoMoreThan(before)
  })

  test('has tensors that share memory where they did', async () => {
    const loaded = await loadStateDict(content)
    const storageOf = (key: string) => native.storageOf(loaded[key]!.handle).id
    for (const keys of shared) expect(new Set(keys.map(storageOf)).size).toBe(1)
    const storages = new Set(Object.keys(loaded).map(storageOf))
    const expected = Object.keys(loaded).length - shared.reduce((sum, keys) => sum + keys.length - 1, 0)
    expect(storages.size).toBe(expected)
    disposeAll(loaded)
  })
})

describe('loadCheckpoint', () => {
  it.each(reference.plain)('reads plain values: $name', async ({ file }) => {
    const value = await loadCheckpoint(Buffer.from(file, 'base64'))
    expect(value).toEqual({
      none: null,
      true: true,
      false: false,
      int: -5,
      large: 2n ** 60n,
      huge: 2n ** 100n,
      float: 0.1,
      inf: Infinity,
      text: 'ünï\n',
      list: [1, [2, 3]],
      tuple: [1, [2]],
      set: new Set([1]),
      bytes: Buffer.from([0, 255]),
      bytearray: Buffer.from('ab'),
      complex: { re: 1, im: 2 },
      size: [2, 3],
      dtype: 'float32',
      device: 'cuda:1',
      ordered: { a: 1 },
      keys: { 1: 'one', b: 2 },
      counter: { a: 2, b: 1 },
      empty: {},
    })
  })

  it.each(['torch.save, a checkpoint', 'old torch.save, a checkpoint'])(
    'reads what training goes on from: %s',
    async name => {
      interface Checkpoint {
        epoch: number
        best: number
        state_dict: Record<string, Tensor>
        optimizer: optim.OptimizerStateDict
      }
      const checkpoint = await loadCheckpoint<Checkpoint>(named(reference.cases, name))
      expect(checkpoint).toMatchObject({ epoch: 3, best: 0.5 })
      const model = new nn.Sequential(
        new nn.Linear(3, 2),
        new nn.BatchNorm1d(2),
        new nn.Linear(2, 3, { bias: false }),
      )
      model.loadStateDict(checkpoint.state_dict)
      expect(bits((model.at(0) as nn.Linear).weight)).toBe(bits(checkpoint.state_dict['0.weight']!))
      const optimizer = new optim.Adam(model.parameters())
      optimizer.loadStateDict(checkpoint.optimizer)
      expect(optimizer.stateDict().param_groups[0]!['lr']).toBe(0.01)
    },
  )
})

describe('loadStateDict', () => {
  const checkpoint = named(reference.cases, 'torch.save, a checkpoint')

  it('takes an entry by its path, or the whole file', async () => {
    expect(Object.keys(await loadStateDict(checkpoint, { entry: 'state_dict' }))).toContain('0.weight')
    const state = await loadStateDict(checkpoint, { entry: 'optimizer.state.0' })
    expect(Object.keys(state)).toEqual(['step', 'exp_avg', 'exp_avg_sq'])
    const all = Object.keys(await loadStateDict(checkpoint, { entry: '' }))
    expect(all).toEqual(expect.arrayContaining(['state_dict.0.weight', 'optimizer.state.0.exp_avg']))
  })

  it('names the entries when there is no such one, and says what it found instead of tensors', async () => {
    const missing = await failure(() => loadStateDict(checkpoint, { entry: 'state' }))
    expect(missing.code).toBe('ERR_STATE_DICT')
    expect(missing.message).toContain(
      'no entry "state"; there are "epoch", "state_dict", "optimizer", "best"',
    )
    const number = await failure(() => loadStateDict(checkpoint, { entry: 'epoch' }))
    expect(number.message).toContain('expected a dict of tensors at "epoch", found a number')
  })

  it('converts floating point tensors, and leaves the others', async () => {
    const loaded = await loadStateDict(checkpoint, { dtype: 'float64' })
    expect(loaded['0.weight']!.dtype).toBe('float64')
    expect(loaded['1.num_batches_tracked']!.dtype).toBe('int64')
  })

  it('puts tensors on another device', async () => {
    const loaded = await loadStateDict(checkpoint, { device: 'meta' })
    expect(loaded['0.weight']!.device).toBe('meta')
    expect(loaded['0.weight']!.shape).toEqual([2, 3])
  })

  it('gives tensors that can be changed without changing the file', async () => {
    const path = join(await folderWith({ weights: checkpoint }), 'weights')
    const first = await loadStateDict(path)
    const original = bits(first['0.weight']!)
    first['0.weight']!.fill_(5)
    expect(bits((await loadStateDict(path))['0.weight']!)).toBe(original)
    rmSync(path)
    expect(first['0.weight']!.tolist()).toEqual([
      [5, 5, 5],
      [5, 5, 5],
    ])
  })

  it('records no gradients', async () => {
    const loaded = await loadStateDict(named(reference.cases, 'torch.save, special tensors'))
    expect(Object.values(loaded).some(each => each.requiresGrad)).toBe(false)
  })

  it('refuses options that it does not know, and other values than paths and bytes', async () => {
    const typo = await failure(() => loadStateDict(checkpoint, { devise: 'cpu' } as object))
    expect(typo.message).toContain('no option "devise"; did you mean "device"?')
    expect((await failure(() => loadStateDict(5 as never))).code).toBe('ERR_ARGUMENT')
    expect((await failure(() => loadStateDict('nowhere.pt'))).code).toBe('ERR_FILE_NOT_FOUND')
    expect((await failure(() => loadStateDict('test'))).message).toContain('a folder')
  })

  it('takes the bytes of a file as an ArrayBuffer, shared or not', async () => {
    const bytes = Uint8Array.from(checkpoint)
    const shared = new SharedArrayBuffer(bytes.length)
    new Uint8Array(shared).set(bytes)
    const keys = Object.keys(await loadStateDict(checkpoint))
    for (const buffer of [bytes.buffer, shared])
      expect(Object.keys(await loadStateDict(buffer))).toEqual(keys)
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
    const gone = await failure(() => loadStateDict(bytes.buffer))
    expect([gone.code, gone.message]).toEqual([
      'ERR_ARGUMENT',
      expect.stringContaining('memory was transferred'),
    ])
  })

  it('releases everything when it fails in the middle', async () => {
    const damaged = Buffer.from(checkpoint)
    // The last byte of the fourth tensor: three were made before.
    damaged[damaged.indexOf('PK\x07\x08', damaged.indexOf('data/3')) - 1]! ^= 1
    expect((await failure(() => loadStateDict(damaged))).code).toBe('ERR_FILE_FORMAT')
    expectNoMoreThan(before)
  })
})

// Python's file would run this: see test/reference/io.py.
const proof = 'alambic-pickle-ran'

describe('A pickle that would run code', () => {
  beforeEach(() => rmSync(proof, { force: true }))
  afterEach(() => rmSync(proof, { force: true }))

  it.each(reference.refused)('is refused by name and not run: $name', async ({ file, what }) => {
    const content = Buffer.from(file, 'base64')
    for (const load of [loadStateDict, loadCheckpoint]) {
      const error = await failure(() => load(content))
      expect(error.code).toBe('ERR_UNSAFE_PICKLE')
      expect(error.message).toContain(what === 'numpy' ? 'found numpy.' : `found ${what}`)
    }
    expect(existsSync(proof)).toBe(false)
  })
})

describe('The dtype to convert to', () => {
  it.each([
    ['int8', 'dtype: expected a floating point dtype, got "int8"'],
    ['bool', 'dtype: expected a floating point dtype, got "bool"'],
    ['foo', `dtype: expected a dtype such as 'float32', got "foo"`],
  ])('is none that loses the values: %s', async (dtype, message) => {
    for (const load of [loadStateDict, loadCheckpoint]) {
      const error = await failure(() => load('never-read.pt', { dtype: dtype as 'int8' }))
      expect(error.code).toBe('ERR_DTYPE')
      expect(error.message).toBe(message)
    }
  })
})
