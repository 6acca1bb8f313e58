import { basename, extname } from 'node:path'
import type { FileHandle } from 'node:fs/promises'
import { toUSVString } from 'node:util'
import { AlambicError, argumentError, show } from '../errors.js'
import { native } from '../native/loader.js'
import type { StateDict } from '../nn/module.js'
import { anything, readOptions, type Kinds } from '../checks/options.js'
import { bytesOf, isMap, isPlainObject, isUint8Array } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import type { DType } from '../tensors/types.js'
import { writeAtomically } from './atomic-file.js'
import { elementBytes, isConjugate, isNegative, requirePlain, storageBytes } from './bytes.js'
import { itemSize, toSafetensorsType, toStorageClass } from './dtypes.js'
import { Pickler } from './pickle/pickler.js'
import { writeAll, ZipWriter } from './zip-writer.js'

export interface SaveOptions {
  /** Strings that are saved too, in safetensors only. */
  metadata?: Record<string, string>
}

/** What metadata may hold is checked where it is written. */
const saveOptions: Kinds<SaveOptions> = { metadata: anything }

/**
 * Writes tensors under their keys: `.safetensors`, or `.pt` and `.pth`, which Python reads with
 * `torch.load(weights_only=True)`. The file is written as a whole or not at all; until then an earlier file of that
 * name stays. The tensors are copied at the call: training may go on, and they may be released, while the file is
 * written. Until it is written, the copies need as much memory as the file.
 *
 * In a `.pt` file, tensors that share memory share it again, with their strides. In safetensors each is written
 * separately, in row-major order. Neither format stores devices, or which tensors recorded gradients.
 *
 * @example await saveStateDict(model.stateDict(), 'model.safetensors')
 * @throws AlambicError `ERR_ARGUMENT` for another ending or values that are not tensors, `ERR_DTYPE` for what the
 *   format cannot hold, `ERR_FILE_NOT_FOUND` when the file cannot be written
 */
export async function saveStateDict(dict: StateDict, path: string, options: SaveOptions = {}): Promise<void> {
  const { metadata } = readOptions('saveStateDict', options, saveOptions)
  const ending = endingOf('saveStateDict', path, ['.safetensors', '.pt', '.pth'])
  const tensors = checkStateDict(dict)
  if (ending === '.safetensors') {
    await copySafetensors(tensors, metadata)(path)
    return
  }
  if (metadata !== undefined) throw argumentError('metadata', 'a .safetensors file to put it into', path)
  const write = copyTorch(writer => {
    writer.pickler.dict(() => {
      for (const [key, tensor] of tensors) {
        writer.pickler.text(key)
        writer.tensor(tensor, key)
      }
    })
  })
  await write(path)
}

/** Writes what was copied, once. */
export type Writing = (path: string) => Promise<void>

/**
 * {@link saveStateDict} for safetensors in two halves: the tensors are copied at the call.
 *
 * @internal
 */
export function copyStateDict(dict: StateDict, metadata?: Record<string, string>): Writing {
  return copySafetensors(checkStateDict(dict), metadata)
}

/**
 * {@link saveCheckpoint} in two halves: everything is copied at the call.
 *
 * @internal
 */
export function copyCheckpoint(value: unknown): Writing {
  return copyTorch(writer => {
    writer.value(value, '', 0)
  })
}

/**
 * Writes a checkpoint: tensors, numbers, strings, booleans, null, bigints, and bytes, in plain objects, `Map`s and
 * arrays, nested. Entries that are undefined are left out; whole numbers become Python's int. Python reads it with
 * `torch.load(weights_only=True)`, and {@link loadCheckpoint} here.
 *
 * Keys of objects are strings, but in Python they may be numbers: if all keys of an object are whole numbers and no
 * value is a tensor, as in the `state` of an optimizer, they become numbers. The keys of a `Map` are saved unchanged.
 *
 * @example await saveCheckpoint({ epoch, state_dict: model.stateDict(), optimizer: adam.stateDict() }, 'last.pt')
 * @throws AlambicError as {@link saveStateDict}
 */
export async function saveCheckpoint(value: unknown, path: string): Promise<void> {
  endingOf('saveCheckpoint', path, ['.pt', '.pth'])
  await copyCheckpoint(value)(path)
}

function endingOf(name: string, path: string, known: string[]): string {
  if (typeof path !== 'string') throw argumentError(`${name}: path`, 'a path', path)
  const ending = extname(path).toLowerCase()
  if (known.includes(ending)) return ending
  throw new AlambicError(
    'ERR_ARGUMENT',
    `${name}: expected a path that ends with ${known.join(' or ')}, got ${show(path)}`,
  )
}

function checkStateDict(dict: StateDict): [string, Tensor][] {
  if (!isPlainObject(dict)) throw argumentError('saveStateDict: dict', 'an object with tensors', dict)
  requireNoSymbols('saveStateDict: dict', dict)
  const tensors = Object.entries(dict)
  for (const [key, tensor] of tensors) {
    if (!((tensor as unknown) instanceof Tensor))
      throw argumentError(`saveStateDict: ${key}`, 'a tensor', tensor)
    requireText('saveStateDict: key', key)
    requirePlain(tensor, key)
  }
  return tensors
}

/** Files hold UTF-8, in which half of a surrogate pair has no place: it would come back as another character. */
function requireText(name: string, text: string): void {
  if (toUSVString(text) !== text)
    throw argumentError(name, 'text that UTF-8 can hold, without halves of surrogate pairs', text)
}

function requireNoSymbols(name: string, object: object): void {
  const symbol = Object.getOwnPropertySymbols(object).find(key => isEnumerable(object, key))
  if (symbol !== undefined) throw argumentError(name, 'keys that are strings or numbers', symbol)
}

function isEnumerable(object: object, key: PropertyKey): boolean {
  return Object.prototype.propertyIsEnumerable.call(object, key)
}

// ---- Safetensors -----------------------------------------------------------------------------------------------------------

/** The data begins at a multiple of this: no element lies across. */
const SAFETENSORS_ALIGNMENT = 8

function copySafetensors(tensors: [string, Tensor][], metadata: Record<string, string> | undefined): Writing {
  const ordered = [...tensors].sort(
    ([a, x], [b, y]) => itemSize(y.dtype) - itemSize(x.dtype) || (a < b ? -1 : a > b ? 1 : 0),
  )
  const header = safetensorsHeader(ordered, metadata)
  const chunks = ordered.flatMap(([, tensor]) => Array.from(elementBytes(tensor)))
  return path =>
    writeAtomically(path, async file => {
      await writeAll(file, header, 0)
      let position = header.length
      for (const chunk of usedUp(chunks)) {
        await writeAll(file, chunk, position)
        position += chunk.length
      }
    })
}

function safetensorsHeader(
  tensors: [string, Tensor][],
  metadata: Record<string, string> | undefined,
): Buffer {
  let position = 0
  const entries = tensors.map(([key, tensor]) => {
    const begin = position
    position += tensor.numel() * itemSize(tensor.dtype)
    const fields = {
      dtype: safetensorsType(key, tensor.dtype),
      shape: tensor.shape,
      data_offsets: [begin, position],
    }
    return [checkName(key), fields] as const
  })
  const strings = metadata === undefined ? [] : [['__metadata__', checkMetadata(metadata)] as const]
  const json = Buffer.from(JSON.stringify(Object.fromEntries([...strings, ...entries])))
  const bytes = Math.ceil((8 + json.length) / SAFETENSORS_ALIGNMENT) * SAFETENSORS_ALIGNMENT
  const header = Buffer.alloc(bytes, ' ')
  header.writeBigUInt64LE(BigInt(bytes - 8), 0)
  json.copy(header, 8)
  return header
}

function safetensorsType(key: string, dtype: DType): string {
  const type = toSafetensorsType(dtype)
  if (type !== undefined) return type
  throw new AlambicError(
    'ERR_DTYPE',
    `saveStateDict: ${key}: expected a dtype that safetensors has, got ${dtype}; save it as .pt`,
  )
}

function checkName(key: string): string {
  if (key !== '__metadata__') return key
  throw argumentError(
    'saveStateDict: key',
    'another name than __metadata__, which safetensors needs itself',
    key,
  )
}

function checkMetadata(metadata: Record<string, string>): Record<string, string> {
  const isText = isPlainObject(metadata) && Object.values(metadata).every(value => typeof value === 'string')
  if (isText) {
    for (const text of Object.entries(metadata).flat()) requireText('saveStateDict: metadata', text)
    return metadata
  }
  throw argumentError('saveStateDict: metadata', 'an object with strings only', metadata)
}

// ---- torch.save --------------------------------------------------------------------------------------------------------------

/** Of the format; `byteorder` came later and is read when it is there. */
const FORMAT_VERSION = '3\n'

function copyTorch(write: (writer: TorchWriter) => void): Writing {
  let writer = new TorchWriter(new Set())
  write(writer)
  if (writer.mixed.size > 0) {
    writer = new TorchWriter(writer.mixed)
    write(writer)
  }
  const pickle = writer.pickler.finish()
  const storages = Array.from(writer.storages.values(), ({ key, bytes, tensor }) => ({
    key,
    bytes,
    chunks: Array.from(storageBytes(tensor)),
  }))
  return path =>
    writeAtomically(path, file =>
      writeTorchArchive(file, basename(path, extname(path)) || 'archive', pickle, storages),
    )
}

async function writeTorchArchive(
  file: FileHandle,
  folder: string,
  pickle: Buffer,
  storages: readonly CopiedStorage[],
): Promise<void> {
  const zip = new ZipWriter(file)
  const addSmall = (name: string, bytes: Buffer) => zip.add(`${folder}/${name}`, bytes.length, [bytes])
  await addSmall('data.pkl', pickle)
  await addSmall('byteorder', Buffer.from('little'))
  for (const { key, bytes, chunks } of storages) await zip.add(`${folder}/data/${key}`, bytes, usedUp(chunks))
  await addSmall('version', Buffer.from(FORMAT_VERSION))
  await zip.finish()
}

/** As it was when the file was asked for. */
interface CopiedStorage {
  key: string
  bytes: number
  chunks: Buffer[]
}

/** One after the other; those that are written need no memory any more. */
function* usedUp(chunks: Buffer[]): Generator<Buffer> {
  for (let i = 0; i < chunks.length; i++) {
    const chunk = chunks[i]!
    chunks[i] = Buffer.alloc(0)
    yield chunk
  }
}

interface SavedStorage {
  key: string
  bytes: number
  /** Any of those that share it. */
  tensor: Tensor
  dtype: DType
}

/** Objects nested deeper are taken for circles. */
const MAX_DEPTH = 200

class TorchWriter {
  readonly pickler = new Pickler()
  /** By identity, in the order in which they first appear. */
  readonly storages = new Map<bigint, SavedStorage>()
  /** Storages that were seen with several dtypes, or have bytes beyond whole elements. */
  readonly mixed = new Set<bigint>()

  /** @param untyped storages to be saved as bytes: Python takes one with a dtype to have that dtype only */
  constructor(private readonly untyped: ReadonlySet<bigint>) {}

  value(value: unknown, path: string, depth: number): void {
    if (depth > MAX_DEPTH)
      throw argumentError(path.slice(0, 100), `values nested at most ${MAX_DEPTH} deep`, value)
    if (value === null) this.pickler.none()
    else if (typeof value === 'boolean') this.pickler.boolean(value)
    else if (typeof value === 'string') this.text(value, path)
    else if (typeof value === 'bigint') this.pickler.integer(value)
    else if (typeof value === 'number') this.number(value)
    else if (value instanceof Tensor) this.tensor(value, path)
    else if (Array.isArray(value)) this.list(value, path, depth)
    else if (isMap(value)) this.dict([...value], path, depth)
    else if (isUint8Array(value)) this.bytes(value)
    else if (isPlainObject(value)) this.object(value, path, depth)
    else
      throw argumentError(
        `saveCheckpoint: ${path || 'value'}`,
        'tensors, numbers, strings, booleans, null, bigints, bytes, and objects, Maps and arrays of them',
        value,
      )
  }

  private number(value: number): void {
    const isInteger = Number.isSafeInteger(value) && !Object.is(value, -0)
    if (isInteger) this.pickler.integer(value)
    else this.pickler.float(value)
  }

  private text(value: string, path: string): void {
    requireText(`saveCheckpoint: ${path || 'value'}`, value)
    this.pickler.text(value)
  }

  private list(items: readonly unknown[], path: string, depth: number): void {
    const keys = Reflect.ownKeys(items)
    const named = keys.slice(keys.indexOf('length') + 1).find(key => isEnumerable(items, key))
    if (named !== undefined)
      throw argumentError(`saveCheckpoint: ${path || 'value'}`, 'an array with elements only', named)
    this.pickler.list(() => {
      // Also over holes, which hold nothing that could be saved.
      for (let i = 0; i < items.length; i++) this.value(items[i], `${path}[${i}]`, depth + 1)
    })
  }

  private object(object: Record<string, unknown>, path: string, depth: number): void {
    requireNoSymbols(`saveCheckpoint: ${path || 'value'}`, object)
    this.dict(entriesOf(object), path, depth)
  }

  private dict(entries: [unknown, unknown][], path: string, depth: number): void {
    this.pickler.dict(() => {
      for (const [key, value] of entries) {
        if (value === undefined) continue // as in JSON
        if (typeof key !== 'string' && typeof key !== 'number')
          throw argumentError(`saveCheckpoint: ${path || 'value'}`, 'keys that are strings or numbers', key)
        this.value(key, path, depth + 1)
        this.value(value, path === '' ? String(key) : `${path}.${key}`, depth + 1)
      }
    })
  }

  /** As Python's protocol 2 does. */
  private bytes(value: Uint8Array): void {
    const { buffer, byteOffset, byteLength } = bytesOf(value)
    this.pickler.call('_codecs', 'encode', () => {
      this.pickler.text(Buffer.from(buffer, byteOffset, byteLength).toString('latin1'))
      this.pickler.text('latin1')
    })
  }

  tensor(tensor: Tensor, name: string): void {
    requirePlain(tensor, name)
    const { dtype, shape, strides } = tensor
    const { id, bytes, offset } = native.storageOf(tensor.handle)
    const storage = this.storages.get(id) ?? { key: String(this.storages.size), bytes, tensor, dtype }
    this.storages.set(id, storage)
    if (storage.dtype !== dtype || bytes % itemSize(dtype) !== 0) this.mixed.add(id)
    const storageClass = this.untyped.has(id) ? undefined : toStorageClass(dtype)
    const { pickler } = this
    pickler.call('torch._utils', storageClass ? '_rebuild_tensor_v2' : '_rebuild_tensor_v3', () => {
      this.storage(storage, storageClass, dtype)
      pickler.integer(offset)
      pickler.tuple(() => shape.forEach(size => pickler.integer(size)))
      pickler.tuple(() => strides.forEach(stride => pickler.integer(stride)))
      pickler.boolean(false)
      pickler.call('collections', 'OrderedDict', () => undefined)
      if (storageClass === undefined) pickler.global('torch', dtype)
      this.flags(tensor)
    })
  }

  private storage({ key, bytes }: SavedStorage, storageClass: string | undefined, dtype: DType): void {
    const { pickler } = this
    pickler.external(() => {
      pickler.tuple(() => {
        pickler.text('storage')
        if (storageClass === undefined) pickler.global('torch.storage', 'UntypedStorage')
        else pickler.global('torch', storageClass)
        pickler.text(key)
        pickler.text('cpu')
        pickler.integer(storageClass === undefined ? bytes : bytes / itemSize(dtype))
      })
    })
  }

  /** Only those that are set: PyTorch asks whether they are there. */
  private flags(tensor: Tensor): void {
    const flags = [...(isConjugate(tensor) ? ['conj'] : []), ...(isNegative(tensor) ? ['neg'] : [])]
    if (flags.length === 0) return
    this.pickler.dict(() => {
      for (const name of flags) {
        this.pickler.text(name)
        this.pickler.boolean(true)
      }
    })
  }
}

function entriesOf(object: Record<string, unknown>): [unknown, unknown][] {
  const entries = Object.entries(object)
  const isNumbered =
    entries.length > 0 &&
    entries.every(([key, value]) => /^(0|[1-9]\d{0,14})$/.test(key) && !(value instanceof Tensor))
  return isNumbered ? entries.map(([key, value]) => [Number(key), value]) : entries
}
