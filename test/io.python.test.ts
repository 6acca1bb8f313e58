/** Node → Python → Node, bit for bit, where there is a Python with this libtorch. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  fromTypedArray,
  loadStateDict,
  nn,
  ones,
  optim,
  saveCheckpoint,
  saveStateDict,
  torch,
  zeros,
  type DType,
} from '../lib/index.js'
import { findPython } from '../scripts/find-python.js'
import { itemSize, toSafetensorsType, toStorageClass } from '../lib/io/dtypes.js'
import { native, packageRoot } from '../lib/native/loader.js'
import { Tensor } from '../lib/tensors/tensor.js'
import { folderWith, someBytes } from './data.fixtures.js'
import { isOldest } from './nn.fixtures.js'

interface Described {
  dtype: string
  shape: number[]
  strides: number[]
  bits: string
}

interface PythonResult {
  safetensors: boolean
  files: Record<string, { tensors: Record<string, Described>; shared: string[][] }>
  metadata?: Record<string, string>
  checkpoint?: Record<string, unknown>
}

const script = join(packageRoot, 'test', 'io.python.py')

const found = findPython()
const python = typeof found === 'string' ? undefined : found
const because = typeof found === 'string' ? ` (no Python with this libtorch: ${found})` : ''

const dtypes = native.dtypes().filter(dtype => !dtype.startsWith('q')) as DType[]

/** Any bits at all: NaNs and denormals too. */
function some(dtype: DType, shape: number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1)
  const bytes = someBytes(count * itemSize(dtype)).map(byte => (dtype === 'bool' ? byte & 1 : byte))
  const storage = fromTypedArray(bytes, [bytes.length])
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, size) => product * size, 1))
  return new Tensor(native.viewStorage(storage.handle, dtype, shape, strides, 0))
}

const tensors = Object.fromEntries(dtypes.map(dtype => [`layer.${dtype}`, some(dtype, [2, 3])]))
/** torch.load(weights_only=True) of 1.13 knows no tensor without a storage class of its dtype. */
const all = Object.fromEntries(
  Object.entries(tensors).filter(([, { dtype }]) => toStorageClass(dtype) !== undefined || !isOldest),
)
const inSafetensors = Object.fromEntries(
  Object.entries(tensors).filter(([, { dtype }]) => toSafetensorsType(dtype) && !dtype.endsWith('fnuz')),
)

const base = fromTypedArray(
  Float32Array.from({ length: 24 }, (_, i) => i),
  [4, 6],
)
const complex = some('complex64', [3])
const views: Record<string, Tensor> = {
  base,
  transposed: base.t(),
  column: base.select(1, 2),
  expanded: torch.ones([1]).expand([5]),
  ...(isOldest // has no place for them in its files
    ? {}
    : { conjugate: torch._conj(complex), negative: torch._negView(some('float32', [2])) }),
  'channels last': torch.rand([2, 3, 2, 4]).to({ memoryFormat: 'channelsLast' }),
  scalar: zeros([]),
  empty: zeros([0, 3]),
  'ünï.key': ones([2]),
}
const bytes = fromTypedArray(someBytes(16), [16])
const mixed = { bytes, floats: bytes.view('float32'), part: bytes.at(3) }

function bits(tensor: Tensor): string {
  return Buffer.from(native.tensorToData(tensor.handle)).toString('hex')
}

function described(dict: Record<string, Tensor>): Record<string, Described> {
  return Object.fromEntries(
    Object.entries(dict).map(([key, tensor]) => [
      key,
      { dtype: tensor.dtype, shape: tensor.shape, strides: tensor.strides, bits: bits(tensor) },
    ]),
  )
}

describe.skipIf(because)(`Python${because}`, () => {
  let folder: string
  let result: PythonResult

  const model = new nn.Linear(3, 2)
  const adam = new optim.Adam(model.parameters(), { lr: 0.5 })
  model
    .forward(ones([4, 3]))
    .sum()
    .backward()
  adam.step()

  beforeAll(async () => {
    folder = await folderWith()
    await saveStateDict(all, join(folder, 'node-all.pt'))
    await saveStateDict(views, join(folder, 'node-views.pt'))
    if (dtypes.includes('uint16')) await saveStateDict(mixed, join(folder, 'node-mixed.pt'))
    await saveStateDict(inSafetensors, join(folder, 'node-all.safetensors'), { metadata: { from: 'Nöde' } })
    mkdirSync(join(folder, 'node-checkpoint'))
    const rest = {
      list: [1, 2.5, [true, null]],
      text: 'ü',
      big: 2n ** 70n,
      bytes: Buffer.from([0, 200]),
    }
    const checkpoint = { epoch: 3, state_dict: model.stateDict(), optimizer: adam.stateDict(), rest }
    await saveCheckpoint(checkpoint, join(folder, 'node-checkpoint', 'checkpoint.pt'))
    const child = spawnSync(python!.executable, ['-W', 'ignore', script, folder], { encoding: 'utf8' })
    if (child.status !== 0) throw new Error(child.stderr)
    result = JSON.parse(child.stdout) as PythonResult
  })

  it('reads every dtype from .pt with torch.load(weights_only=True)', () => {
    expect(result.files['node-all.pt']!.tensors).toEqual(described(all))
  })

  it('reads views from .pt: shared memory, strides, conjugates', () => {
    const found = result.files['node-views.pt']!
    expect(found.tensors).toEqual(described(views))
    expect(found.shared).toEqual([['base', 'transposed', 'column']])
  })

  it.skipIf(!dtypes.includes('uint16'))('reads one storage as several dtypes', () => {
    const found = result.files['node-mixed.pt']!
    expect(found.tensors).toEqual(described(mixed))
    expect(found.shared).toEqual([['bytes', 'floats', 'part']])
  })

  it('reads every dtype of the format from .safetensors, and the metadata', () => {
    expect(result.files['node-all.safetensors']!.tensors).toEqual(described(inSafetensors))
    if (result.safetensors) expect(result.metadata).toEqual({ from: 'Nöde' })
  })

  it('goes on from a checkpoint, with its optimizer', () => {
    expect(result.checkpoint).toEqual({
      epoch: 3,
      rest: "{'list': [1, 2.5, [True, None]], 'text': 'ü', 'big': 1180591620717411303424, 'bytes': b'\\x00\\xc8'}",
      weight: bits(model.weight),
      moment: bits(adam.stateDict().state['0']!['exp_avg'] as Tensor),
      lr: 0.5,
    })
  })

  it('writes what comes back as it was', async () => {
    const again = readdirSync(folder).filter(name => name.startsWith('python-'))
    expect(again.length).toBeGreaterThanOrEqual(4)
    for (const name of again) {
      const loaded = described(await loadStateDict(join(folder, name)))
      const original = name.includes('views') ? views : name.endsWith('.pt') ? all : inSafetensors
      expect(loaded).toEqual(described(original))
    }
  })
})
