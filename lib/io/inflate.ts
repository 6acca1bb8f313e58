/**
 * Unpacking in worker threads. A worker that is terminated while Node makes a zlib object, between two of its
 * statements, ends the whole process: an assertion of Node's, "close before init". So there data is unpacked by a
 * library in JavaScript, which holds nothing that has to be closed. It takes what is as it should be; whatever else there is,
 * zlib is asked, so that results and errors are the same in every thread.
 */
import { isMainThread } from 'node:worker_threads'
import { crc32 } from './crc32.js'

/** The library does not take this data, or it is not what it should be: zlib says what it is. */
class Refused extends Error {}

/** How much is unpacked before somebody looks how long it has become: at most 1032 times as much. */
const PIECE_BYTES = 1 << 16

/** The pieces of deflated data without a header. */
async function* pieces(packed: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  const { Inflate } = await import('fflate')
  const made: Uint8Array[] = []
  const stream = new Inflate(piece => made.push(piece))
  for (let from = 0; from === 0 || from < packed.length; from += PIECE_BYTES) {
    const end = from + PIECE_BYTES
    try {
      stream.push(packed.subarray(from, end), end >= packed.length)
    } catch (error) {
      throw new Refused('not a complete deflate stream', { cause: error })
    }
    yield* made.splice(0)
  }
}

/**
 * Deflated data without a header, in a worker.
 *
 * @returns undefined in the main thread, and where it is not a complete stream of so many bytes: then zlib is asked
 */
export async function inflateInWorker(packed: Uint8Array, size: number): Promise<Buffer | undefined> {
  if (isMainThread) return undefined
  const content = Buffer.allocUnsafe(size)
  let length = 0
  try {
    for await (const piece of pieces(packed)) {
      if (length + piece.length > size) return undefined
      content.set(piece, length)
      length += piece.length
    }
  } catch (error) {
    if (error instanceof Refused) return undefined
    throw error
  }
  return length === size ? content : undefined
}

/**
 * Reads the content of gzip data piece by piece: by the library in a worker where that can, else by `zlib`, from the
 * beginning.
 *
 * @param read takes the pieces, and may stop before their end
 */
export async function readGzip<T>(
  compressed: Uint8Array,
  read: (pieces: AsyncIterable<Uint8Array>) => Promise<T>,
  zlib: () => AsyncIterable<Uint8Array>,
): Promise<T> {
  if (isMainThread) return read(zlib())
  try {
    return await read(gzipPieces(compressed))
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    return read(zlib())
  }
}

/** Of a file with one member; RFC 1952. */
async function* gzipPieces(compressed: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  const start = bodyStart(compressed)
  const end = compressed.length - 8
  if (start > end) throw new Refused('too short')
  let sum = 0
  let length = 0
  for await (const piece of pieces(compressed.subarray(start, end))) {
    sum = crc32(piece, sum)
    length += piece.length
    yield piece
  }
  const trailer = new DataView(compressed.buffer, compressed.byteOffset + end, 8)
  if (trailer.getUint32(0, true) !== sum || trailer.getUint32(4, true) !== length % 2 ** 32)
    throw new Refused('another check sum: damaged, or several members')
}

const HEADER_CRC = 2
const EXTRA = 4
const NAME = 8
const COMMENT = 16

function bodyStart(bytes: Uint8Array): number {
  const flags = bytes[3] ?? 0xff
  if (bytes[2] !== 8 || flags > 0x1f) throw new Refused('another method, or flags that are reserved')
  let at = 10
  if (flags & EXTRA) at += 2 + (bytes[at] ?? 0) + 256 * (bytes[at + 1] ?? 0)
  for (const field of [NAME, COMMENT]) {
    if (!(flags & field)) continue
    const zero = bytes.indexOf(0, at)
    if (zero < 0) throw new Refused('a text without an end')
    at = zero + 1
  }
  return flags & HEADER_CRC ? at + 2 : at
}
