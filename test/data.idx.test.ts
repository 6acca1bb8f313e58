import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { gunzip } from '../lib/data/gunzip.js'
import { readIdx } from '../lib/data/idx.js'
import { loadStateDict, loadTorchScript } from '../lib/index.js'
import { failure, folderWith, idxBytes, someBytes } from './data.fixtures.js'

describe('readIdx reads', () => {
  it('bytes of any number of dimensions', async () => {
    const payload = someBytes(24)
    expect(await readIdx(idxBytes(0x08, [2, 3, 4], payload))).toEqual({
      type: 'uint8',
      shape: [2, 3, 4],
      data: Uint8Array.from(payload),
    })
    expect((await readIdx(idxBytes(0x08, [24], payload))).shape).toEqual([24])
  })

  it.each([
    [0x09, 'int8', [0x80, 0x7f], Int8Array.of(-128, 127)],
    [0x0b, 'int16', [0x80, 0x00, 0x01, 0x02], Int16Array.of(-32768, 258)],
    [0x0c, 'int32', [0xff, 0xff, 0xff, 0xfe, 0x00, 0x01, 0x00, 0x00], Int32Array.of(-2, 65536)],
    [0x0d, 'float32', [0x3f, 0xc0, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x00], Float32Array.of(1.5, -2)],
    [0x0e, 'float64', [0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0], Float64Array.of(1.5, -2)],
  ])('type code %d, which is big-endian %s', async (code, type, payload, expected) => {
    const array = await readIdx(idxBytes(code, [2], payload))
    expect(array.type).toBe(type)
    expect(array.data).toEqual(expected)
  })

  it('all of an ArrayBuffer', async () => {
    const { buffer } = Uint8Array.from(idxBytes(0x08, [3], [1, 2, 3]))
    expect([...(await readIdx(buffer)).data]).toEqual([1, 2, 3])
  })

  it('a file by path and by URL', async () => {
    const folder = await folderWith({ 'a.idx': idxBytes(0x08, [3], [1, 2, 3]) })
    const path = join(folder, 'a.idx')
    expect([...(await readIdx(path)).data]).toEqual([1, 2, 3])
    expect([...(await readIdx(pathToFileURL(path))).data]).toEqual([1, 2, 3])
  })

  it('gzip by its content, whatever the name says', async () => {
    const plain = idxBytes(0x08, [200, 1000], someBytes(200_000))
    const folder = await folderWith({ plain: gzipSync(plain), 'not-packed.gz': plain })
    for (const name of ['plain', 'not-packed.gz']) {
      const { shape, data } = await readIdx(join(folder, name))
      expect(shape).toEqual([200, 1000])
      expect(Buffer.compare(data as Uint8Array, someBytes(200_000))).toBe(0)
    }
  })

  it('gzip of several members one after the other, even where the header is cut in two', async () => {
    const plain = idxBytes(0x08, [5], [1, 2, 3, 4, 5])
    const packed = Buffer.concat([gzipSync(plain.subarray(0, 3)), gzipSync(plain.subarray(3))])
    expect([...(await readIdx(packed)).data]).toEqual([1, 2, 3, 4, 5])
  })

  it('arrays without elements', async () => {
    expect((await readIdx(idxBytes(0x08, [0, 28, 28], []))).data).toHaveLength(0)
  })
})

describe('readIdx refuses, with the byte offset, what was expected and what was found', () => {
  const good = idxBytes(0x08, [2, 3], [1, 2, 3, 4, 5, 6])
  const wrongMagic = Buffer.concat([Buffer.from('<html>'), good])

  it.each<[string, Buffer, RegExp]>([
    [
      'an empty file',
      Buffer.alloc(0),
      /at byte 0: expected an idx header of at least 4 bytes, found 0 bytes/,
    ],
    ['another magic number', wrongMagic, /at byte 0: expected the magic number .*, found 3c 68 74 6d; check/],
    [
      'an unknown type code',
      idxBytes(0x0a, [2], [1, 2]),
      /at byte 2: expected a type code of 08.*, found 0a/,
    ],
    ['no dimensions', idxBytes(0x08, [], []), /at byte 3: expected at least one dimension, found 0/],
    [
      'a header cut short',
      good.subarray(0, 9),
      /at byte 9: expected the sizes of 2 dimensions up to byte 12/,
    ],
    [
      'too few bytes',
      good.subarray(0, -1),
      /at byte 17: expected 18 bytes for uint8 .* \[2, 3\], found the end/,
    ],
    [
      'bytes after the end',
      Buffer.concat([good, Buffer.of(0)]),
      /at byte 18: expected 18 bytes .*found more bytes after/,
    ],
    [
      'sizes that multiply to more than any file',
      idxBytes(0x08, [0xffffffff, 0xffffffff, 0xffffffff], [1]),
      /at byte 4: expected sizes that come to at most 2147483648 bytes/,
    ],
  ])('%s', async (_, bytes, message) => {
    for (const stored of [bytes, gzipSync(bytes)]) {
      const error = await failure(() => readIdx(stored))
      expect(error.code).toBe('ERR_FILE_FORMAT')
      expect(error.message).toMatch(message)
    }
  })

  it('names the file', async () => {
    const folder = await folderWith({ 'broken.idx': Buffer.from('nonsense') })
    const error = await failure(() => readIdx(join(folder, 'broken.idx')))
    expect(error.message).toContain(join(folder, 'broken.idx'))
  })

  it('a gzip file cut short anywhere', async () => {
    const packed = gzipSync(idxBytes(0x08, [3000], someBytes(3000)))
    for (const length of [2, 12, 100, packed.length - 8, packed.length - 1]) {
      const error = await failure(() => readIdx(packed.subarray(0, length)))
      expect(error.code).toBe('ERR_FILE_FORMAT')
      expect(error.message).toContain(
        `at byte ${length}: expected a complete gzip stream, found the end of the file`,
      )
    }
  })

  it('a gzip file with a flipped bit', async () => {
    const packed = gzipSync(idxBytes(0x08, [3000], someBytes(3000)))
    const checksum = packed.length - 6
    packed[checksum]! ^= 1
    const error = await failure(() => readIdx(packed))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(
      /expected a complete gzip stream, found damaged data \(incorrect data check\)/,
    )
  })

  it('what only begins like gzip', async () => {
    const error = await failure(() => readIdx(Buffer.from([0x1f, 0x8b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(/damaged data/)
  })

  it('a missing file and a folder, with the path', async () => {
    const folder = await folderWith()
    for (const path of [join(folder, 'absent.idx'), folder]) {
      const error = await failure(() => readIdx(path))
      expect(error.code).toBe('ERR_FILE_NOT_FOUND')
      expect(error.message).toContain(path)
    }
  })

  it('a file larger than maxBytes, unread', async () => {
    const folder = await folderWith()
    const path = join(folder, 'large.idx')
    await writeFile(path, idxBytes(0x08, [100], someBytes(100)))
    const error = await failure(() => readIdx(path, { maxBytes: 50 }))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(/expected a file of at most 50 bytes, found 108 bytes/)
  })
})

describe('readIdx refuses', () => {
  it.each([5, null, undefined, {}, new Uint16Array(2)])('%s as a file', async value => {
    const error = await failure(() => readIdx(value as string))
    expect(error.code).toBe('ERR_ARGUMENT')
    expect(error.message).toContain('readIdx: source: expected a path or a file: URL')
  })

  it('the URL of something else, here and where weights are read', async () => {
    for (const read of [readIdx, loadStateDict]) {
      const error = await failure(() => read(new URL('http://x/y')))
      expect(error.code).toBe('ERR_ARGUMENT')
      expect(error.message).toContain('file: expected the URL of a local file, got http://x/y')
    }
  })

  it('bytes whose memory was transferred', async () => {
    const bytes = new Uint8Array(8)
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
    for (const read of [readIdx, loadStateDict, loadTorchScript])
      expect((await failure(() => read(bytes) as Promise<unknown>)).code).toBe('ERR_ARGUMENT')
  })

  it.skipIf(!existsSync('/dev/zero'))('a file without end, after maxBytes', async () => {
    const error = await failure(() => readIdx('/dev/zero', { maxBytes: 1e6 }))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toContain('/dev/zero: at byte 1000000: expected a file of at most 1000000 bytes')
  })

  it.skipIf(!existsSync('/proc/version'))('what it holds, not what it says to hold', async () => {
    const error = await failure(() => readIdx('/proc/version')) // 0 bytes, it says
    expect(error.message).toContain('expected the magic number of an idx file')
  })
})

describe('a decompression bomb', () => {
  it('that unpacks to more than its header announces is unpacked no further than that', async () => {
    const bomb = gzipSync(idxBytes(0x08, [10], new Uint8Array(1 << 26)))
    const content = await gunzip(bomb, 'bomb', () => 18)
    expect(content.length).toBe(19)
    const error = await failure(() => readIdx(bomb))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(/at byte 18: .* found more bytes after them/)
  })

  it('whose header announces more than its size can unpack to is refused before memory is taken', async () => {
    const before = process.memoryUsage().arrayBuffers
    const error = await failure(() => readIdx(gzipSync(idxBytes(0x08, [2 ** 31 - 100], someBytes(5000)))))
    expect(error.message).toMatch(/expected 2147483556 bytes once unpacked.*found \d+ compressed bytes/)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 24)
  })
})
