/** TorchScript files that test/script/models.py makes with the Python of the same libtorch. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fromTypedArray, type DType, type Tensor } from '../lib/index.js'
import { packageRoot } from '../lib/native/loader.js'
import { findPython, type Python } from '../scripts/find-python.js'

const script = join(packageRoot, 'test/script/models.py')

/** Made once per version of the script and of torch. */
export function makeModels(python: Python, option?: '--torchvision'): string {
  const version = createHash('sha256').update(readFileSync(script)).digest('hex').slice(0, 8)
  const cache = join(packageRoot, 'build/test-models')
  const folder = join(cache, `${python.torch}-${version}${option ?? ''}`)
  if (existsSync(folder)) return folder
  mkdirSync(cache, { recursive: true })
  const unfinished = mkdtempSync(join(cache, 'unfinished-'))
  try {
    const args = [script, unfinished, ...(option ? [option] : [])]
    const { status, stderr } = spawnSync(python.executable, args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(`${python.executable} ${args.join(' ')}:\n${stderr}`)
    if (!existsSync(folder)) renameSync(unfinished, folder) // another test file may have been faster
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return folder
}

/** The folder of the models, or why there is none. */
export function findModels(): { folder: string } | { reason: string } {
  const python = findPython()
  return typeof python === 'string' ? { reason: python } : { folder: makeModels(python) }
}

/** A tensor in a `.bin` file. */
export interface Entry {
  dtype: DType
  shape: number[]
  offset: number
  bytes: number
}

/** Tensors inside a value, by steps in brackets. */
type Entries = Record<string, Entry>

/** What `describe` of models.py wrote about a model. */
export class Expectation {
  readonly forms!: ('scripted' | 'traced')[]
  readonly output!: Entries
  /** By path, one entry per call. */
  readonly outputs!: Record<string, Entries[]>
  readonly given!: Record<string, Entries[]>
  readonly gradients!: Entries
  readonly state!: Entries
  readonly parameters!: string[]
  private readonly inputs!: (Entry | number)[]
  private readonly data: Buffer

  constructor(
    readonly folder: string,
    readonly name: string,
  ) {
    Object.assign(this, JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')))
    this.data = readFileSync(join(folder, `${name}.bin`))
  }

  file(form: string): string {
    return join(this.folder, `${this.name}.${form}.pt`)
  }

  /** The traced form takes tensors only. */
  makeInputs(form: string): (Tensor | number)[] {
    const inputs = this.inputs.map(each => (typeof each === 'number' ? each : this.tensor(each)))
    return form === 'traced' ? inputs.filter(each => typeof each !== 'number') : inputs
  }

  bytes({ offset, bytes }: Entry): Buffer {
    return this.data.subarray(offset, offset + bytes)
  }

  tensor(entry: Entry): Tensor {
    const copy = new Uint8Array(this.bytes(entry)).buffer
    const array = entry.dtype === 'int64' ? new BigInt64Array(copy) : new Float32Array(copy)
    if (entry.dtype !== 'int64' && entry.dtype !== 'float32') throw new Error(entry.dtype)
    return fromTypedArray(array, entry.shape)
  }
}

export function bytesOf(tensor: Tensor): Buffer {
  const array = tensor.toTypedArray()
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength)
}
