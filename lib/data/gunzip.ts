import { createGunzip } from 'node:zlib'
import { readGzip } from '../io/inflate.js'
import { formatError } from '../io/files.js'

/** Enough of the content to read any announcement of its size from. */
const HEAD_BYTES = 1 << 16

/** No deflate stream unpacks to more than this many times its size (zlib's technical notes). */
const MAX_RATIO = 1032

export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b
}

/**
 * Unpacks gzip data whose first bytes say how long all of it is, and never more than that plus one chunk: what a
 * malicious file unpacks to beyond its own announcement is neither kept nor waited for.
 *
 * @param name The file's name, for messages.
 * @param announcedBytes Reads the announcement from the content's first bytes, 65536 or all there are; throws if it is
 *   no valid one.
 * @returns the content; one byte longer than announced when there was more
 * @throws AlambicError `ERR_FILE_FORMAT` for a stream that is damaged or cut short, and for an announcement that the
 *   compressed data is too short for
 */
export async function gunzip(
  compressed: Uint8Array,
  name: string,
  announcedBytes: (head: Buffer) => number,
): Promise<Buffer> {
  const zlib = () => {
    const unpacked = createGunzip({ chunkSize: HEAD_BYTES })
    unpacked.end(compressed)
    return unpacked as AsyncIterable<Uint8Array>
  }
  try {
    return await readGzip(compressed, pieces => collect(pieces, compressed, name, announcedBytes), zlib)
  } catch (error) {
    throw damaged(error, compressed, name)
  }
}

async function collect(
  pieces: AsyncIterable<Uint8Array>,
  compressed: Uint8Array,
  name: string,
  announcedBytes: (head: Buffer) => number,
): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0)
  let content: Buffer | undefined
  let length = 0

  const begin = () => {
    const announced = announcedBytes(head)
    refuseImpossible(announced, compressed.length, name)
    content = Buffer.allocUnsafe(announced + 1)
    length = head.copy(content)
  }

  // A stream that is left before its end is destroyed.
  for await (const piece of pieces) {
    if (content === undefined) {
      head = Buffer.concat([head, piece])
      if (head.length >= HEAD_BYTES) begin()
    } else {
      const taken = piece.subarray(0, content.length - length)
      content.set(taken, length)
      length += taken.length
    }
    if (content !== undefined && length === content.length) break
  }
  if (content === undefined) begin()
  return content!.subarray(0, length)
}

function refuseImpossible(announced: number, compressedBytes: number, name: string): void {
  if (announced <= compressedBytes * MAX_RATIO) return
  throw formatError(name, {
    offset: 0,
    expected: `${announced} bytes once unpacked, as the header announces`,
    found: `${compressedBytes} compressed bytes, which cannot hold them`,
    remedy: 'get the file again: it is damaged or was cut short',
  })
}

function damaged(error: unknown, compressed: Uint8Array, name: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === undefined || !code.startsWith('Z_')) return error
  const cutShort = code === 'Z_BUF_ERROR'
  return formatError(
    name,
    {
      offset: cutShort ? compressed.length : 0,
      expected: 'a complete gzip stream',
      found: cutShort ? 'the end of the file' : `damaged data (${message})`,
      remedy: 'get the file again: it is damaged or was cut short',
    },
    { cause: error },
  )
}
