import { join } from 'node:path'
import { CIFAR100_COARSE_CLASSES, CIFAR100_FINE_CLASSES, CIFAR10_CLASSES } from './class-names.js'
import {
  DEFAULT_MAX_BYTES,
  findFiles,
  formatError,
  namedFiles,
  readBytes,
  requireFolder,
} from '../io/files.js'
import { isGzip } from './gunzip.js'
import { ImageDataset } from './image-dataset.js'
import { checkLabels } from './labels.js'
import { listOf, oneOf, readOptions, text, type Kinds } from '../checks/options.js'
import { trainTestOptions, type SplitOptions } from './mnist.js'

export interface CifarOptions extends SplitOptions {
  /** Names of the files of the binary version, in `dir` or absolute, if they are not the published names. */
  files?: readonly string[]
}

export interface Cifar100Options extends CifarOptions {
  /** 100 classes, or the 20 superclasses. Default: `'fine'`. */
  labels?: 'fine' | 'coarse'
}

const cifarOptions: Kinds<CifarOptions> = { ...trainTestOptions, files: listOf(text, 'names of files') }

const cifar100Options: Kinds<Cifar100Options> = { ...cifarOptions, labels: oneOf('fine', 'coarse') }

/**
 * CIFAR-10: 50,000 and 10,000 pictures, 3×32×32, from the binary version's `data_batch_1.bin` … `data_batch_5.bin` and
 * `test_batch.bin`, in `dir` or in its `cifar-10-batches-bin`. Normalised by mean 0.4914, 0.4822, 0.4465 and std
 * 0.2470, 0.2435, 0.2616 by default; published weights may need others
 * (`models.preprocessingOf`).
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT`, `ERR_LABEL_RANGE`
 */
export async function loadCifar10(dir: string, options: CifarOptions = {}): Promise<ImageDataset> {
  const {
    train = true,
    mean = CIFAR10_NORMALISATION.mean,
    std = CIFAR10_NORMALISATION.std,
    augment,
    files: named,
  } = readOptions('loadCifar10', options, cifarOptions)
  requireFolder('loadCifar10: dir', dir)
  const files = await findCifar10(dir, train, named)
  const { pixels, labels } = await readRecords(files, [{ name: 'label', classes: 10 }])
  const shape = IMAGE_SHAPE
  return new ImageDataset({ pixels, labels: labels[0]!, shape, classes: CIFAR10_CLASSES, mean, std, augment })
}

/**
 * CIFAR-100: 50,000 and 10,000 pictures, 3×32×32, from the binary version's `train.bin` and `test.bin`, in `dir` or in
 * its `cifar-100-binary`. Normalised by mean 0.5071, 0.4865, 0.4409 and std 0.2673, 0.2564, 0.2762 by default;
 * published weights may need others (`models.preprocessingOf`).
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT`, `ERR_LABEL_RANGE`
 */
export async function loadCifar100(dir: string, options: Cifar100Options = {}): Promise<ImageDataset> {
  const {
    train = true,
    labels: kind = 'fine',
    mean = CIFAR100_NORMALISATION.mean,
    std = CIFAR100_NORMALISATION.std,
    augment,
    files: named,
  } = readOptions('loadCifar100', options, cifar100Options)
  requireFolder('loadCifar100: dir', dir)
  const files = await findCifar100(dir, train, named)
  const { pixels, labels } = await readRecords(files, [
    { name: 'coarse label', classes: 20 },
    { name: 'fine label', classes: 100 },
  ])
  const [coarse, fine] = labels
  const chosen = { labels: kind === 'fine' ? fine! : coarse!, classes: cifar100Classes(kind) }
  return new ImageDataset({ pixels, ...chosen, shape: IMAGE_SHAPE, mean, std, augment })
}

export function cifar100Classes(kind: 'fine' | 'coarse'): readonly string[] {
  return kind === 'fine' ? CIFAR100_FINE_CLASSES : CIFAR100_COARSE_CLASSES
}

const IMAGE_SHAPE = [3, 32, 32] as const
const IMAGE_BYTES = 3 * 32 * 32

export const CIFAR10_NORMALISATION = { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] } as const
export const CIFAR100_NORMALISATION = {
  mean: [0.5071, 0.4865, 0.4409],
  std: [0.2673, 0.2564, 0.2762],
} as const

/** @throws AlambicError `ERR_FILE_NOT_FOUND` */
export async function findCifar10(dir: string, train: boolean, named?: readonly string[]): Promise<string[]> {
  const names = train ? [1, 2, 3, 4, 5].map(batch => `data_batch_${batch}.bin`) : ['test_batch.bin']
  return named ? namedFiles(dir, named) : findCifar('CIFAR-10', dir, 'cifar-10-batches-bin', names)
}

/** @throws AlambicError `ERR_FILE_NOT_FOUND` */
export async function findCifar100(
  dir: string,
  train: boolean,
  named?: readonly string[],
): Promise<string[]> {
  const names = [train ? 'train.bin' : 'test.bin']
  return named ? namedFiles(dir, named) : findCifar('CIFAR-100', dir, 'cifar-100-binary', names)
}

function findCifar(what: string, dir: string, unpacked: string, names: readonly string[]): Promise<string[]> {
  return findFiles(
    `${what} (binary version)`,
    [dir, join(dir, unpacked)],
    names.map(name => [name]),
  )
}

/** One of the label bytes that every record begins with. */
interface LabelByte {
  name: string
  classes: number
}

/** Joins files of records, each some label bytes and one image `(3, 32, 32)`. */
async function readRecords(
  files: readonly string[],
  labelBytes: readonly LabelByte[],
): Promise<{ pixels: Uint8Array; labels: Uint8Array[] }> {
  const recordBytes = labelBytes.length + IMAGE_BYTES
  const contents: Buffer[] = []
  for (const file of files) {
    const bytes = await readBytes(file, DEFAULT_MAX_BYTES)
    checkRecords(bytes, recordBytes, file)
    contents.push(bytes)
  }

  const count = contents.reduce((sum, bytes) => sum + bytes.length / recordBytes, 0)
  const pixels = new Uint8Array(count * IMAGE_BYTES)
  const labels = labelBytes.map(() => new Uint8Array(count))
  let image = 0
  for (const [file, bytes] of contents.entries()) {
    const first = image
    for (let start = 0; start < bytes.length; start += recordBytes, image++) {
      labels.forEach((each, position) => (each[image] = bytes[start + position]!))
      pixels.set(bytes.subarray(start + labelBytes.length, start + recordBytes), image * IMAGE_BYTES)
    }
    labels.forEach((each, position) => {
      const { name, classes } = labelBytes[position]!
      checkLabels(
        each.subarray(first, image),
        classes,
        record => `${files[file]}: ${name} of record ${record} at byte ${record * recordBytes + position}`,
        'check that this file belongs to this data set and is not damaged',
      )
    })
  }
  return { pixels, labels }
}

function checkRecords(bytes: Uint8Array, recordBytes: number, file: string): void {
  const remainder = bytes.length % recordBytes
  if (bytes.length > 0 && remainder === 0) return
  const packed = isGzip(bytes)
  throw formatError(file, {
    offset: bytes.length - remainder,
    expected: `whole records of ${recordBytes} bytes`,
    found: packed ? 'gzip data' : `${bytes.length} bytes, ${remainder} after the last whole record`,
    remedy: packed ? 'unpack it first' : 'get the file again: it was cut short or is of another data set',
  })
}
