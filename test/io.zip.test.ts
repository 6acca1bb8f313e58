import { describe, expect, it } from 'vitest'
import { crc32, tableCrc32 } from '../lib/io/crc32.js'
import { openSource } from '../lib/io/source.js'
import { validateZip, ZipArchive, type ZipLimits } from '../lib/io/zip.js'
import { failure, folderWith, someBytes } from './data.fixtures.js'
import { crc32OfZlib } from './io.crc32.js'
import { zip, type ZipEnd, type ZipPart } from './io.fixtures.js'

const text = (content: string) => Buffer.from(content)
const weights = someBytes(1000)
const honest: ZipPart[] = [
  { name: 'm/data.pkl', data: text('pickle') },
  { name: 'm/code.py', data: Buffer.alloc(5000, 'x = 1\n'), deflate: true },
  { name: 'm/data/0', data: weights, descriptor: true },
  { name: 'm/empty', data: Buffer.alloc(0) },
]

async function open(bytes: Buffer, limits?: ZipLimits): Promise<ZipArchive> {
  return validateZip(await openSource(bytes), limits)
}

/** Why the archive is refused; that it is, with the right code, is checked too. */
async function refusal(parts: readonly ZipPart[], end?: ZipEnd, limits?: ZipLimits): Promise<string> {
  const error = await failure(() => open(zip(parts, end), limits))
  expect(error.code).toBe('ERR_FILE_FORMAT')
  return error.message
}

describe('crc32', () => {
  it('is the CRC-32 of zip, by Node or by table, in one go or in parts', () => {
    expect(crc32(text('123456789'))).toBe(0xcbf43926)
    for (const sum of [crc32, tableCrc32]) {
      expect(sum(weights)).toBe(crc32OfZlib(weights))
      expect(sum(weights.subarray(123), sum(weights.subarray(0, 123)))).toBe(crc32OfZlib(weights))
    }
  })
})

describe('ZipArchive', () => {
  it('reads stored and deflated entries, with sizes before or behind the data', async () => {
    const archive = await open(zip(honest))
    expect([...archive.entries.keys()]).toEqual(honest.map(({ name }) => name))
    for (const { name, data } of honest)
      expect(Buffer.compare(await archive.read(name), Buffer.from(data))).toBe(0)
    expect(archive.entry('m/code.py')).toMatchObject({ method: 'deflated', size: 5000 })
    expect(archive.hasChecksums).toBe(true)
  })

  it('reads the same from a file', async () => {
    const folder = await folderWith({ 'a.zip': zip(honest) })
    const source = await openSource(`${folder}/a.zip`)
    const archive = await validateZip(source)
    expect(Buffer.compare(await archive.read('m/data/0'), Buffer.from(weights))).toBe(0)
    await source.close()
  })

  it('reads zip64 records, and a comment', async () => {
    const parts = honest.map(part => ({ ...part, zip64: true }))
    for (const end of [{ zip64: true }, { comment: text('a comment') }])
      expect((await open(zip(parts, end))).entries.size).toBe(parts.length)
  })

  it('takes an archive without checksums, as torch.serialization.set_crc32_options(False) writes it', async () => {
    const archive = await open(zip(honest.map(part => ({ ...part, central: { crc: 0 }, local: { crc: 0 } }))))
    expect(archive.hasChecksums).toBe(false)
    expect(String(await archive.read('m/data.pkl'))).toBe('pickle')
  })

  it('names the entry that is not there', async () => {
    const archive = await open(zip(honest))
    expect((await failure(() => archive.read('m/nothing'))).message).toContain('an entry "m/nothing"')
  })

  const [pickle, code, data] = honest as [ZipPart, ZipPart, ZipPart]

  it.each<[string, ZipPart[], ZipEnd | undefined, string]>([
    ['bytes in front of it', honest, { before: text('#!'), offset: 0 }, 'a central directory that ends at'],
    ['bytes behind it', honest, { after: text('more') }, 'the end record of a zip archive'],
    ['more entries than it lists', honest, { count: 5 }, 'at most 4 entries'],
    ['fewer entries than it lists', honest, { count: 3 }, 'the end of the central directory'],
    ['more entries than fit', honest, { count: 60000 }, 'at most 4 entries'],
    ['a directory elsewhere', honest, { offset: 10 }, 'a central directory that ends at'],
    ['a name twice', [pickle, data, { ...data }], undefined, '"m/data/0" again'],
    ['a name that leads out', [{ ...data, name: '../x' }], undefined, 'without ".."'],
    ['an absolute name', [{ ...data, name: '/etc/x' }], undefined, 'relative'],
    ['a name with a zero byte', [{ ...data, name: 'a\0b' }], undefined, 'the name of an entry'],
    [
      'another name in the local header',
      [{ ...data, central: { name: 'm/data/1' } }],
      undefined,
      'another name',
    ],
    ['another method in the local header', [{ ...pickle, local: { method: 8 } }], undefined, 'method as in'],
    ['another size in the local header', [{ ...pickle, local: { size: 7 } }], undefined, 'size as in'],
    ['another checksum in the local header', [{ ...pickle, local: { crc: 7 } }], undefined, 'CRC-32 as in'],
    ['an encrypted entry', [{ ...pickle, central: { flags: 1 }, local: { flags: 1 } }], undefined, 'encrypt'],
    ['an unknown method', [{ ...pickle, central: { method: 93 } }], undefined, 'compression method 93'],
    ['stored sizes that differ', [{ ...data, central: { size: 10 } }], undefined, 'with equal sizes'],
    [
      'an entry beyond its end',
      [{ ...data, central: { size: 1e6, compressedSize: 1e6 } }],
      undefined,
      'to end before',
    ],
    ['overlapping entries', [pickle, { ...data, central: { offset: 2 } }], undefined, 'an overlap'],
    ['a wrong checksum', [{ ...data, central: { crc: 1 } }], undefined, 'with the CRC-32 00000001'],
    [
      'deflated data that unpacks to more',
      [{ ...code, central: { size: 4000 }, local: { size: 4000 } }],
      undefined,
      'once unpacked',
    ],
    [
      'deflated data that unpacks to less',
      [{ ...code, central: { size: 6000 }, local: { size: 6000 } }],
      undefined,
      'once unpacked',
    ],
  ])('refuses an archive with %s', async (_, parts, end, reason) => {
    expect(await refusal(parts, end)).toContain(reason)
  })

  it('refuses what unpacks to more than allowed, and more than deflate can do, before unpacking it', async () => {
    const bomb = { name: 'bomb', data: Buffer.alloc(1 << 20), deflate: true }
    expect(await refusal([bomb], {}, { maxInflatedBytes: 1 << 19 })).toContain('at most 524288 bytes')
    const twice = [bomb, { ...bomb, name: 'again' }]
    expect(await refusal(twice, {}, { maxInflatedBytes: (1 << 20) + 5 })).toContain('"again"')
    const lie = { ...code, central: { size: 1e8 }, local: { size: 1e8 } }
    expect(await refusal([lie])).toContain('100000000 bytes from')
  })

  it('refuses an archive cut short anywhere', async () => {
    const bytes = zip(honest)
    for (let length = 0; length < bytes.length; length += 13)
      expect((await failure(() => open(bytes.subarray(0, length)))).code).toBe('ERR_FILE_FORMAT')
  })
})
