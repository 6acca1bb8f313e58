/** Writes zip archives as libtorch does: entries stored, their data aligned, so that it can be mapped into memory. */
import type { FileHandle } from 'node:fs/promises'
import { crc32 } from './crc32.js'

const LOCAL_HEADER_BYTES = 30
/** PyTorch's, for mapped files. */
const ALIGNMENT = 64
/** An extra field of no meaning but its length, with libtorch's id and filling. */
const PADDING_ID = 0x4246
const PADDING = 'Z'

const MAX_32 = 0xffffffff
const MAX_16 = 0xffff
const UTF_8 = 1 << 11
const VERSION = 20
const VERSION_64 = 45
/** Midnight of 1980-01-01, the first day that zip knows: files do not depend on when they were written. */
const FIRST_DAY = (1 << 5) | 1

interface Written {
  name: Buffer
  offset: number
  size: number
  crc: number
}

export class ZipWriter {
  private position = 0
  private readonly entries: Written[] = []

  constructor(private readonly file: FileHandle) {}

  /** `size` bytes in all; known before, because the header is. */
  async add(name: string, size: number, chunks: Iterable<Uint8Array>): Promise<void> {
    const entry: Written = { name: Buffer.from(name), offset: this.position, size, crc: 0 }
    const headerBytes = LOCAL_HEADER_BYTES + entry.name.length + localZip64(entry).length
    const padding = paddingAt(this.position + headerBytes)
    const dataOffset = this.position + headerBytes + padding.length
    let done = 0
    for (const chunk of chunks) {
      await writeAll(this.file, chunk, dataOffset + done)
      entry.crc = crc32(chunk, entry.crc)
      done += chunk.length
    }
    if (done !== size) throw new RangeError(`${name}: ${size} bytes were announced, ${done} came`)
    const header = Buffer.concat([localHeader(entry, padding.length), entry.name, localZip64(entry), padding])
    await writeAll(this.file, header, this.position)
    this.position = dataOffset + size
    this.entries.push(entry)
  }

  /** Writes the directory: the archive is complete. */
  async finish(): Promise<void> {
    const directory = Buffer.concat(this.entries.map(centralHeader))
    const end = endRecords(this.entries.length, directory.length, this.position)
    await writeAll(this.file, Buffer.concat([directory, end]), this.position)
  }
}

/** As often as it takes: one call may write less. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

function isLarge({ size, offset }: Written): boolean {
  return size >= MAX_32 || offset >= MAX_32
}

function paddingAt(position: number): Buffer {
  const length = (ALIGNMENT - ((position + 4) % ALIGNMENT)) % ALIGNMENT
  const field = Buffer.alloc(4 + length, PADDING)
  field.writeUInt16LE(PADDING_ID, 0)
  field.writeUInt16LE(length, 2)
  return field
}

/** Both sizes, as the format wants it in a local header. */
function localZip64(entry: Written): Buffer {
  return entry.size >= MAX_32 ? zip64Field([entry.size, entry.size]) : Buffer.alloc(0)
}

function zip64Field(values: number[]): Buffer {
  const field = Buffer.alloc(4 + 8 * values.length)
  field.writeUInt16LE(1, 0)
  field.writeUInt16LE(8 * values.length, 2)
  values.forEach((value, i) => field.writeBigUInt64LE(BigInt(value), 4 + 8 * i))
  return field
}

function localHeader(entry: Written, paddingBytes: number): Buffer {
  const header = Buffer.alloc(LOCAL_HEADER_BYTES)
  header.writeUInt32LE(0x04034b50, 0)
  writeCommon(header, entry, 4)
  header.writeUInt16LE(localZip64(entry).length + paddingBytes, 28)
  return header
}

function centralHeader(entry: Written): Buffer {
  const large = [entry.size, entry.size, entry.offset].filter((_, i) =>
    i < 2 ? entry.size >= MAX_32 : entry.offset >= MAX_32,
  )
  const extra = large.length > 0 ? zip64Field(large) : Buffer.alloc(0)
  const header = Buffer.alloc(46)
  header.writeUInt32LE(0x02014b50, 0)
  header.writeUInt16LE(isLarge(entry) ? VERSION_64 : VERSION, 4)
  writeCommon(header, entry, 6)
  header.writeUInt16LE(extra.length, 30)
  header.writeUInt32LE(Math.min(entry.offset, MAX_32), 42)
  return Buffer.concat([header, entry.name, extra])
}

/** What both headers have: from the version to the length of the name. */
function writeCommon(header: Buffer, entry: Written, at: number): void {
  header.writeUInt16LE(isLarge(entry) ? VERSION_64 : VERSION, at)
  header.writeUInt16LE(UTF_8, at + 2)
  header.writeUInt16LE(FIRST_DAY, at + 8)
  header.writeUInt32LE(entry.crc, at + 10)
  header.writeUInt32LE(Math.min(entry.size, MAX_32), at + 14)
  header.writeUInt32LE(Math.min(entry.size, MAX_32), at + 18)
  header.writeUInt16LE(entry.name.length, at + 22)
}

function endRecords(count: number, size: number, offset: number): Buffer {
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(Math.min(count, MAX_16), 8)
  end.writeUInt16LE(Math.min(count, MAX_16), 10)
  end.writeUInt32LE(Math.min(size, MAX_32), 12)
  end.writeUInt32LE(Math.min(offset, MAX_32), 16)
  if (count < MAX_16 && size < MAX_32 && offset < MAX_32) return end
  const large = Buffer.alloc(56 + 20)
  large.writeUInt32LE(0x06064b50, 0)
  large.writeBigUInt64LE(44n, 4)
  large.writeUInt16LE(VERSION_64, 12)
  large.writeUInt16LE(VERSION_64, 14)
  for (const at of [24, 32]) large.writeBigUInt64LE(BigInt(count), at)
  large.writeBigUInt64LE(BigInt(size), 40)
  large.writeBigUInt64LE(BigInt(offset), 48)
  large.writeUInt32LE(0x07064b50, 56)
  large.writeBigUInt64LE(BigInt(offset + size), 64)
  large.writeUInt32LE(1, 72)
  return Buffer.concat([large, end])
}
