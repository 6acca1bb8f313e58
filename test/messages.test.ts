/** Messages that name the mistake and the way out: files of another kind, and numbers out of range. */
import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  AdaptationLayer,
  exportTorchScript,
  full,
  loadStateDict,
  loadTorchScript,
  nn,
  ones,
  saveStateDict,
  zeros,
} from '../lib/index.js'
import { failure } from './data.fixtures.js'
import { zip } from './io.fixtures.js'
import { isOldest } from './nn.fixtures.js'
import { handmadeScript } from './script.handmade.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-messages-'))

/** How a model of PyTorch's exporter begins: version, maker, its version, graph. */
const onnx = Buffer.from('08081207707974 6f7263681a06322e31332e303a03'.replaceAll(' ', '') + '0a0178', 'hex')

const zipOf = (...names: string[]) => zip(names.map(name => ({ name, data: Buffer.from('{}') })))

/** As PyTorch 1.0 to 1.2 wrote it. */
const oldScript = zipOf('net/version', 'net/code/net.py', 'net/tensors/0', 'net/model.json')

describe('loadTorchScript', () => {
  it.each([
    ['a model in ONNX', 'x.onnx', onnx, 'save what it was made of in Python: the model with torch.jit.save'],
    ['an HDF5 file', 'x.h5', Buffer.from('894844460d0a1a0a0000', 'hex'), 'convert it in Python'],
    [
      'a model of TensorFlow Lite',
      'x.tflite',
      Buffer.from('1c00000054464c33', 'hex'),
      'convert it in Python',
    ],
    ['gzip data', 'x.pt.gz', Buffer.from('1f8b0800', 'hex'), 'unpack it'],
    ['a page of HTML', 'x.pt', Buffer.from('<!doctype html><p>429'), 'download the file again'],
    [
      'a pointer of Git LFS',
      'x.pt',
      Buffer.from('version https://git-lfs.github.com/spec/v1\n'),
      'git lfs pull',
    ],
    ['an empty file', 'x.pt', Buffer.alloc(0), 'get the file again'],
    [
      'TorchScript of PyTorch 1.0 to 1.2',
      'x.pt',
      oldScript,
      "torch.jit.save(torch.jit.load('old.pt'), 'new.pt')",
    ],
    [
      'a program of torch.export',
      'x.pt2',
      zipOf('net/archive_format', 'net/models/model.json'),
      'torch.jit.save',
    ],
    ["arrays of NumPy's (.npz)", 'x.npz', zipOf('a.npy', 'b.npy'), 'convert it in Python'],
    ['a model of Keras', 'x.keras', zipOf('config.json', 'model.weights.h5'), 'convert it in Python'],
  ])('says that a file, and bytes, are %s, and how to go on', async (found, name, content, remedy) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    for (const source of [path, content]) {
      const { code, message } = await failure(() => loadTorchScript(source))
      expect(code).toBe('ERR_FILE_FORMAT')
      expect(message).toContain(`found ${found}`)
      expect(message).toContain(remedy)
      expect(message).not.toContain('damaged')
    }
  })

  it.each(['weights.safetensors', 'weights.pt'])('says that %s has weights, and what to do', async name => {
    const path = join(folder, name)
    await saveStateDict(new nn.Linear(2, 2).stateDict(), path)
    const { code, message } = await failure(() => loadTorchScript(path))
    expect(code).toBe('ERR_FILE_FORMAT')
    expect(message).toMatch(/loadStateDict/)
    expect(message).toMatch(/found (safetensors|a file of torch\.save)/)
  })

  it('goes by what a file holds, not by its name', async () => {
    const path = join(folder, 'script.onnx')
    writeFileSync(path, handmadeScript())
    expect((await loadTorchScript(path)).forward(ones([2, 3]))).toBeDefined()
  })
})

describe('loadStateDict', () => {
  it.each([
    ['a model in ONNX', onnx, 'its weights with torch.save or safetensors'],
    ['TorchScript of PyTorch 1.0 to 1.2', oldScript, 'torch.jit.load'],
    ['a program of torch.export', zipOf('net/archive_format', 'net/models/model.json'), 'torch.save'],
  ])('says that a file is %s, and how to go on', async (found, content, remedy) => {
    const { code, message } = await failure(() => loadStateDict(content))
    expect(code).toBe('ERR_FILE_FORMAT')
    expect(message).toContain(`found ${found}`)
    expect(message).toContain(remedy)
  })
})

describe('Paths for TorchScript', () => {
  const module = new nn.Linear(2, 2)
  const kinds = ['onnx', 'ONNX', 'safetensors', 'h5', 'keras', 'tflite', 'pt2', 'npz']

  it.each(kinds)('may not end with .%s', async ending => {
    const path = join(folder, `model.${ending}`)
    const script = await loadTorchScript(handmadeScript())
    for (const write of [() => exportTorchScript(module, [zeros([1, 2])], path), () => script.save(path)]) {
      const { code, message } = await failure(write)
      expect(code).toBe('ERR_ARGUMENT')
      expect(message).toContain('.pt, .pts, .ts or .jit')
      expect(message).toContain(`model.${ending}`)
    }
    expect(readdirSync(folder)).not.toContain(`model.${ending}`)
  })

  it.each(['pt', 'pth', 'pts', 'ts', 'jit', 'torchscript', 'bin', 'v1.2'])(
    'may end with .%s',
    async ending => {
      const path = join(folder, `model-written.${ending}`)
      await exportTorchScript(module, [zeros([1, 2])], path)
      expect((await loadTorchScript(path)).forward(zeros([1, 2]))).toBeDefined()
    },
  )
})

describe('Operators', () => {
  it.each([
    ['a dtype that there is not', () => ones([1], { dtype: 'foo' as never }), 'ERR_DTYPE', 'expected one of'],
    ['another', () => zeros([1]).sum({ dtype: 'int' as never }), 'ERR_DTYPE', 'got "int"'],
    [
      'a complex number that the dtype does not hold',
      () => full([1], { re: 1e39, im: 0 }, { dtype: 'complex64' }),
      'ERR_ARGUMENT',
      'or an infinite one, for dtype complex64, got 1e+39',
    ],
    [
      'a dtype without scales',
      () => full([1], 1, { dtype: 'quint8' }),
      'ERR_OPERATOR',
      'libtorch cannot do this',
    ],
    ['a size likewise', () => ones([2]).resize_([-(2n ** 63n)]), undefined, ''],
    ['too much memory', () => ones([2 ** 46]), 'ERR_OUT_OF_MEMORY', 'DefaultCPUAllocator'],
    [
      'a list without end',
      () => ones(new Array<number>(2 ** 32 - 1)),
      'ERR_ARGUMENT',
      'at most 16777216 values',
    ],
    [
      'channels that are tensors',
      () => new AdaptationLayer(ones([1]) as never, ones([1]) as never),
      'ERR_ARGUMENT',
      'inChannels: expected an integer of at least 1',
    ],
    [
      'a kernel that is no size',
      () => new AdaptationLayer(2, 3, 1.5),
      'ERR_ARGUMENT',
      'kernelSize: expected',
    ],
    ['sizes with all digits', () => zeros([2 ** 40, 2 ** 40]), undefined, '[1099511627776, 1099511627776]'],
  ] as const)('name what they refuse: %s', async (_, call, code, text) => {
    const error = await failure(call)
    if (code !== undefined) expect(error.code).toBe(code)
    expect(error.message).toContain(text)
    expect(error.message).not.toMatch(/c10::|INTERNAL ASSERT|report a bug|at "|\.cpp|enforce fail/)
  })

  it.skipIf(isOldest)('name a shift that is no integer of libtorch', async () => {
    const error = await failure(() => ones([2]).roll([-(2n ** 63n)]))
    expect(error.code).toBe('ERR_OPERATOR')
    expect(error.message).toContain('above -2^62')
    expect(error.message).not.toMatch(/\.cpp/)
  })
})
