/** Checkpoints as public zoos lay them out (test/reference/zoo.py): the weights are found, what is beside them not needed. */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { beforeEach, describe, expect, it } from 'vitest'
import { loadCheckpoint, loadStateDict, nn, tensor, type Tensor } from '../lib/index.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { failure, folderWith } from './data.fixtures.js'
import reference from './reference/zoo.json' with { type: 'json' }

// Python's file would run this.
const proof = 'alambic-zoo-ran'
beforeEach(() => rmSync(proof, { force: true }))

function named(name: string): Buffer {
  return Buffer.from(reference.cases.find(each => each.name === `${name}, new`)!.file, 'base64')
}

function disposeAll(tensors: Record<string, Tensor>): void {
  for (const each of Object.values(tensors)) each.dispose()
}

describe.each(reference.cases)('A checkpoint with $name', ({ file, keys, unknown }) => {
  const content = Buffer.from(file, 'base64')

  it('gives its weights under their own keys', async () => {
    const loaded = await loadStateDict(content)
    expect(Object.keys(loaded)).toEqual(keys)
    if (keys.length === 2 && keys[0] === 'weight')
      expect(loaded['weight']!.tolist()).toEqual(reference.weight)
    disposeAll(loaded)
    expect(existsSync(proof)).toBe(false)
  })

  it('names what is not known when it is looked into, and runs nothing', async () => {
    const summary = await inspectWeights(content)
    expect(summary.unknown).toEqual(unknown)
    expect(summary.tensors.map(({ key }) => key)).toEqual(
      expect.arrayContaining([expect.stringMatching(/weight$/)]),
    )
    expect(existsSync(proof)).toBe(false)
  })
})

it.each(reference.needed)('What is needed is refused by its name: $name', async ({ file, entry, what }) => {
  const content = Buffer.from(file, 'base64')
  const error = await failure(() => loadStateDict(content, entry === null ? {} : { entry }))
  expect(error.code).toBe('ERR_UNSAFE_PICKLE')
  expect(error.message).toContain(`found ${what}`)
})

describe('An entry by its name', () => {
  it.each(['a namespace', 'a NumPy array', 'objects in objects', 'what would run'])(
    'is read beside %s',
    async name => {
      expect(Object.keys(await loadStateDict(named(name), { entry: 'model' }))).toEqual(['weight', 'bias'])
    },
  )

  it('is read by loadCheckpoint, which otherwise refuses what it does not know and names the other parts', async () => {
    const file = named('a namespace')
    const error = await failure(() => loadCheckpoint(file))
    expect(error.code).toBe('ERR_UNSAFE_PICKLE')
    expect(error.message).toContain('at opt, found argparse.Namespace')
    expect(error.message).toContain('read another part with { entry }: "model"')
    const model = await loadCheckpoint<Record<string, Tensor>>(file, { entry: 'model' })
    expect(model['weight']!.tolist()).toEqual(reference.weight)
  })

  it('does not hide weights that are called model themselves', async () => {
    const file = named('a model of its own')
    expect(Object.keys(await loadStateDict(file, { entry: 'model' }))).toEqual(['weight', 'bias'])
  })
})

describe('A file that holds weights only when it was unpacked or fetched', () => {
  /** One file in a tar archive; `magic` as POSIX has it, or as it was before. */
  function tar(name: string, content: Buffer, magic = 'ustar\u000000'): Buffer {
    const header = Buffer.alloc(512)
    header.write(name, 0)
    header.write('0000644\0', 100)
    header.write(content.length.toString(8).padStart(11, '0') + '\0', 124)
    header.write('        ', 148)
    header.write('0', 156)
    header.write(magic, 257, 'latin1')
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    const padding = Buffer.alloc((512 - (content.length % 512)) % 512)
    return Buffer.concat([header, content, padding])
  }

  it('says that it is a tar archive, what is in it and how to go on', async () => {
    const file = named('a best accuracy')
    const archive = Buffer.concat([
      tar('nets/last.pth', file),
      tar('nets/best.pth', file),
      Buffer.alloc(1024),
    ])
    const path = join(await folderWith({ 'zoo.pth.tar': archive }), 'zoo.pth.tar')
    for (const load of [loadStateDict, loadCheckpoint, inspectWeights]) {
      const error = await failure(() => load(path))
      expect(error.code).toBe('ERR_FILE_FORMAT')
      expect(error.message).toContain(
        'found a tar archive with "nets/last.pth", "nets/best.pth"; unpack it (tar -xf',
      )
    }
    const old = await failure(() => loadStateDict(tar('last.pth', file, '')))
    expect(old.message).toContain('a tar archive with "last.pth"')
  })

  it.each([
    ['gzip data', gzipSync(named('a best accuracy')), 'unpack it'],
    [
      'a pointer of Git LFS',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\n'),
      'git lfs pull',
    ],
    [
      'a page of HTML',
      Buffer.from('\n<!DOCTYPE html><html><body>429</body></html>'),
      'download the file again',
    ],
    [
      'a pickle that torch.save did not write',
      Buffer.from([0x80, 4, 0x95, 2, 0, 0, 0, 0, 0, 0, 0, 0x7d, 0x2e]),
      'torch.save',
    ],
    ['an HDF5 file', Buffer.from('894844460d0a1a0a0000', 'hex'), 'safetensors'],
    ['an empty file', Buffer.alloc(0), 'get the file again'],
  ])('says that it is %s', async (found, content, remedy) => {
    const error = await failure(() => loadStateDict(content))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toContain(`found ${found}`)
    expect(error.message).toContain(remedy)
  })

  it('is not taken for a tar archive where one byte of the header is another', async () => {
    const damaged = tar('last.pth', Buffer.alloc(10))
    damaged[3]! ^= 1
    expect((await failure(() => loadStateDict(damaged))).message).not.toContain('tar')
  })
})

describe('Keys that differ in what they begin with', () => {
  const model = () => new nn.Sequential(new nn.Linear(3, 2), new nn.BatchNorm1d(2))
  const withPrefix = (prefix: string, dict: Record<string, Tensor>) =>
    Object.fromEntries(Object.entries(dict).map(([key, each]) => [prefix + key, each]))
  const message = async (dict: Record<string, Tensor>, into: nn.Module = model()) =>
    (await failure(() => void into.loadStateDict(dict))).message

  it.each(['module.', '_orig_mod.', '_orig_mod.module.', 'net.encoder.'])(
    'are offered the prefix %s, and load with it',
    async prefix => {
      const dict = withPrefix(prefix, model().stateDict())
      expect(await message(dict)).toContain(`with { prefix: "${prefix}" } 6 of the missing keys are there`)
      model().loadStateDict(dict, { prefix })
    },
  )

  it('are offered it where others are beside them, and some are missing', async () => {
    const dict = withPrefix('module.', model().stateDict())
    delete dict['module.1.bias']
    dict['queue'] = tensor([1])
    expect(await message(dict)).toContain('with { prefix: "module." } 5 of the missing keys are there')
  })

  it('are offered what they lack where the model is the one that has it', async () => {
    const wrapped = new nn.Sequential({ module: model() })
    const dict = model().stateDict()
    expect(await message(dict, wrapped)).toContain('with { rename: key => "module." + key } 6 of')
    wrapped.loadStateDict(dict, { rename: key => 'module.' + key })
  })

  it('are offered nothing where no prefix helps', async () => {
    const others = { 'features.0.kernel': tensor([1]), 'features.1.kernel': tensor([1]) }
    expect(await message(others)).not.toContain('prefix')
    expect(await message({})).not.toContain('prefix')
  })
})
