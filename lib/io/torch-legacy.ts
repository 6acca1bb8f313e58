/**
 * What `torch.save` wrote before PyTorch 1.6, and writes with `_use_new_zipfile_serialization=False`: pickles one after
 * the other (a magic number, a version, the system, the value, the storages' keys), then the storages in that order,
 * each with the number of its elements before it.
 */
import { fileError } from './file-error.js'
import { torchVocabulary, type StorageReference } from './pickle/torch.js'
import { kindOf, unpickle, type Vocabulary } from './pickle/unpickler.js'
import { Dict, type Value } from './pickle/values.js'
import { itemSize } from './dtypes.js'
import { Malformed, StorageRecord } from './records.js'
import { checkRange, type ByteSource } from './source.js'

/** The integer 0x1950a86a20f9469cfc6c as pickles have it, binary and in digits. */
const MAGIC = Buffer.from('6cfc9c46f9206aa85019', 'hex')
const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn
const MAGIC_DIGITS = `L${MAGIC_NUMBER}L`

const PROTOCOL_VERSION = 1001

/** How much of a file is read at first to find the end of the pickles, and at most. */
const FIRST_BYTES = 2 ** 22
const MAX_PICKLE_BYTES = 2 ** 28

const COUNT_BYTES = 8

/** Whether a file that begins with these 64 bytes is one. */
export function isTorchLegacy(head: Buffer): boolean {
  const position = head.indexOf(MAGIC)
  return (position > 0 && position < 32) || head.toString('latin1').startsWith(MAGIC_DIGITS)
}

/**
 * The value that was saved.
 *
 * @throws AlambicError `ERR_FILE_FORMAT`, `ERR_UNSAFE_PICKLE`
 */
export async function readTorchLegacy(source: ByteSource): Promise<Value> {
  const limit = Math.min(source.size, MAX_PICKLE_BYTES)
  const first = Math.min(limit, FIRST_BYTES)
  let file: Pickles
  try {
    file = readPickles(source, await source.read(0, first))
  } catch (error) {
    // The pickles may go on behind the first bytes: only all of the file can tell.
    if (first === limit) throw error
    file = readPickles(source, await source.read(0, limit))
  }
  await placeStorages(source, file)
  return file.value
}

interface Pickles {
  value: Value
  storages: Map<string, StorageRecord>
  /** In the order of the data. */
  keys: string[]
  /** Where the data begins. */
  end: number
}

function readPickles(source: ByteSource, bytes: Buffer): Pickles {
  let end = 0
  const next = (vocabulary: Vocabulary = nothing): Value => {
    const pickle = unpickle(bytes.subarray(end), vocabulary, source.name, end)
    end += pickle.end
    return pickle.value
  }
  const require = (condition: boolean, expected: string, found: string) => {
    if (!condition) throw fileError(source.name, { offset: end, expected, found })
  }
  require(next() === MAGIC_NUMBER, 'the magic number of torch.save', 'another value')
  const version = next()
  require(version === PROTOCOL_VERSION, `version ${PROTOCOL_VERSION} of the format`, kindOf(version))
  const system = next()
  const isLittle = system instanceof Dict && system.map.get('little_endian') === true
  require(isLittle, 'little-endian data', 'big-endian, or no word about it')
  const storages = new Map<string, StorageRecord>()
  const value = next(torchVocabulary(reference => storageOf(storages, reference)))
  const listed = next()
  const keys = Array.isArray(listed) ? listed.map(String) : []
  const isSame = keys.length === storages.size && keys.every(key => storages.has(key))
  require(isSame, `the keys of ${storages.size} storages`, kindOf(listed))
  return { value, storages, keys, end }
}

const nothing: Vocabulary = {
  find: () => undefined,
  load: () => {
    throw new Malformed('no storage here', 'a reference to one')
  },
}

function storageOf(storages: Map<string, StorageRecord>, reference: StorageReference): StorageRecord {
  const { key, dtype, bytes, view } = reference
  const storage = storages.get(key) ?? new StorageRecord(key, dtype, bytes)
  if (storage.bytes !== bytes || storage.dtype !== dtype)
    throw new Malformed(
      `storage ${key} with ${storage.bytes} bytes of ${storage.dtype}, as before`,
      `${bytes} bytes of ${dtype}`,
    )
  storages.set(key, storage)
  if (view === undefined) return storage
  const from = view.offset * itemSize(dtype)
  const part = view.size * itemSize(dtype)
  if (from + part > bytes) throw new Malformed(`a part of a storage of ${bytes} bytes`, `${part} at ${from}`)
  return new StorageRecord(view.key, dtype, part, { of: storage, from })
}

async function placeStorages(source: ByteSource, { storages, keys, end }: Pickles): Promise<void> {
  let position = end
  for (const key of keys) {
    const storage = storages.get(key)!
    const count = (await source.read(position, COUNT_BYTES)).readBigInt64LE()
    const expected = storage.bytes / itemSize(storage.dtype)
    if (count !== BigInt(expected))
      throw fileError(source.name, {
        offset: position,
        expected: `${expected} elements of storage ${key}, as its tensors say`,
        found: String(count),
      })
    checkRange(source, position + COUNT_BYTES, storage.bytes)
    storage.place = { source, offset: position + COUNT_BYTES }
    position += COUNT_BYTES + storage.bytes
  }
}
