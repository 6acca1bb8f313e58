/**
 * Safetensors: eight bytes with the length of a JSON header, the header, then all tensors, contiguous and without gaps.
 * Checked as the reference implementation does (`safetensors::SafeTensors::read_metadata`).
 */
import { show } from '../errors.js'
import { fileError } from './file-error.js'
import { fromSafetensorsType, itemSize } from './dtypes.js'
import { Dict } from './pickle/values.js'
import { contiguousStrides, Malformed, StorageRecord, TensorRecord } from './records.js'
import type { ByteSource } from './source.js'

const LENGTH_BYTES = 8

/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000

/** Arrays and objects in a header: three per tensor. What parsing makes of them takes memory. */
const MAX_HEADER_PARTS = 1_000_000

/** Strings of the user, under `__metadata__`. */
export type Metadata = Record<string, string>

export interface Safetensors {
  /** {@link TensorRecord}s by name, in the order of the data. */
  tensors: Dict
  metadata: Metadata
}

/** Whether a file that begins with these 9 bytes may be one: a length, and a brace. */
export function isSafetensors(head: Buffer, size: number): boolean {
  if (head.length <= LENGTH_BYTES || head[LENGTH_BYTES] !== 0x7b) return false
  return head.readBigUInt64LE(0) <= BigInt(size) || head.readUInt32LE(0) <= size
}

/** @throws AlambicError `ERR_FILE_FORMAT`, `ERR_DTYPE` for an element type that libtorch has not */
export async function readSafetensors(source: ByteSource): Promise<Safetensors> {
  const { header, dataOffset } = await readHeader(source)
  const { __metadata__: metadata, ...tensors } = header
  const dict = new Dict()
  for (const tensor of inOrder(source, tensors, dataOffset))
    dict.map.set(tensor.name, toRecord(source, tensor))
  return { tensors: dict, metadata: checkMetadata(source, metadata) }
}

// ---- Header ----------------------------------------------------------------------------------------------------------------

async function readHeader(
  source: ByteSource,
): Promise<{ header: Record<string, unknown>; dataOffset: number }> {
  const length = Number((await source.read(0, LENGTH_BYTES)).readBigUInt64LE())
  const most = Math.min(MAX_HEADER_BYTES, source.size - LENGTH_BYTES)
  if (length > most)
    throw fileError(source.name, {
      offset: 0,
      expected: `the length of a safetensors header, at most ${most}`,
      found: String(length),
      remedy: 'get the file again: it is damaged, cut short, or not a safetensors file',
    })
  const bytes = await source.read(LENGTH_BYTES, length)
  return { header: parseHeader(source, bytes), dataOffset: LENGTH_BYTES + length }
}

function parseHeader(source: ByteSource, bytes: Buffer): Record<string, unknown> {
  const broken = (found: string, cause?: unknown) =>
    fileError(source.name, { offset: LENGTH_BYTES, expected: 'a header in JSON', found }, { cause })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw broken('bytes that are not UTF-8', error)
  }
  if (!text.startsWith('{')) throw broken('something that does not begin with "{"')
  if (parts(bytes) > MAX_HEADER_PARTS) throw broken(`more than ${MAX_HEADER_PARTS} arrays and objects`)
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (error) {
    throw broken(`something else (${(error as Error).message.slice(0, 100)})`, error)
  }
}

function parts(bytes: Buffer): number {
  let count = 0
  for (const byte of bytes) if (byte === 0x5b || byte === 0x7b) count++
  return count
}

function checkMetadata(source: ByteSource, metadata: unknown): Metadata {
  if (metadata === undefined) return {}
  if (isObject(metadata) && Object.values(metadata).every(value => typeof value === 'string'))
    return metadata as Metadata
  throw fileError(source.name, {
    offset: LENGTH_BYTES,
    expected: '__metadata__ with strings only',
    found: 'something else',
  })
}

// ---- Tensors ---------------------------------------------------------------------------------------------------------------

interface Described {
  name: string
  type: string
  shape: number[]
  begin: number
  end: number
  /** Of the data in the file. */
  dataOffset: number
}

/** By where their data is: one after the other, from the first byte to the last. */
function inOrder(source: ByteSource, tensors: Record<string, unknown>, dataOffset: number): Described[] {
  const described = Object.entries(tensors).map(([name, fields]) =>
    describe(source, name, fields, dataOffset),
  )
  described.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let position = 0
  for (const { name, begin, end } of described) {
    if (begin !== position || end < begin)
      throw fileError(source.name, {
        offset: dataOffset + position,
        expected: `the data of ${JSON.stringify(name)} from ${position}, without gaps or overlaps`,
        found: `[${begin}, ${end}]`,
      })
    position = end
  }
  if (dataOffset + position !== source.size)
    throw fileError(source.name, {
      offset: dataOffset + position,
      expected: `${position} bytes of data, as the header says`,
      found: `${source.size - dataOffset}`,
    })
  return described
}

function describe(source: ByteSource, name: string, fields: unknown, dataOffset: number): Described {
  const { dtype, shape, data_offsets: range, ...others } = isObject(fields) ? fields : {}
  const isComplete = typeof dtype === 'string' && isSizes(shape) && isSizes(range) && range.length === 2
  if (isComplete && Object.keys(others).length === 0)
    return { name, type: dtype, shape, begin: range[0]!, end: range[1]!, dataOffset }
  throw fileError(source.name, {
    offset: LENGTH_BYTES,
    expected: `dtype, shape and data_offsets of ${JSON.stringify(name)}`,
    found: show(fields).slice(0, 200),
  })
}

function toRecord(
  source: ByteSource,
  { name, type, shape, begin, end, dataOffset }: Described,
): TensorRecord {
  const dtype = fromSafetensorsType(type)
  const offset = dataOffset + begin
  if (dtype === undefined)
    throw fileError(source.name, {
      offset: LENGTH_BYTES,
      expected: `${JSON.stringify(name)} of a dtype that libtorch has`,
      found: JSON.stringify(type),
      remedy: 'convert it in Python',
    })
  const elements = shape.reduce((product, size) => product * Math.max(size, 1), 1)
  if (!Number.isSafeInteger(elements))
    throw fileError(source.name, {
      offset: LENGTH_BYTES,
      expected: `a shape of ${JSON.stringify(name)} that a tensor can have`,
      found: `(${shape.slice(0, 8).join(', ')})`,
    })
  const bytes = shape.includes(0) ? 0 : elements * itemSize(dtype)
  if (bytes !== end - begin)
    throw fileError(source.name, {
      offset,
      expected: `${bytes} bytes for ${JSON.stringify(name)}, ${dtype} (${shape.join(', ')})`,
      found: `${end - begin}`,
    })
  const storage = new StorageRecord(name, dtype, bytes)
  storage.place = { source, offset }
  try {
    return new TensorRecord({ storage, dtype, shape, strides: contiguousStrides(shape), offset: 0 })
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
    const { expected, found } = error
    throw fileError(source.name, { offset: LENGTH_BYTES, expected, found: found.slice(0, 200) })
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(size => Number.isSafeInteger(size) && (size as number) >= 0)
}
