/** What `torch.save` writes since PyTorch 1.6: a zip archive with a pickle, and each storage as an entry, stored. */
import { torchVocabulary, type StorageReference } from './pickle/torch.js'
import { unpickle } from './pickle/unpickler.js'
import type { Value } from './pickle/values.js'
import { fileError } from './file-error.js'
import { zipKind } from './other-kinds.js'
import { Malformed, StorageRecord } from './records.js'
import type { ByteSource } from './source.js'
import { ZipArchive } from './zip.js'

/** A pickle takes about 200 bytes per tensor. */
const MAX_PICKLE_BYTES = 2 ** 28

export type ArchiveKind = 'torch.save' | 'TorchScript'

/** Libtorch's archives have one folder at the top, of any name. */
export interface TorchArchive {
  kind: ArchiveKind
  zip: ZipArchive
  /** Of that folder, with a slash. */
  prefix: string
}

/** @throws AlambicError `ERR_FILE_FORMAT` for a damaged archive, and for one of another kind */
export async function openTorchArchive(source: ByteSource): Promise<TorchArchive> {
  const zip = await ZipArchive.open(source)
  const names = [...zip.entries.keys()]
  const prefix = /^[^/]+\//.exec(names[0] ?? '')?.[0] ?? ''
  const isIn = (name: string) => zip.entries.has(prefix + name)
  const other = zipKind(names.map(name => (name.startsWith(prefix) ? name.slice(prefix.length) : name)))
  if (other !== undefined)
    throw fileError(source.name, {
      offset: 0,
      expected: 'an archive of torch.save, or TorchScript since PyTorch 1.3',
      ...other,
    })
  const isTorchScript = isIn('constants.pkl')
  const packed = names.filter(name => /\.(pt|pth|pth\.tar|th|bin|ckpt|safetensors|npy)$/i.test(name))
  if (prefix === '' || !(isIn('data.pkl') || isTorchScript) || !names.every(name => name.startsWith(prefix)))
    throw fileError(source.name, {
      offset: 0,
      expected: 'an archive of torch.save or TorchScript, with data.pkl in its only folder',
      found: `a zip archive with ${names
        .slice(0, 3)
        .map(name => JSON.stringify(name))
        .join(', ')} …`,
      remedy:
        packed.length > 0
          ? 'unpack it, and load the file that is in it'
          : 'check that this is the right file',
    })
  return { kind: isTorchScript ? 'TorchScript' : 'torch.save', zip, prefix }
}

/**
 * The value that was saved.
 *
 * @throws AlambicError `ERR_FILE_FORMAT`, `ERR_UNSAFE_PICKLE`
 */
export async function readTorchArchive(source: ByteSource, { zip, prefix }: TorchArchive): Promise<Value> {
  await refuseBigEndian(source, zip, prefix)
  const { offset, size } = zip.entry(`${prefix}data.pkl`)
  if (size > MAX_PICKLE_BYTES)
    throw fileError(source.name, {
      offset,
      expected: `a pickle of at most ${MAX_PICKLE_BYTES} bytes`,
      found: `${size}`,
    })
  const pickle = await zip.read(`${prefix}data.pkl`)
  const storages = new Map<string, StorageRecord>()
  const vocabulary = torchVocabulary(reference => {
    const known = storages.get(reference.key)
    const storage = known ?? storageEntry(source, zip, prefix, reference)
    if (storage.bytes !== reference.bytes)
      throw new Malformed(
        `${storage.bytes} bytes of storage ${reference.key}, as before`,
        `${reference.bytes}`,
      )
    storages.set(reference.key, storage)
    return storage.dtype === reference.dtype ? storage : alias(storage, reference)
  })
  return unpickle(pickle, vocabulary, source.name, offset).value
}

/** @throws AlambicError `ERR_FILE_FORMAT` when the archive says that its numbers are not little-endian */
export async function refuseBigEndian(source: ByteSource, zip: ZipArchive, prefix: string): Promise<void> {
  const name = `${prefix}byteorder`
  if (!zip.entries.has(name)) return
  const order = (await zip.read(name)).toString('latin1', 0, 20)
  if (order === 'little') return
  throw fileError(source.name, {
    offset: zip.entry(name).offset,
    expected: 'little-endian data',
    found: JSON.stringify(order),
    remedy: 'save it again on a little-endian machine',
  })
}

function storageEntry(
  source: ByteSource,
  zip: ZipArchive,
  prefix: string,
  { key, dtype, bytes, view }: StorageReference,
): StorageRecord {
  const name = `${prefix}data/${key}`
  const entry = zip.entries.get(name)
  if (view !== undefined) throw new Malformed('a whole storage', 'a part of one')
  if (entry?.method !== 'stored' || entry.size !== bytes)
    throw new Malformed(
      `an entry ${JSON.stringify(name)}, stored, of ${bytes} bytes`,
      entry === undefined ? 'none' : `one of ${entry.size} bytes, ${entry.method}`,
    )
  const storage = new StorageRecord(key, dtype, bytes)
  storage.place = { source, offset: entry.offset, verify: () => zip.verify(name) }
  return storage
}

/** The same memory as elements of another dtype. */
function alias(of: StorageRecord, { key, dtype, bytes }: StorageReference): StorageRecord {
  return new StorageRecord(key, dtype, bytes, { of, from: 0 })
}
