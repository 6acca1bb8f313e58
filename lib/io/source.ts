import { open, type FileHandle } from 'node:fs/promises'
import { displayName } from './files.js'
import { AlambicError } from '../errors.js'
import { bytesOf, givenBytes } from '../checks/realms.js'
import { fileError } from './file-error.js'

/** Where a file's bytes come from: a file that is open, or memory. */
export interface ByteSource {
  /** What messages call it. */
  readonly name: string
  /** In bytes. */
  readonly size: number
  /** The open file's descriptor; undefined for bytes in memory. */
  readonly descriptor: number | undefined
  /** @throws AlambicError `ERR_FILE_FORMAT` when the range is not inside the file */
  read(offset: number, length: number): Promise<Buffer>
  close(): Promise<void>
}

/** A path, a `file:` URL, or the bytes of a file. */
export type FileOrBytes = string | URL | Uint8Array | ArrayBuffer | SharedArrayBuffer

/**
 * Opens a file, or takes bytes as if they were one.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND` when there is no file that can be read, `ERR_ARGUMENT` for other values
 */
export async function openSource(input: FileOrBytes): Promise<ByteSource> {
  const bytes = givenBytes(input)
  if (bytes !== undefined) return new MemorySource(bytes)
  const name = displayName(input as string | URL)
  try {
    const file = await open(name, 'r')
    try {
      const stat = await file.stat()
      if (!stat.isFile()) throw new Error(stat.isDirectory() ? 'a folder' : 'something that is not a file')
      return new FileSource(name, stat.size, file)
    } catch (error) {
      await file.close()
      throw error
    }
  } catch (error) {
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${name}: expected a file that can be read, got ${(error as Error).message}; check the path`,
      { cause: error },
    )
  }
}

/** {@link openSource} for the duration of `body`. */
export async function withSource<T>(
  input: FileOrBytes,
  body: (source: ByteSource) => Promise<T>,
): Promise<T> {
  const source = await openSource(input)
  try {
    return await body(source)
  } finally {
    await source.close()
  }
}

class FileSource implements ByteSource {
  constructor(
    readonly name: string,
    readonly size: number,
    private readonly file: FileHandle,
  ) {}

  get descriptor(): number {
    return this.file.fd
  }

  async read(offset: number, length: number): Promise<Buffer> {
    checkRange(this, offset, length)
    const bytes = Buffer.allocUnsafeSlow(length)
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.file.read(bytes, done, length - done, offset + done)
      if (bytesRead === 0) throw rangeError(this, offset, length, offset + done)
      done += bytesRead
    }
    return bytes
  }

  close(): Promise<void> {
    return this.file.close()
  }
}

class MemorySource implements ByteSource {
  readonly name = 'the given bytes'
  readonly descriptor = undefined
  private readonly bytes: Buffer

  constructor(bytes: Uint8Array) {
    const { buffer, byteOffset, byteLength } = bytesOf(bytes)
    this.bytes = Buffer.from(buffer, byteOffset, byteLength)
  }

  get size(): number {
    return this.bytes.length
  }

  read(offset: number, length: number): Promise<Buffer> {
    checkRange(this, offset, length)
    return Promise.resolve(this.bytes.subarray(offset, offset + length))
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

/** @throws AlambicError `ERR_FILE_FORMAT` */
export function checkRange(source: ByteSource, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= source.size))
    throw rangeError(source, offset, length, source.size)
}

function rangeError(source: ByteSource, offset: number, length: number, end: number): AlambicError {
  return fileError(source.name, {
    offset,
    expected: `${length} bytes`,
    found: `the end of the file at byte ${end}`,
    remedy: 'get the file again: it is damaged or was cut short',
  })
}
