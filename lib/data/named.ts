/** The data sets of this package by name, with options as a file writes them. */
import {
  described,
  integer,
  listOf,
  number,
  oneOf,
  positive,
  readOptions,
  requireKind,
  text,
  type Kind,
} from '../checks/options.js'
import type { OptionKinds } from '../checks/registry.js'
import { argumentError } from '../errors.js'
import { requireFiles } from '../io/files.js'
import {
  cifar100Classes,
  CIFAR100_NORMALISATION,
  CIFAR10_NORMALISATION,
  findCifar10,
  findCifar100,
  loadCifar10,
  loadCifar100,
  type Cifar100Options,
} from './cifar.js'
import { CIFAR10_CLASSES, FASHION_MNIST_CLASSES, MNIST_CLASSES } from './class-names.js'
import type { ImageOptions } from './image-dataset.js'
import {
  FASHION_MNIST_NORMALISATION,
  findMnist,
  loadFashionMnist,
  loadMnist,
  MNIST_NORMALISATION,
  type MnistOptions,
} from './mnist.js'
import type { Augmentation } from './pixels.js'
import { figureNames, PROCEDURAL_NORMALISATION, proceduralImages } from './procedural.js'
import { registry, type Split } from './registry.js'

/** A step of augmentation, as a file writes it. */
type AugmentStep = 'flip' | { crop: number } | { views: number }

function isStep(value: unknown): value is AugmentStep {
  if (value === 'flip') return true
  if (typeof value !== 'object' || value === null) return false
  const entries = Object.entries(value)
  const [name, number] = entries[0] ?? []
  return entries.length === 1 && ['crop', 'views'].includes(name ?? '') && integer(1).fits(number)
}

const augmentSteps: Kind = described(
  {
    expected: "a list of 'flip', { crop: pixels } and { views: number }",
    fits: value => Array.isArray(value) && value.every(isStep),
    schema: {
      type: 'array',
      items: {
        anyOf: [
          { const: 'flip', description: 'Mirror left and right with probability 1/2.' },
          {
            type: 'object',
            description: 'Add a black border of so many pixels, and crop at a random place.',
            properties: { crop: { type: 'integer', minimum: 1 } },
            required: ['crop'],
            additionalProperties: false,
          },
          {
            type: 'object',
            description: 'Each picture has so many views, which come again: teachers can be cached.',
            properties: { views: { type: 'integer', minimum: 1 } },
            required: ['views'],
            additionalProperties: false,
          },
        ],
      },
    },
  },
  'Random changes of the pictures in training.',
  { default: [] },
)

function augmentation(steps: readonly AugmentStep[]): Augmentation {
  return Object.assign(
    {},
    ...steps.map(step => {
      if (step === 'flip') return { horizontalFlip: true }
      return 'crop' in step ? { cropPadding: step.crop } : { views: step.views }
    }),
  ) as Augmentation
}

interface Normalisation {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

function imageKinds({ mean, std }: Normalisation): OptionKinds {
  return {
    mean: described(listOf(number, 'numbers'), 'Subtracted from each channel, in the unit 0 to 1.', {
      default: mean,
    }),
    std: described(listOf(positive, 'numbers above 0'), 'What each channel is divided by after that.', {
      default: std,
    }),
    augment: augmentSteps,
  }
}

const folder: Kind = described({ ...text, expected: 'the path of a folder' }, 'The folder of its files.', {
  isRequired: true,
  isPath: true,
})

/** Of the loaders; pictures of the test are left as they are. */
function imageOptions(
  { augment, mean, std }: Record<string, unknown>,
  split: Split,
): ImageOptions & { train: boolean } {
  if (augment !== undefined) requireKind('augment', augmentSteps, augment)
  return {
    mean: mean as number[] | undefined,
    std: std as number[] | undefined,
    augment: split === 'train' && augment !== undefined ? augmentation(augment as AugmentStep[]) : {},
    train: split === 'train',
  }
}

/** Of a set whose shape and normalisation are known. */
function factsOf(
  inputShape: readonly number[],
  classes: readonly string[],
  normalisation: Normalisation,
  length: number,
) {
  return ({ mean = normalisation.mean, std = normalisation.std, files }: Record<string, unknown>) => ({
    inputShape,
    classes,
    mean: mean as readonly number[],
    std: std as readonly number[],
    // Other files may hold any number of pictures.
    ...(files === undefined && { length }),
  })
}

const cifarFiles: Kind = described(
  {
    expected: '{ train, test }: lists of names of files',
    fits: value =>
      typeof value === 'object' &&
      value !== null &&
      Object.entries(value).every(
        ([split, names]) => ['train', 'test'].includes(split) && listOf(text, '').fits(names),
      ),
    schema: {
      type: 'object',
      properties: {
        train: { type: 'array', items: { type: 'string' } },
        test: { type: 'array', items: { type: 'string' } },
      },
      additionalProperties: false,
    },
  },
  'Names of files of the binary version in `dir`, if they are not the published names.',
)

type SplitFiles<T> = Partial<Record<Split, T>> | undefined

const cifar10: OptionKinds = { dir: folder, files: cifarFiles, ...imageKinds(CIFAR10_NORMALISATION) }

registry.add('cifar10', {
  description: 'CIFAR-10: 50,000 and 10,000 pictures 3×32×32 of 10 classes.',
  options: cifar10,
  facts: factsOf([3, 32, 32], CIFAR10_CLASSES, CIFAR10_NORMALISATION, 50_000),
  async checkFiles({ dir, files }, { split }) {
    await requireFiles(
      await findCifar10(dir as string, split === 'train', (files as SplitFiles<string[]>)?.[split]),
    )
  },
  make(options, { split }) {
    const { dir, files, ...images } = readOptions('cifar10', options, cifar10)
    const named = (files as SplitFiles<string[]>)?.[split]
    return loadCifar10(dir as string, { ...imageOptions(images, split), files: named })
  },
})

const cifar100: OptionKinds = {
  dir: folder,
  files: cifarFiles,
  labels: described(oneOf('fine', 'coarse'), '100 classes, or the 20 superclasses.', { default: 'fine' }),
  ...imageKinds(CIFAR100_NORMALISATION),
}

registry.add('cifar100', {
  description: 'CIFAR-100: 50,000 and 10,000 pictures 3×32×32 of 100 classes.',
  options: cifar100,
  facts: options =>
    factsOf(
      [3, 32, 32],
      cifar100Classes(options['labels'] === 'coarse' ? 'coarse' : 'fine'),
      CIFAR100_NORMALISATION,
      50_000,
    )(options),
  async checkFiles({ dir, files }, { split }) {
    await requireFiles(
      await findCifar100(dir as string, split === 'train', (files as SplitFiles<string[]>)?.[split]),
    )
  },
  make(options, { split }) {
    const { dir, files, labels, ...images } = readOptions('cifar100', options, cifar100)
    return loadCifar100(dir as string, {
      ...imageOptions(images, split),
      labels: labels as Cifar100Options['labels'],
      files: (files as SplitFiles<string[]>)?.[split],
    })
  },
})

const pairOfFiles = {
  type: 'object',
  properties: { images: { type: 'string' }, labels: { type: 'string' } },
  required: ['images', 'labels'],
  additionalProperties: false,
}

function isPairOfFiles(value: unknown): boolean {
  const { images, labels } = (value ?? {}) as Record<string, unknown>
  return text.fits(images) && text.fits(labels)
}

const mnistFiles: Kind = described(
  {
    expected: '{ train, test }, each { images, labels }: names of files',
    fits: value =>
      typeof value === 'object' &&
      value !== null &&
      Object.entries(value).every(
        ([split, names]) => ['train', 'test'].includes(split) && isPairOfFiles(names),
      ),
    schema: {
      type: 'object',
      properties: { train: pairOfFiles, test: pairOfFiles },
      additionalProperties: false,
    },
  },
  'Names of idx files in `dir`, if they are not the published names.',
)

function addMnist(
  name: string,
  folderName: 'MNIST' | 'FashionMNIST',
  description: string,
  load: typeof loadMnist,
  classes: readonly string[],
  normalisation: Normalisation,
): void {
  const options: OptionKinds = { dir: folder, files: mnistFiles, ...imageKinds(normalisation) }
  registry.add(name, {
    description,
    options,
    facts: factsOf([1, 28, 28], classes, normalisation, 60_000),
    async checkFiles({ dir, files }, { split }) {
      const named = (files as SplitFiles<MnistOptions['files']>)?.[split]
      await requireFiles(await findMnist(folderName, dir as string, split === 'train', named))
    },
    make(given, { split }) {
      const { dir, files, ...images } = readOptions(name, given, options)
      const named = (files as SplitFiles<MnistOptions['files']>)?.[split]
      return load(dir as string, { ...imageOptions(images, split), files: named })
    },
  })
}

addMnist(
  'mnist',
  'MNIST',
  'MNIST: 60,000 and 10,000 handwritten digits 1×28×28.',
  loadMnist,
  MNIST_CLASSES,
  MNIST_NORMALISATION,
)
addMnist(
  'fashionMnist',
  'FashionMNIST',
  'Fashion-MNIST: 60,000 and 10,000 pictures 1×28×28 of clothes, 10 classes.',
  loadFashionMnist,
  FASHION_MNIST_CLASSES,
  FASHION_MNIST_NORMALISATION,
)

const procedural: OptionKinds = {
  count: described(integer(1, 2 ** 31 - 1), 'Number of pictures for training.', { isRequired: true }),
  testCount: described(integer(0, 2 ** 31 - 1), 'Number of pictures for the test. 0: no test.', {
    default: 1000,
  }),
  seed: described(
    integer(0, Number.MAX_SAFE_INTEGER - 1),
    'Of the pictures for training; those of the test have the next one.',
    { default: 1 },
  ),
  size: described(integer(8, 512), 'Height and width.', { default: 32 }),
  classes: described(integer(2, figureNames.length), 'Number of classes.', { default: figureNames.length }),
  ...imageKinds(PROCEDURAL_NORMALISATION),
}

registry.add('procedural', {
  description: 'Pictures of ten figures, 3×32×32, generated from a seed: no files are needed.',
  options: procedural,
  facts: ({ count, size = 32, classes = figureNames.length, ...images }) =>
    factsOf(
      [3, size as number, size as number],
      figureNames.slice(0, classes as number),
      PROCEDURAL_NORMALISATION,
      count as number,
    )(images),
  make(options, { split }) {
    const {
      count,
      testCount = 1000,
      seed = 1,
      size,
      classes,
      ...images
    } = readOptions('procedural', options, procedural)
    if (count === undefined) throw argumentError('procedural: count', procedural['count']!.expected, count)
    const isTrain = split === 'train'
    if (!isTrain && testCount === 0) return null
    const { mean, std, augment } = imageOptions(images, split)
    return proceduralImages({
      count: (isTrain ? count : testCount) as number,
      seed: (seed as number) + (isTrain ? 0 : 1),
      size: size as number | undefined,
      classes: classes as number | undefined,
      mean,
      std,
      augment,
    })
  },
})
