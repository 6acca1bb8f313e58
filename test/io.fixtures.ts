/** Builds zip archives, honest ones and others, independently of `lib/io`. */
import { deflateRawSync } from 'node:zlib'
import { crc32OfZlib } from './io.crc32.js'

export interface ZipPart {
  name: string
  data: Uint8Array
  deflate?: boolean
  /** Where the central directory differs from the truth. */
  central?: Partial<Header>
  /** Where the local header differs from it. */
  local?: Partial<Header>
  /** Leave numbers out of the local header and put them behind the data, as libtorch does. */
  descriptor?: boolean
  /** Write sizes and offset into a zip64 field. */
  zip64?: boolean
}

interface Header {
  name: string
  flags: number
  method: number
  crc: number
  compressedSize: number
  size: number
  offset: number
}

export interface ZipEnd {
  count?: number
  size?: number
  offset?: number
  comment?: Buffer
  zip64?: boolean
  before?: Buffer
  after?: Buffer
}

export function zip(parts: readonly ZipPart[], end: ZipEnd = {}): Buffer {
  const chunks: Buffer[] = [end.before ?? Buffer.alloc(0)]
  const centrals: Buffer[] = []
  let position = chunks[0]!.length
  for (const part of parts) {
    const packed = part.deflate ? deflateRawSync(part.data) : Buffer.from(part.data)
    const truth: Header = {
      name: part.name,
      flags: 0x800 | (part.descriptor ? 8 : 0),
      method: part.deflate ? 8 : 0,
      crc: crc32OfZlib(part.data),
      compressedSize: packed.length,
      size: part.data.length,
      offset: position,
    }
    const zeros = part.descriptor ? { crc: 0, compressedSize: 0, size: 0 } : {}
    const local = localHeader({ ...truth, ...zeros, ...part.local })
    const chunk = Buffer.concat([local, packed, part.descriptor ? descriptor(truth) : Buffer.alloc(0)])
    chunks.push(chunk)
    position += chunk.length
    centrals.push(centralHeader({ ...truth, ...part.central }, part.zip64 ?? false))
  }
  const directory = Buffer.concat(centrals)
  const record = {
    count: end.count ?? parts.length,
    size: end.size ?? directory.length,
    offset: end.offset ?? position,
  }
  const large = end.zip64 ? end64(record, position + directory.length) : Buffer.alloc(0)
  const small = endRecord(
    end.zip64 ? { count: 0xffff, size: 0xffffffff, offset: 0xffffffff } : record,
    end.comment,
  )
  return Buffer.concat([...chunks, directory, large, small, end.after ?? Buffer.alloc(0)])
}

function localHeader({ name, flags, method, crc, compressedSize, size }: Header): Buffer {
  const header = Buffer.alloc(30)
  header.writeUInt32LE(0x04034b50, 0)
  header.writeUInt16LE(flags, 6)
  header.writeUInt16LE(method, 8)
  header.writeUInt32LE(crc, 14)
  header.writeUInt32LE(compressedSize, 18)
  header.writeUInt32LE(size, 22)
  header.writeUInt16LE(Buffer.byteLength(name), 26)
  return Buffer.concat([header, Buffer.from(name)])
}

function centralHeader(fields: Header, zip64: boolean): Buffer {
  const { name, flags, method, crc, compressedSize, size, offset } = fields
  const header = Buffer.alloc(46)
  header.writeUInt32LE(0x02014b50, 0)
  header.writeUInt16LE(flags, 8)
  header.writeUInt16LE(method, 10)
  header.writeUInt32LE(crc, 16)
  header.writeUInt32LE(zip64 ? 0xffffffff : compressedSize, 20)
  header.writeUInt32LE(zip64 ? 0xffffffff : size, 24)
  header.writeUInt16LE(Buffer.byteLength(name), 28)
  header.writeUInt16LE(zip64 ? 28 : 0, 30)
  header.writeUInt32LE(zip64 ? 0xffffffff : offset, 42)
  const extra = zip64 ? Buffer.alloc(28) : Buffer.alloc(0)
  if (zip64) {
    extra.writeUInt16LE(1, 0)
    extra.writeUInt16LE(24, 2)
    ;[size, compressedSize, offset].forEach((value, i) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i))
  }
  return Buffer.concat([header, Buffer.from(name), extra])
}

function descriptor({ crc, compressedSize, size }: Header): Buffer {
  const record = Buffer.alloc(16)
  record.writeUInt32LE(0x08074b50, 0)
  record.writeUInt32LE(crc, 4)
  record.writeUInt32LE(compressedSize, 8)
  record.writeUInt32LE(size, 12)
  return record
}

interface End {
  count: number
  size: number
  offset: number
}

function endRecord({ count, size, offset }: End, comment: Buffer = Buffer.alloc(0)): Buffer {
  const record = Buffer.alloc(22)
  record.writeUInt32LE(0x06054b50, 0)
  record.writeUInt16LE(count, 8)
  record.writeUInt16LE(count, 10)
  record.writeUInt32LE(size, 12)
  record.writeUInt32LE(offset, 16)
  record.writeUInt16LE(comment.length, 20)
  return Buffer.concat([record, comment])
}

function end64({ count, size, offset }: End, position: number): Buffer {
  const record = Buffer.alloc(56 + 20)
  record.writeUInt32LE(0x06064b50, 0)
  record.writeBigUInt64LE(44n, 4)
  record.writeBigUInt64LE(BigInt(count), 24)
  record.writeBigUInt64LE(BigInt(count), 32)
  record.writeBigUInt64LE(BigInt(size), 40)
  record.writeBigUInt64LE(BigInt(offset), 48)
  record.writeUInt32LE(0x07064b50, 56)
  record.writeBigUInt64LE(BigInt(position), 64)
  record.writeUInt32LE(1, 72)
  return record
}
