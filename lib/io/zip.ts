/**
 * Reads zip archives as libtorch and Python write them, and trusts nothing in them: what this opens is whole, without
 * overlaps and duplicates, and unpacks to what it says. libtorch is shown only archives that passed here.
 *
 * The format is PKWARE's APPNOTE 6.3: an entry is a local header and its data; a central directory lists all entries;
 * an end record, the last thing in the file, says where that is. Zip64 records stand beside it for large files.
 */
import { inflateRaw } from 'node:zlib'
import { promisify } from 'node:util'
import { crc32 } from './crc32.js'
import { fileError } from './file-error.js'
import { inflateInWorker } from './inflate.js'
import type { ByteSource } from './source.js'

export interface ZipEntry {
  readonly name: string
  /** Of the data in the file. */
  readonly offset: number
  /** Bytes in the file. */
  readonly compressedSize: number
  /** Bytes once unpacked; the same as `compressedSize` when stored. */
  readonly size: number
  readonly crc32: number
  readonly method: 'stored' | 'deflated'
}

export interface ZipLimits {
  /** The most bytes that all deflated entries may unpack to. Default: 256 MiB; weights are stored, never deflated. */
  maxInflatedBytes?: number
  /** Default: one million. */
  maxEntries?: number
}

const LOCAL_HEADER = 0x04034b50
const CENTRAL_HEADER = 0x02014b50
const END = 0x06054b50
const END_64 = 0x06064b50
const LOCATOR_64 = 0x07064b50

const LOCAL_HEADER_BYTES = 30
const CENTRAL_HEADER_BYTES = 46
const END_BYTES = 22
const END_64_BYTES = 56
const LOCATOR_64_BYTES = 20
const MAX_COMMENT_BYTES = 0xffff

const ZIP64_EXTRA = 0x0001
const IN_ZIP64 = 0xffffffff

const ENCRYPTED = 1 << 0
const PATCH = 1 << 5
const STRONGLY_ENCRYPTED = 1 << 6
const MASKED_HEADERS = 1 << 13
const REFUSED_FLAGS = ENCRYPTED | PATCH | STRONGLY_ENCRYPTED | MASKED_HEADERS
const SIZES_AFTER_DATA = 1 << 3

/** No deflate stream unpacks to more than this many times its size (zlib's technical notes). */
const MAX_DEFLATE_RATIO = 1032

/** How much of an entry is checked at a time. */
const CHUNK_BYTES = 1 << 24

const inflate = promisify<Buffer, { maxOutputLength: number }, Buffer>(inflateRaw)

/** Whether a file that begins with these bytes is a zip archive. */
export function isZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4
}

/** An archive whose structure was checked; the content of an entry is checked when it is read. */
export class ZipArchive {
  private constructor(
    private readonly source: ByteSource,
    /** By name, in the order of the central directory. */
    readonly entries: ReadonlyMap<string, ZipEntry>,
    /** False for archives written without: `torch.serialization.set_crc32_options(False)` leaves all of them 0. */
    readonly hasChecksums: boolean,
  ) {}

  /**
   * Reads the directory, and every local header.
   *
   * @throws AlambicError `ERR_FILE_FORMAT`
   */
  static async open(source: ByteSource, limits: ZipLimits = {}): Promise<ZipArchive> {
    const { maxEntries = 1e6, maxInflatedBytes = 2 ** 28 } = limits
    const directory = await findDirectory(source)
    const listed = await readDirectory(source, directory, maxEntries)
    checkInflatedSize(source, listed, maxInflatedBytes)
    const entries = new Map<string, ZipEntry>()
    let end = 0
    for (const entry of [...listed].sort((a, b) => a.headerOffset - b.headerOffset)) {
      const offset = await readLocalHeader(source, entry, end, directory.offset)
      end = offset + entry.compressedSize
      const { name, compressedSize, size, crc32, method } = entry
      entries.set(name, { name, offset, compressedSize, size, crc32, method })
    }
    const inOrder = new Map(listed.map(({ name }) => [name, entries.get(name)!]))
    const hasChecksums = listed.some(entry => entry.crc32 !== 0)
    return new ZipArchive(source, inOrder, hasChecksums)
  }

  /** @throws AlambicError `ERR_FILE_FORMAT` when there is no such entry */
  entry(name: string): ZipEntry {
    const entry = this.entries.get(name)
    if (entry !== undefined) return entry
    throw fileError(this.source.name, {
      offset: 0,
      expected: `an entry ${JSON.stringify(name)} in the archive`,
      found: `${this.entries.size} others`,
    })
  }

  /**
   * The content of an entry, unpacked and checked.
   *
   * @throws AlambicError `ERR_FILE_FORMAT` when it is damaged or not there
   */
  async read(name: string): Promise<Buffer> {
    const entry = this.entry(name)
    const packed = await this.source.read(entry.offset, entry.compressedSize)
    const content = entry.method === 'stored' ? packed : await this.unpack(entry, packed)
    this.checkSum(entry, crc32(content))
    return content
  }

  /**
   * Checks the content of an entry without keeping it.
   *
   * @throws AlambicError `ERR_FILE_FORMAT` when it is damaged or not there
   */
  async verify(name: string): Promise<void> {
    const entry = this.entry(name)
    if (entry.method === 'deflated') {
      await this.read(name)
      return
    }
    if (!this.hasChecksums) return
    let sum = 0
    for (let done = 0; done < entry.size; done += CHUNK_BYTES) {
      const chunk = await this.source.read(entry.offset + done, Math.min(CHUNK_BYTES, entry.size - done))
      sum = crc32(chunk, sum)
    }
    this.checkSum(entry, sum)
  }

  /** {@link verify} for all entries. */
  async verifyAll(): Promise<void> {
    for (const name of this.entries.keys()) await this.verify(name)
  }

  private async unpack(entry: ZipEntry, packed: Buffer): Promise<Buffer> {
    const where = `${entry.size} bytes of ${JSON.stringify(entry.name)} once unpacked`
    let content: Buffer
    try {
      content =
        (await inflateInWorker(packed, entry.size)) ??
        (await inflate(packed, { maxOutputLength: Math.max(entry.size, 1) }))
    } catch (error) {
      const found = `damaged data (${(error as Error).message})`
      throw fileError(this.source.name, { offset: entry.offset, expected: where, found }, { cause: error })
    }
    if (content.length !== entry.size)
      throw fileError(this.source.name, {
        offset: entry.offset,
        expected: where,
        found: `${content.length} bytes`,
      })
    return content
  }

  private checkSum(entry: ZipEntry, sum: number): void {
    if (!this.hasChecksums || sum === entry.crc32) return
    throw fileError(this.source.name, {
      offset: entry.offset,
      expected: `content of ${JSON.stringify(entry.name)} with the CRC-32 ${hex(entry.crc32)}`,
      found: hex(sum),
    })
  }
}

// ---- The end of the file ---------------------------------------------------------------------------------------------

interface Directory {
  offset: number
  size: number
  count: number
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const tailBytes = Math.min(source.size, END_BYTES + MAX_COMMENT_BYTES)
  const tail = await source.read(source.size - tailBytes, tailBytes)
  const position = endRecord(source, tail)
  const endOffset = source.size - tailBytes + position
  const end = tail.subarray(position)
  const small: Directory = {
    count: end.readUInt16LE(10),
    size: end.readUInt32LE(12),
    offset: end.readUInt32LE(16),
  }
  refuseVolumes(source, endOffset, [end.readUInt16LE(4), end.readUInt16LE(6)])
  refuseDifferent(source, endOffset, 'entries on this disk', end.readUInt16LE(8), small.count)

  const large = await readEnd64(source, endOffset, small)
  const directory = large?.directory ?? small
  const directoryEnd = large?.offset ?? endOffset
  if (directory.offset + directory.size !== directoryEnd)
    throw fileError(source.name, {
      offset: endOffset,
      expected: `a central directory that ends at byte ${directoryEnd}`,
      found: `one of ${directory.size} bytes at byte ${directory.offset}`,
    })
  return directory
}

/** Its comment ends with the file: bytes that look like an end record elsewhere are not one. */
function endRecord(source: ByteSource, tail: Buffer): number {
  for (let position = tail.length - END_BYTES; position >= 0; position--) {
    if (tail.readUInt32LE(position) !== END) continue
    if (position + END_BYTES + tail.readUInt16LE(position + 20) === tail.length) return position
  }
  throw fileError(source.name, {
    offset: source.size,
    expected: 'the end record of a zip archive',
    found: 'none',
    remedy: 'get the file again: it is damaged or was cut short',
  })
}

async function readEnd64(
  source: ByteSource,
  endOffset: number,
  small: Directory,
): Promise<{ directory: Directory; offset: number } | undefined> {
  const locatorOffset = endOffset - LOCATOR_64_BYTES
  const locator = locatorOffset >= 0 ? await source.read(locatorOffset, LOCATOR_64_BYTES) : undefined
  if (locator?.readUInt32LE(0) !== LOCATOR_64) {
    refuseMissing64(source, endOffset, small)
    return undefined
  }
  refuseVolumes(source, locatorOffset, [locator.readUInt32LE(4), locator.readUInt32LE(16) - 1])
  const offset = readUInt64(source, locator, 8, locatorOffset)
  const record = await source.read(offset, END_64_BYTES)
  refuseDifferent(source, offset, 'the signature of a zip64 end record', record.readUInt32LE(0), END_64)
  const bytes = readUInt64(source, record, 4, offset) + 12
  if (bytes < END_64_BYTES || offset + bytes !== locatorOffset)
    throw fileError(source.name, {
      offset,
      expected: `a zip64 end record of ${locatorOffset - offset} bytes`,
      found: `${bytes} bytes`,
    })
  refuseVolumes(source, offset, [record.readUInt32LE(16), record.readUInt32LE(20)])
  const directory = {
    count: readUInt64(source, record, 32, offset),
    size: readUInt64(source, record, 40, offset),
    offset: readUInt64(source, record, 48, offset),
  }
  const what = 'what the zip64 end record says'
  if (small.count !== 0xffff) refuseDifferent(source, endOffset, what, small.count, directory.count)
  if (small.size !== IN_ZIP64) refuseDifferent(source, endOffset, what, small.size, directory.size)
  if (small.offset !== IN_ZIP64) refuseDifferent(source, endOffset, what, small.offset, directory.offset)
  return { directory, offset }
}

function refuseMissing64(source: ByteSource, offset: number, { size, offset: start }: Directory): void {
  if (size !== IN_ZIP64 && start !== IN_ZIP64) return
  throw fileError(source.name, { offset, expected: 'a zip64 end record', found: 'none' })
}

function refuseVolumes(source: ByteSource, offset: number, numbers: number[]): void {
  if (numbers.every(number => number === 0)) return
  throw fileError(source.name, { offset, expected: 'an archive in one file', found: 'one part of several' })
}

function refuseDifferent(
  source: ByteSource,
  offset: number,
  what: string,
  found: number,
  expected: number,
): void {
  if (found === expected) return
  throw fileError(source.name, { offset, expected: `${what}: ${expected}`, found: String(found) })
}

// ---- The directory -----------------------------------------------------------------------------------------------------

interface ListedEntry extends Omit<ZipEntry, 'offset'> {
  headerOffset: number
  flags: number
  nameBytes: Buffer
}

async function readDirectory(
  source: ByteSource,
  { offset, size, count }: Directory,
  maxEntries: number,
): Promise<ListedEntry[]> {
  if (count > maxEntries || count * CENTRAL_HEADER_BYTES > size)
    throw fileError(source.name, {
      offset,
      expected: `at most ${Math.min(maxEntries, Math.floor(size / CENTRAL_HEADER_BYTES))} entries`,
      found: String(count),
    })
  const bytes = await source.read(offset, size)
  const entries: ListedEntry[] = []
  const names = new Set<string>()
  let position = 0
  for (let i = 0; i < count; i++) {
    const { entry, end } = readCentralHeader(source, bytes, position, offset)
    if (names.has(entry.name))
      throw fileError(source.name, {
        offset: offset + position,
        expected: 'each name once',
        found: `${JSON.stringify(entry.name)} again`,
        remedy: 'do not trust this file: readers differ in which of the two they take',
      })
    names.add(entry.name)
    entries.push(entry)
    position = end
  }
  refuseDifferent(source, offset + position, 'the end of the central directory at byte', position, size)
  return entries
}

function readCentralHeader(
  source: ByteSource,
  bytes: Buffer,
  position: number,
  base: number,
): { entry: ListedEntry; end: number } {
  const at = base + position
  const broken = (expected: string, found: string) => fileError(source.name, { offset: at, expected, found })
  if (position + CENTRAL_HEADER_BYTES > bytes.length || bytes.readUInt32LE(position) !== CENTRAL_HEADER)
    throw broken('a header of the central directory', 'something else')
  const flags = bytes.readUInt16LE(position + 8)
  const nameStart = position + CENTRAL_HEADER_BYTES
  const extraStart = nameStart + bytes.readUInt16LE(position + 28)
  const commentStart = extraStart + bytes.readUInt16LE(position + 30)
  const end = commentStart + bytes.readUInt16LE(position + 32)
  if (end > bytes.length) throw broken(`${end - position} bytes`, 'the end of the central directory')
  const nameBytes = bytes.subarray(nameStart, extraStart)
  const name = decodeName(source, nameBytes, at)
  if (flags & REFUSED_FLAGS) throw broken(`${JSON.stringify(name)} without encryption`, 'an encrypted entry')
  refuseVolumes(source, at, [bytes.readUInt16LE(position + 34)])

  const small = {
    size: bytes.readUInt32LE(position + 24),
    compressedSize: bytes.readUInt32LE(position + 20),
    headerOffset: bytes.readUInt32LE(position + 42),
  }
  const extra = bytes.subarray(extraStart, commentStart)
  const { size, compressedSize, headerOffset } = withZip64(source, small, extra, at)
  const method = methodOf(source, name, bytes.readUInt16LE(position + 10), at)
  if (method === 'stored' && compressedSize !== size)
    throw broken(`${JSON.stringify(name)}, stored, with equal sizes`, `${compressedSize} and ${size}`)
  const sum = bytes.readUInt32LE(position + 16)
  return {
    entry: { name, nameBytes, flags, method, size, compressedSize, headerOffset, crc32: sum },
    end,
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

function decodeName(source: ByteSource, bytes: Buffer, offset: number): string {
  let name = ''
  try {
    name = utf8.decode(bytes)
  } catch {
    // Stays empty, and is refused as such.
  }
  const isRelative = !name.startsWith('/') && !/^[A-Za-z]:/.test(name)
  const parts = name.split(/[/\\]/)
  if (name !== '' && !name.includes('\0') && isRelative && !parts.includes('..')) return name
  throw fileError(source.name, {
    offset,
    expected: 'the name of an entry: UTF-8, relative, without ".."',
    found: JSON.stringify(bytes.subarray(0, 80).toString('latin1')),
  })
}

function methodOf(source: ByteSource, name: string, method: number, offset: number): ZipEntry['method'] {
  if (method === 0) return 'stored'
  if (method === 8) return 'deflated'
  throw fileError(source.name, {
    offset,
    expected: `${JSON.stringify(name)} stored (0) or deflated (8)`,
    found: `compression method ${method}`,
  })
}

/** What does not fit into 32 bits is in an extra field, in this order. */
function withZip64(
  source: ByteSource,
  small: { size: number; compressedSize: number; headerOffset: number },
  extra: Buffer,
  offset: number,
): typeof small {
  const large = { ...small }
  const missing = (Object.keys(small) as (keyof typeof small)[]).filter(key => small[key] === IN_ZIP64)
  if (missing.length === 0) return large
  const field = extraField(extra, ZIP64_EXTRA)
  if (field === undefined || field.length < 8 * missing.length)
    throw fileError(source.name, { offset, expected: 'sizes in a zip64 field', found: 'none' })
  missing.forEach((key, index) => {
    large[key] = readUInt64(source, field, 8 * index, offset)
  })
  return large
}

function extraField(extra: Buffer, id: number): Buffer | undefined {
  for (let position = 0; position + 4 <= extra.length;) {
    const end = position + 4 + extra.readUInt16LE(position + 2)
    if (extra.readUInt16LE(position) === id)
      return end <= extra.length ? extra.subarray(position + 4, end) : undefined
    position = end
  }
  return undefined
}

function checkInflatedSize(source: ByteSource, entries: ListedEntry[], limit: number): void {
  let total = 0
  for (const { name, method, size, compressedSize, headerOffset } of entries) {
    if (method === 'stored') continue
    total += size
    if (size <= compressedSize * MAX_DEFLATE_RATIO && total <= limit) continue
    throw fileError(source.name, {
      offset: headerOffset,
      expected: `entries that unpack to at most ${limit} bytes, and none to more than deflate can`,
      found: `${JSON.stringify(name)}, ${size} bytes from ${compressedSize}`,
      remedy: 'do not trust this file: it is made to fill the memory',
    })
  }
}

// ---- Local headers -------------------------------------------------------------------------------------------------------

/** Returns where the data begins. Entries lie between `from` and the directory, one after the other. */
async function readLocalHeader(
  source: ByteSource,
  entry: ListedEntry,
  from: number,
  directoryOffset: number,
): Promise<number> {
  const { name, nameBytes, headerOffset, compressedSize } = entry
  const broken = (expected: string, found: string) =>
    fileError(source.name, { offset: headerOffset, expected, found })
  if (headerOffset < from)
    throw broken(`${JSON.stringify(name)} behind byte ${from}, where the entry before ends`, 'an overlap')
  const header = await source.read(headerOffset, LOCAL_HEADER_BYTES + nameBytes.length)
  if (header.readUInt32LE(0) !== LOCAL_HEADER)
    throw broken(`the local header of ${JSON.stringify(name)}`, 'something else')
  const sameName = header.readUInt16LE(26) === nameBytes.length && header.subarray(30).equals(nameBytes)
  if (!sameName) throw broken(`the local header of ${JSON.stringify(name)}`, 'one of another name')
  const extraBytes = header.readUInt16LE(28)
  const offset = headerOffset + header.length + extraBytes
  if (offset + compressedSize > directoryOffset)
    throw broken(
      `${JSON.stringify(name)} to end before the central directory at byte ${directoryOffset}`,
      `${compressedSize} bytes at byte ${offset}`,
    )
  const extra = await source.read(headerOffset + header.length, extraBytes)
  refuseOtherHeader(source, entry, header, extra)
  return offset
}

/** Readers differ in which of the two headers they go by, so both have to say the same. */
function refuseOtherHeader(source: ByteSource, entry: ListedEntry, header: Buffer, extra: Buffer): void {
  const { headerOffset, flags, method } = entry
  const what = `as in the central directory, in the local header of ${JSON.stringify(entry.name)}`
  const refuse = (field: string, found: number, expected: number) =>
    refuseDifferent(source, headerOffset, `${field} ${what}`, found, expected)
  refuse('flags', header.readUInt16LE(6), flags)
  refuse('method', header.readUInt16LE(8), method === 'stored' ? 0 : 8)
  const sum = header.readUInt32LE(14)
  const small = { size: header.readUInt32LE(22), compressedSize: header.readUInt32LE(18), headerOffset: 0 }
  // With this flag the numbers follow the data, and are zero here; some writers give them all the same.
  const isAfterData = (flags & SIZES_AFTER_DATA) !== 0
  if (isAfterData && sum === 0 && small.size === 0 && small.compressedSize === 0) return
  const { size, compressedSize } = withZip64(source, small, extra, headerOffset)
  const skip = (value: number) => isAfterData && value === 0
  if (!skip(sum)) refuse('CRC-32', sum, entry.crc32)
  if (!skip(size)) refuse('size', size, entry.size)
  if (!skip(compressedSize)) refuse('compressed size', compressedSize, entry.compressedSize)
}

// ---- Numbers ---------------------------------------------------------------------------------------------------------------

function readUInt64(source: ByteSource, bytes: Buffer, position: number, base: number): number {
  const value = bytes.readBigUInt64LE(position)
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  throw fileError(source.name, {
    offset: base + position,
    expected: `a number of bytes in a file of ${source.size}`,
    found: String(value),
  })
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0')
}

/**
 * Opens an archive and checks every entry's content: what libtorch may be given.
 *
 * @throws AlambicError `ERR_FILE_FORMAT`
 */
export async function validateZip(source: ByteSource, limits?: ZipLimits): Promise<ZipArchive> {
  const archive = await ZipArchive.open(source, limits)
  await archive.verifyAll()
  return archive
}
