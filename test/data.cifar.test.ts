import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { loadCifar10, loadCifar100 } from '../lib/data/cifar.js'
import { failure, folderWith, someBytes } from './data.fixtures.js'

const IMAGE_BYTES = 3 * 32 * 32

/** Records of the given label bytes, each with an image filled with its number in the file plus `offset`. */
function records(labels: readonly (readonly number[])[], offset = 0): Buffer {
  return Buffer.concat(
    labels.map((label, index) =>
      Buffer.concat([Buffer.from(label), Buffer.alloc(IMAGE_BYTES, offset + index)]),
    ),
  )
}

const cifar10Files = () => ({
  'data_batch_1.bin': records([[0], [1]], 10),
  'data_batch_2.bin': records([[2]], 20),
  'data_batch_3.bin': records([[3]], 30),
  'data_batch_4.bin': records([[4]], 40),
  'data_batch_5.bin': records([[9]], 50),
  'test_batch.bin': records([[7], [8]], 60),
})

describe('Files with other names', () => {
  it('are named, in the folder or by a whole path, in their order', async () => {
    const folder = await folderWith({ 'b.bin': records([[1]]), 'sub/a.bin': records([[2], [3]]) })
    const files = ['b.bin', join(folder, 'sub', 'a.bin')]
    expect([...(await loadCifar10(folder, { files })).labels]).toEqual([1, 2, 3])
    const fine = await folderWith({ 'mine.bin': records([[4, 99]]) })
    expect([...(await loadCifar100(fine, { files: ['mine.bin'] })).labels]).toEqual([99])
  })

  it('are missed by their path, and are names', async () => {
    const folder = await folderWith()
    const error = await failure(() => loadCifar10(folder, { files: ['nowhere.bin'] }))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect(error.message).toContain(join(folder, 'nowhere.bin'))
    for (const files of [[], [''], [5], 'test.bin'])
      expect((await failure(() => loadCifar100(folder, { files: files as string[] }))).code).toBe(
        'ERR_ARGUMENT',
      )
  })
})

describe('loadCifar10', () => {
  it('joins the five training files in order', async () => {
    const dataset = await loadCifar10(await folderWith(cifar10Files()))
    expect(dataset.shape).toEqual([3, 32, 32])
    expect([...dataset.labels]).toEqual([0, 1, 2, 3, 4, 9])
    expect(dataset.pixels).toHaveLength(6 * IMAGE_BYTES)
    const firsts = Array.from(
      { length: 6 },
      (_, image) => new Set(dataset.pixels.subarray(image * IMAGE_BYTES, (image + 1) * IMAGE_BYTES)),
    )
    expect(firsts.map(bytes => [...bytes])).toEqual([[10], [11], [20], [30], [40], [50]])
    expect(dataset.classes?.[9]).toBe('truck')
  })

  it('keeps the order of channels, rows and columns', async () => {
    const image = someBytes(IMAGE_BYTES)
    const dataset = await loadCifar10(
      await folderWith({ 'test_batch.bin': Buffer.concat([Buffer.of(3), image]) }),
      { train: false },
    )
    expect(Buffer.compare(dataset.pixels, image)).toBe(0)
  })

  it('finds the files in the folder that the archive unpacks to', async () => {
    const folder = await folderWith({ 'cifar-10-batches-bin/test_batch.bin': records([[7], [8]]) })
    expect([...(await loadCifar10(folder, { train: false })).labels]).toEqual([7, 8])
  })

  it('lists every file that is missing, where it looked and what is there', async () => {
    const { 'data_batch_2.bin': _, 'data_batch_5.bin': __, ...rest } = cifar10Files()
    const folder = await folderWith(rest)
    const error = await failure(() => loadCifar10(folder))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect(error.message).toContain(`expected data_batch_2.bin, data_batch_5.bin in ${folder}`)
    expect(error.message).toContain(
      'found data_batch_1.bin, data_batch_3.bin, data_batch_4.bin, test_batch.bin',
    )
  })

  it('says when the folder itself is missing or empty', async () => {
    const folder = await folderWith()
    expect((await failure(() => loadCifar10(folder))).message).toContain('found an empty folder')
    expect((await failure(() => loadCifar10(`${folder}/absent`))).message).toContain('found no such folder')
  })

  it.each([
    ['cut short by a byte', records([[1], [2]]).subarray(0, -1), 3073],
    ['empty', Buffer.alloc(0), 0],
    ['of CIFAR-100', records([[1, 2]]), 3073],
  ])('refuses a file that is %s', async (_, bytes, offset) => {
    const folder = await folderWith({ 'test_batch.bin': bytes })
    const error = await failure(() => loadCifar10(folder, { train: false }))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toContain('test_batch.bin: ')
    expect(error.message).toContain(`at byte ${offset}: expected whole records of 3073 bytes`)
    expect(error.message).toContain(`found ${bytes.length} bytes`)
  })

  it('asks to unpack a packed file', async () => {
    const folder = await folderWith({ 'test_batch.bin': gzipSync(records([[1]])) })
    const error = await failure(() => loadCifar10(folder, { train: false }))
    expect(error.message).toMatch(/found gzip data; unpack it first/)
  })

  it('refuses a label out of range, with file, record and byte', async () => {
    const folder = await folderWith({ ...cifar10Files(), 'data_batch_1.bin': records([[0], [9], [10]]) })
    const error = await failure(() => loadCifar10(folder))
    expect(error.code).toBe('ERR_LABEL_RANGE')
    expect(error.message).toContain(
      'data_batch_1.bin: label of record 2 at byte 6146: expected a label from 0 to 9, got 10',
    )
  })
})

describe('loadCifar100', () => {
  const files = { 'train.bin': records([[19, 99]]), 'test.bin': records([[4, 0], [1, 1]]) } // prettier-ignore

  it('reads fine labels, or coarse ones', async () => {
    const folder = await folderWith(files)
    const fine = await loadCifar100(folder, { train: false })
    expect([...fine.labels]).toEqual([0, 1])
    expect(fine.classes).toHaveLength(100)
    expect(fine.classes?.[1]).toBe('aquarium_fish')
    const coarse = await loadCifar100(folder, { train: false, labels: 'coarse' })
    expect([...coarse.labels]).toEqual([4, 1])
    expect(coarse.classes).toHaveLength(20)
    expect(coarse.classes?.[1]).toBe('fish')
    expect([...(await loadCifar100(folder)).labels]).toEqual([99])
  })

  it.each([
    ['coarse', [20, 0], 'coarse label of record 1 at byte 3074: expected a label from 0 to 19, got 20'],
    ['fine', [0, 100], 'fine label of record 1 at byte 3075: expected a label from 0 to 99, got 100'],
  ] as const)('refuses a %s label out of range, whichever is asked for', async (_, bad, message) => {
    const folder = await folderWith({ 'train.bin': records([[0, 0], bad]) })
    for (const labels of ['fine', 'coarse'] as const) {
      const error = await failure(() => loadCifar100(folder, { labels }))
      expect(error.code).toBe('ERR_LABEL_RANGE')
      expect(error.message).toContain(message)
    }
  })

  it('refuses any other kind of labels', async () => {
    const error = await failure(() => loadCifar100('.', { labels: 'course' as 'coarse' }))
    expect(error.message).toBe("loadCifar100: labels: expected 'fine' or 'coarse', got \"course\"")
  })
})
