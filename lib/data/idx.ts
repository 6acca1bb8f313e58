import { notNegative, readOptions, type Kinds } from '../checks/options.js'
import { endianness } from 'node:os'
import { DEFAULT_MAX_BYTES, displayName, formatError, readBytes, requirePath } from '../io/files.js'
import { bytesOf, givenBytes } from '../checks/realms.js'
import { gunzip, isGzip } from './gunzip.js'

const ELEMENT_TYPES = {
  0x08: { type: 'uint8', bytes: 1, Array: Uint8Array },
  0x09: { type: 'int8', bytes: 1, Array: Int8Array },
  0x0b: { type: 'int16', bytes: 2, Array: Int16Array },
  0x0c: { type: 'int32', bytes: 4, Array: Int32Array },
  0x0d: { type: 'float32', bytes: 4, Array: Float32Array },
  0x0e: { type: 'float64', bytes: 8, Array: Float64Array },
} as const

type ElementType = (typeof ELEMENT_TYPES)[keyof typeof ELEMENT_TYPES]

/** What an idx file holds. */
export interface IdxArray {
  type: ElementType['type']
  /** Sizes of the dimensions, slowest first: `[60000, 28, 28]`. */
  shape: number[]
  /** The elements in row-major order, in this machine's byte order. */
  data: Uint8Array | Int8Array | Int16Array | Int32Array | Float32Array | Float64Array
}

export interface ReadIdxOptions {
  /** Refuse to read or unpack more than this. Default: 2 GiB. */
  maxBytes?: number
}

export const idxOptions: Kinds<ReadIdxOptions> = { maxBytes: notNegative }

/**
 * Reads an array in the idx format of MNIST: two zero bytes, a type code, the number of dimensions, the sizes as
 * big-endian uint32, then the elements, big-endian (LeCun, Cortes, Burges, "The MNIST database of handwritten digits").
 * Gzip is recognised by content, whatever the name, and unpacked no further than the header announces.
 *
 * @param source A path, a `file:` URL, or the bytes themselves.
 * @throws AlambicError `ERR_FILE_NOT_FOUND` when there is no readable file, `ERR_FILE_FORMAT` when the magic number,
 *   type code, dimensions or length are wrong; the message gives the byte offset
 */
export async function readIdx(
  source: string | URL | Uint8Array | ArrayBuffer | SharedArrayBuffer,
  options: ReadIdxOptions = {},
): Promise<IdxArray> {
  const { maxBytes = DEFAULT_MAX_BYTES } = readOptions('readIdx', options, idxOptions)
  const bytes = givenBytes(source)
  if (bytes === undefined) requirePath('readIdx: source', source, ', or its bytes')
  const name = bytes === undefined ? displayName(source as string | URL) : 'idx data'
  const stored = bytes === undefined ? await readBytes(source as string | URL, maxBytes) : bytesOf(bytes)
  const content = isGzip(stored)
    ? await gunzip(stored, name, head => parseHeader(head, name, maxBytes).totalBytes)
    : stored
  return parseIdx(content, name, maxBytes)
}

interface Header {
  element: ElementType
  shape: number[]
  headerBytes: number
  totalBytes: number
}

function parseIdx(content: Uint8Array, name: string, maxBytes: number): IdxArray {
  const { element, shape, headerBytes, totalBytes } = parseHeader(content, name, maxBytes)
  const sizes = `${totalBytes} bytes for ${element.type} elements of shape [${shape.join(', ')}]`
  if (content.length < totalBytes) {
    throw formatError(name, {
      offset: content.length,
      expected: sizes,
      found: `the end after ${content.length}`,
      remedy: 'get the file again: it was cut short, or its header lies about the sizes',
    })
  }
  if (content.length > totalBytes) {
    throw formatError(name, {
      offset: totalBytes,
      expected: sizes,
      found: 'more bytes after them',
      remedy: 'get the file again: it is damaged, or its header lies about the sizes',
    })
  }
  return { type: element.type, shape, data: decode(content.subarray(headerBytes), element) }
}

function parseHeader(content: Uint8Array, name: string, maxBytes: number): Header {
  const fail = (offset: number, expected: string, found: string) =>
    formatError(name, { offset, expected, found, remedy: 'check that this is a file in the idx format' })

  if (content.length < 4) throw fail(0, 'an idx header of at least 4 bytes', `${content.length} bytes`)
  if (content[0] !== 0 || content[1] !== 0) {
    throw fail(
      0,
      'the magic number of an idx file: 00 00, a type code, the number of dimensions',
      hex(content),
    )
  }
  const element = ELEMENT_TYPES[content[2] as keyof typeof ELEMENT_TYPES] as ElementType | undefined
  if (element === undefined)
    throw fail(2, 'a type code of 08, 09, 0b, 0c, 0d or 0e', hex(content.subarray(2, 3)))
  const dimensions = content[3]!
  if (dimensions === 0) throw fail(3, 'at least one dimension', '0')
  const headerBytes = 4 + 4 * dimensions
  if (content.length < headerBytes) {
    throw fail(content.length, `the sizes of ${dimensions} dimensions up to byte ${headerBytes}`, 'the end')
  }

  const view = new DataView(content.buffer, content.byteOffset, headerBytes)
  const shape = Array.from({ length: dimensions }, (_, index) => view.getUint32(4 + 4 * index))
  const totalBytes = headerBytes + shape.reduce((product, size) => product * size, element.bytes)
  if (totalBytes > maxBytes) {
    throw formatError(name, {
      offset: 4,
      expected: `sizes that come to at most ${maxBytes} bytes`,
      found: `[${shape.join(', ')}], which come to ${totalBytes}`,
      remedy: 'get the file again, or pass a larger maxBytes if it is meant to be this large',
    })
  }
  return { element, shape, headerBytes, totalBytes }
}

function decode(payload: Uint8Array, element: ElementType): IdxArray['data'] {
  if (element.type === 'uint8') return payload
  // A copy, for alignment and because the bytes are the caller's.
  const copy = Buffer.from(new ArrayBuffer(payload.length))
  copy.set(payload)
  if (endianness() === 'LE') {
    if (element.bytes === 2) copy.swap16()
    else if (element.bytes === 4) copy.swap32()
    else if (element.bytes === 8) copy.swap64()
  }
  return new element.Array(copy.buffer)
}

function hex(bytes: Uint8Array): string {
  return [...bytes.subarray(0, 4)].map(byte => byte.toString(16).padStart(2, '0')).join(' ')
}
