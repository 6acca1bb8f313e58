import { join } from 'node:path'
import { AlambicError } from '../errors.js'
import { isUint8Array } from '../checks/realms.js'
import { FASHION_MNIST_CLASSES, MNIST_CLASSES } from './class-names.js'
import { displayName, findFiles, formatError, namedFiles, requireFolder, requirePath } from '../io/files.js'
import { idxOptions, readIdx, type IdxArray, type ReadIdxOptions } from './idx.js'
import { boolean, listOf, readOptions, requireKind, text, type Kind, type Kinds } from '../checks/options.js'
import { ImageDataset, imageOptions, type ImageOptions } from './image-dataset.js'
import { checkLabels } from './labels.js'

export interface SplitOptions extends ImageOptions {
  /** True for the training images, false for the test images. Default: true. */
  train?: boolean
}

export interface MnistOptions extends SplitOptions {
  /** Names of the idx files, in `dir` or absolute, if they are not the published names. */
  files?: { images: string; labels: string }
}

export const trainTestOptions: Kinds<SplitOptions> = { ...imageOptions, train: boolean }

export const MNIST_NORMALISATION = { mean: [0.1307], std: [0.3081] } as const
export const FASHION_MNIST_NORMALISATION = { mean: [0.286], std: [0.353] } as const

const twoFiles: Kind = {
  expected: '{ images, labels }, the names of two files',
  fits: value => {
    const { images, labels } = (value ?? {}) as { images?: unknown; labels?: unknown }
    return typeof images === 'string' && typeof labels === 'string'
  },
}

const fileNameOptions: Kinds<{ images: string; labels: string }> = { images: text, labels: text }

const mnistOptions: Kinds<MnistOptions> = { ...trainTestOptions, files: twoFiles }

/**
 * MNIST: 60,000 and 10,000 handwritten digits, 1×28×28, as idx files with or without `.gz`
 * (`train-images-idx3-ubyte`, `train-images.idx3-ubyte` …), in `dir` or in its `MNIST/raw`. Normalised by mean 0.1307
 * and std 0.3081 by default.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT`, `ERR_LABEL_RANGE`
 */
export async function loadMnist(dir: string, options: MnistOptions = {}): Promise<ImageDataset> {
  const {
    train = true,
    mean = MNIST_NORMALISATION.mean,
    std = MNIST_NORMALISATION.std,
    augment,
    files,
  } = readOptions('loadMnist', options, mnistOptions)
  requireFolder('loadMnist: dir', dir)
  return loadDirectory('MNIST', dir, train, files, { classes: MNIST_CLASSES, mean, std, augment })
}

/**
 * Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 1×28×28, in the same files as MNIST, in `dir` or in its
 * `FashionMNIST/raw`. Normalised by mean 0.2860 and std 0.3530 by default.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT`, `ERR_LABEL_RANGE`
 */
export async function loadFashionMnist(dir: string, options: MnistOptions = {}): Promise<ImageDataset> {
  const {
    train = true,
    mean = FASHION_MNIST_NORMALISATION.mean,
    std = FASHION_MNIST_NORMALISATION.std,
    augment,
    files,
  } = readOptions('loadFashionMnist', options, mnistOptions)
  requireFolder('loadFashionMnist: dir', dir)
  return loadDirectory('FashionMNIST', dir, train, files, {
    classes: FASHION_MNIST_CLASSES,
    mean,
    std,
    augment,
  })
}

export interface IdxImageOptions extends ImageOptions {
  /** Names of the classes; labels must be below their number. */
  classes: readonly string[]
}

const idxImageOptions: Kinds<IdxImageOptions & ReadIdxOptions> = {
  ...imageOptions,
  ...idxOptions,
  classes: listOf(text, 'names'),
}

/**
 * Grey images and their labels from any pair of idx files: uint8 `(N, H, W)` and uint8 `(N)`.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT`, `ERR_LABEL_RANGE`
 */
export async function loadIdxImages(
  imagesFile: string | URL,
  labelsFile: string | URL,
  options: IdxImageOptions & ReadIdxOptions,
): Promise<ImageDataset> {
  const { maxBytes, classes, mean, std, augment } = readOptions('loadIdxImages', options, idxImageOptions)
  requirePath('loadIdxImages: imagesFile', imagesFile)
  requirePath('loadIdxImages: labelsFile', labelsFile)
  requireKind('loadIdxImages: classes', idxImageOptions.classes, classes)
  const images = await readIdx(imagesFile, { maxBytes })
  const [count, height, width] = expectBytes(images, 3, 'images', displayName(imagesFile)).shape
  const labels = await readIdx(labelsFile, { maxBytes })
  const labelBytes = expectBytes(labels, 1, 'labels', displayName(labelsFile)).data
  if (labelBytes.length !== count) {
    throw new AlambicError(
      'ERR_FILE_FORMAT',
      `${displayName(labelsFile)}: expected ${count} labels, as many as there are images in ` +
        `${displayName(imagesFile)}, found ${labelBytes.length}; use two files of the same set`,
    )
  }
  checkLabels(
    labelBytes,
    classes.length,
    index => `${displayName(labelsFile)}: label ${index} at byte ${LABEL_HEADER_BYTES + index}`,
    'check that this file belongs to this data set',
  )
  const pixels = images.data as Uint8Array
  const shape = [1, height!, width!] as const
  return new ImageDataset({ pixels, labels: labelBytes, shape, classes, mean, std, augment })
}

const LABEL_HEADER_BYTES = 8

async function loadDirectory(
  name: 'MNIST' | 'FashionMNIST',
  dir: string,
  train: boolean,
  named: MnistOptions['files'],
  options: IdxImageOptions,
): Promise<ImageDataset> {
  const [images, labels] = await findMnist(name, dir, train, named)
  return loadIdxImages(images!, labels!, options)
}

/** The files of the images and of the labels. @throws AlambicError `ERR_FILE_NOT_FOUND` */
export async function findMnist(
  name: 'MNIST' | 'FashionMNIST',
  dir: string,
  train: boolean,
  named: MnistOptions['files'],
): Promise<string[]> {
  if (named !== undefined) {
    readOptions(`${name}: files`, named, fileNameOptions)
    return namedFiles(dir, [named.images, named.labels])
  }
  const part = train ? 'train' : 't10k'
  const wanted = [fileNames(part, 'images', 3), fileNames(part, 'labels', 1)]
  return findFiles(name, [dir, join(dir, name, 'raw')], wanted)
}

/** With a dash as published, or with a dot as archives on Windows were once made. */
function fileNames(part: string, content: string, dimensions: number): string[] {
  const plain = [`${part}-${content}-idx${dimensions}-ubyte`, `${part}-${content}.idx${dimensions}-ubyte`]
  return [...plain, ...plain.map(name => `${name}.gz`)]
}

function expectBytes(
  array: IdxArray,
  dimensions: number,
  content: string,
  file: string,
): { shape: number[]; data: Uint8Array } {
  const { type, shape, data } = array
  if (isUint8Array(data) && shape.length === dimensions) return { shape, data }
  throw formatError(file, {
    offset: 2,
    expected: `${content}: uint8 elements in ${dimensions} dimensions (08 0${dimensions})`,
    found: `${type} elements in ${shape.length}`,
    remedy: `check that this is the file with the ${content}`,
  })
}
