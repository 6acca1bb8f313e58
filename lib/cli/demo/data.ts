import { join } from 'node:path'
import {
  loadCifar10,
  loadFashionMnist,
  loadMnist,
  proceduralImages,
  randomSplit,
  type Dataset,
} from '../../data/index.js'
import { AlambicError } from '../../errors.js'

/** The data sets of the demo. */
export const dataNames = ['procedural', 'fashion-mnist', 'mnist', 'cifar10'] as const
export type DataName = (typeof dataNames)[number]

export interface DemoData {
  train: Dataset
  validation: Dataset
  /** Channels of the images. */
  channels: number
  classes: number
}

export interface DataChoice {
  name: DataName
  /** Folder of the files; not needed for procedural images. */
  directory?: string
  /** Use only so many training images. */
  trainSize?: number
  seed: number
}

/** Sizes of the procedural sets: seconds per epoch on two cores, and accuracies known to about a point. */
const proceduralSizes = { train: 6000, validation: 2000 }

/** @throws AlambicError `ERR_ARGUMENT` without a folder, and the readers' errors */
export async function loadDemoData(choice: DataChoice): Promise<DemoData> {
  const whole =
    choice.name === 'procedural'
      ? makeProcedural(choice.seed)
      : await loadFiles(choice.name, choice.directory)
  return { ...whole, train: limit(whole.train, choice) }
}

function makeProcedural(seed: number): DemoData {
  return {
    train: proceduralImages({ count: proceduralSizes.train, seed: 2 * seed }),
    validation: proceduralImages({ count: proceduralSizes.validation, seed: 2 * seed + 1 }),
    channels: 3,
    classes: 10,
  }
}

async function loadFiles(
  name: Exclude<DataName, 'procedural'>,
  directory: string | undefined,
): Promise<DemoData> {
  if (directory === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `--data ${name} needs --data-dir DIR, the folder that holds its files (for example ${join('data', name)})`,
    )
  const load = { mnist: loadMnist, 'fashion-mnist': loadFashionMnist, cifar10: loadCifar10 }[name]
  const [train, validation] = [
    await load(directory, { train: true }),
    await load(directory, { train: false }),
  ]
  return { train, validation, channels: name === 'cifar10' ? 3 : 1, classes: 10 }
}

function limit(train: Dataset, { trainSize, seed }: DataChoice): Dataset {
  if (trainSize === undefined || trainSize >= train.length) return train
  return randomSplit(train, [trainSize, train.length - trainSize], { seed })[0]!
}
