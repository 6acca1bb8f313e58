import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { loadFashionMnist, loadIdxImages, loadMnist } from '../lib/data/mnist.js'
import { failure, folderWith, idxBytes, someBytes } from './data.fixtures.js'

const images = (count: number) => idxBytes(0x08, [count, 4, 3], someBytes(count * 12))
const labels = (...values: number[]) => idxBytes(0x08, [values.length], values)

describe.each([
  ['loadMnist', loadMnist, 'MNIST', '9'],
  ['loadFashionMnist', loadFashionMnist, 'FashionMNIST', 'Ankle boot'],
] as const)('%s', (_, load, name, lastClass) => {
  it('reads training and test images with their labels', async () => {
    const folder = await folderWith({
      'train-images-idx3-ubyte': images(3),
      'train-labels-idx1-ubyte': labels(9, 0, 5),
      't10k-images-idx3-ubyte': images(2),
      't10k-labels-idx1-ubyte': labels(1, 2),
    })
    const train = await load(folder)
    expect(train.shape).toEqual([1, 4, 3])
    expect([...train.pixels]).toEqual([...someBytes(36)])
    expect([...train.labels]).toEqual([9, 0, 5])
    expect(train.classes?.[9]).toBe(lastClass)
    expect([...(await load(folder, { train: false })).labels]).toEqual([1, 2])
  })

  it.each([
    ['train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'],
    ['train-images.idx3-ubyte', 'train-labels.idx1-ubyte'],
    ['train-images.idx3-ubyte.gz', 'train-labels-idx1-ubyte'],
    [`${name}/raw/train-images-idx3-ubyte`, `${name}/raw/train-labels-idx1-ubyte.gz`],
  ])('finds %s and %s', async (imagesName, labelsName) => {
    const pack = (file: string, bytes: Buffer) => (file.endsWith('.gz') ? gzipSync(bytes) : bytes)
    const folder = await folderWith({
      [imagesName]: pack(imagesName, images(1)),
      [labelsName]: pack(labelsName, labels(4)),
    })
    expect((await load(folder)).length).toBe(1)
  })

  it('takes files with other names', async () => {
    const folder = await folderWith({ 'pictures.bin': images(2), 'classes.gz': gzipSync(labels(4, 5)) })
    const files = { images: 'pictures.bin', labels: join(folder, 'classes.gz') }
    expect([...(await load(folder, { files })).labels]).toEqual([4, 5])
    const error = await failure(() => load(folder, { files: { ...files, images: 'other.bin' } }))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect((await failure(() => load(folder, { files: { images: 'x' } as typeof files }))).code).toBe(
      'ERR_ARGUMENT',
    )
  })

  it('lists the files that are missing', async () => {
    const folder = await folderWith({ 'train-images-idx3-ubyte': images(1), 'notes.txt': Buffer.from('x') })
    const error = await failure(() => load(folder))
    expect(error.code).toBe('ERR_FILE_NOT_FOUND')
    expect(error.message).toContain(`${name}: expected train-labels-idx1-ubyte in ${folder}`)
    expect(error.message).toContain('found notes.txt, train-images-idx3-ubyte')
  })
})

describe('loadIdxImages', () => {
  async function load(imageBytes: Buffer, labelBytes: Buffer) {
    const folder = await folderWith({ images: imageBytes, labels: labelBytes })
    return loadIdxImages(join(folder, 'images'), join(folder, 'labels'), { classes: ['a', 'b', 'c'] })
  }

  it('refuses differing numbers of images and labels, naming both files', async () => {
    const error = await failure(() => load(images(3), labels(0, 1)))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(/labels: expected 3 labels, as many as .*images, found 2/)
  })

  it('refuses a label beyond the classes, with its byte', async () => {
    const error = await failure(() => load(images(3), labels(0, 2, 3)))
    expect(error.code).toBe('ERR_LABEL_RANGE')
    expect(error.message).toMatch(/labels: label 2 at byte 10: expected a label from 0 to 2, got 3/)
  })

  it('refuses swapped files', async () => {
    const error = await failure(() => load(labels(0, 1), images(2)))
    expect(error.code).toBe('ERR_FILE_FORMAT')
    expect(error.message).toMatch(
      /at byte 2: expected images: uint8 elements in 3 dimensions.*found uint8.*in 1/,
    )
  })

  it('refuses elements that are not bytes', async () => {
    const error = await failure(() => load(idxBytes(0x0c, [1, 1, 1], [0, 0, 0, 1]), labels(0)))
    expect(error.message).toMatch(/expected images: uint8 elements .* found int32/)
  })
})

const root = fileURLToPath(new URL('..', import.meta.url))
const realFolder = join(process.env.ALAMBIC_DATA ?? join(root, '../shared/data'), 'fashion-mnist')
const absent = !existsSync(realFolder)

describe.skipIf(absent)(`the real Fashion-MNIST${absent ? ` (skipped: no ${realFolder})` : ''}`, () => {
  it('has the published sizes, classes of equal size and the statistics that are subtracted', async () => {
    const train = await loadFashionMnist(realFolder)
    const test = await loadFashionMnist(realFolder, { train: false })
    expect([train.length, test.length]).toEqual([60_000, 10_000])
    expect(train.shape).toEqual([1, 28, 28])
    const counts = new Array<number>(10).fill(0)
    for (const label of train.labels) counts[label]!++
    expect(counts).toEqual(new Array(10).fill(6000))
    const { mean, std } = train.statistics()
    expect(mean[0]).toBeCloseTo(train.mean[0]!, 3)
    expect(std[0]).toBeCloseTo(train.std[0]!, 3)
  })
})
