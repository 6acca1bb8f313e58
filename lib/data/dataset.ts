import { AlambicError, argumentError, show } from '../errors.js'
import {
  integer,
  listOf,
  number,
  readOptions,
  requireKind,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { isList, requireMemory, typedArrayName } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import { permutation, type Random } from './random.js'

/** Samples as a network takes them. The code that asks for a batch has to dispose of its tensors. */
export interface Batch {
  /** `(N, C, H, W)` for images, float32. */
  data: Tensor
  /** `(N)`, int64. */
  labels: Tensor
  /** `(N)`, int64: positions in the dataset, if they are known. For losses that remember each sample. */
  indices?: Tensor | undefined
  /** `(N, classes)`, floating point: soft labels of mixed pictures, see {@link mixUp}. Each row has the sum 1. */
  targets?: Tensor | undefined
  /** What teachers give for these samples, by their names: with it they do not run. */
  taught?: Readonly<Record<string, Taught>> | undefined
}

/** What a teacher gives for the samples of a batch, as far as a training takes it. */
export interface Taught {
  /** `(N, classes)` */
  output: Tensor
  /** `(N, …)`, by the layer's path. */
  features: Readonly<Record<string, Tensor>>
  /** `(N, D)`: what the classifier is given. */
  embedding?: Tensor | undefined
}

/** Whether it has all the tensors of a batch, and nothing else in the place of one. */
export function isBatch(value: unknown): value is Batch {
  const { data, labels, indices, targets, taught } = (value ?? {}) as Partial<Record<keyof Batch, unknown>>
  return (
    data instanceof Tensor &&
    labels instanceof Tensor &&
    [indices, targets].every(isTensorOrAbsent) &&
    (taught === undefined || (isObject(taught) && Object.values(taught).every(isTaught)))
  )
}

function isTaught(value: unknown): value is Taught {
  if (!isObject(value)) return false
  const { output, features, embedding } = value as Partial<Record<keyof Taught, unknown>>
  return (
    output instanceof Tensor &&
    isObject(features) &&
    Object.values(features).every(each => each instanceof Tensor) &&
    isTensorOrAbsent(embedding)
  )
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function isTensorOrAbsent(value: unknown): boolean {
  return value === undefined || value instanceof Tensor
}

/** All tensors of a batch. */
export function tensorsOfBatch({ data, labels, indices, targets, taught = {} }: Batch): Tensor[] {
  const ofTeachers = Object.values(taught).flatMap(({ output, features, embedding }) => [
    output,
    ...Object.values(features),
    embedding,
  ])
  return [data, labels, indices, targets, ...ofTeachers].filter(each => each !== undefined)
}

/** A batch on a device; what is there already is not copied. */
export function batchOn({ data, labels, indices, targets, taught }: Batch, device: Device): Batch {
  return {
    data: data.to(device),
    labels: labels.to(device),
    indices: indices?.to(device),
    targets: targets?.to(device),
    ...(taught !== undefined && { taught: mapped(taught, each => taughtOn(each, device)) }),
  }
}

function taughtOn({ output, features, embedding }: Taught, device: Device): Taught {
  return {
    output: output.to(device),
    features: mapped(features, each => each.to(device)),
    embedding: embedding?.to(device),
  }
}

function mapped<T>(record: Readonly<Record<string, T>>, change: (value: T) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]))
}

/** Disposes of a batch, but for tensors that belong to another one too. */
export function releaseBatch(batch: Batch, kept?: Batch): void {
  const others = kept === undefined ? [] : tensorsOfBatch(kept)
  for (const each of tensorsOfBatch(batch)) if (!others.includes(each)) each.dispose()
}

/** Which of its views each sample of a batch is given in. */
export interface SampleView {
  /** From 0 to the data set's `views − 1`. */
  readonly number: number
  /** Of the loader: other seeds give other views. */
  readonly seed: number
}

/** Samples by number. Any object with these members is a dataset; it does not have to extend a class of Alambic. */
export interface Dataset {
  /** Number of samples. */
  readonly length: number
  /** Names of the classes in the order of their labels, if they are known. */
  readonly classes?: readonly string[]
  /**
   * A promise: each sample has this many views, which come again and again, an epoch each, and depend on nothing but the
   * sample, the number of the view and the seed; not on the other samples of a batch. 1: it is always the same. What was
   * computed of a view can then be used again. Default: no such promise.
   */
  readonly views?: number | undefined
  /**
   * The samples at these indices, as new tensors. Called for one batch at a time, when it is needed.
   *
   * @param random Source of random numbers for augmentation; a {@link DataLoader} passes one that depends on its seed,
   *   the epoch and the batch. Without it samples are not augmented.
   * @param view Passed where the data set has `views`; with it the augmentation is that of the view.
   */
  batch(indices: readonly number[] | Int32Array, random?: Random, view?: SampleView): Batch
  /** How a loader names its dataset when it is printed. */
  toString(): string
}

export const dataSet: Kind = {
  expected: 'a data set: an object with length and batch(indices)',
  fits: value => {
    const { batch, length } = value as Partial<Dataset>
    return typeof batch === 'function' && typeof length === 'number'
  },
}

/** Some samples of a dataset, in the order of `indices`. */
export class Subset<D extends Dataset = Dataset> implements Dataset {
  readonly indices: Int32Array

  /** @throws AlambicError `ERR_INDEX` for an index that the dataset does not have */
  constructor(
    readonly dataset: D,
    indices: readonly number[] | Int32Array,
  ) {
    requireKind('Subset: dataset', dataSet, dataset)
    checkIndices('Subset', indices, dataset.length)
    this.indices = Int32Array.from(indices)
  }

  get length(): number {
    return this.indices.length
  }

  get classes(): readonly string[] | undefined {
    return this.dataset.classes
  }

  get views(): number | undefined {
    return this.dataset.views
  }

  batch(indices: readonly number[] | Int32Array, random?: Random, view?: SampleView): Batch {
    checkIndices('Subset.batch', indices, this.length)
    return this.dataset.batch(
      Int32Array.from(indices, index => this.indices[index]!),
      random,
      view,
    )
  }

  toString(): string {
    return `Subset(${this.length} of ${String(this.dataset)})`
  }
}

const numbers = listOf(number, 'an array of numbers')

/** What deals out at random takes. */
export const splitOptions: Kinds<{ seed?: number }> = { seed: integer(0, Number.MAX_SAFE_INTEGER) }

/**
 * Divides a dataset at random, as `torch.utils.data.random_split`: for training and validation parts of one set.
 *
 * @param parts Sizes that add up to the dataset's, or fractions that add up to 1; samples that rounding leaves over go
 *   to the first parts, one each.
 * @param options.seed Default: 0.
 * @throws AlambicError `ERR_ARGUMENT` when they do not add up
 * @example const [train, validation] = randomSplit(dataset, [0.9, 0.1])
 */
export function randomSplit<D extends Dataset>(
  dataset: D,
  parts: readonly number[],
  options: { seed?: number } = {},
): Subset<D>[] {
  const { seed = 0 } = readOptions('randomSplit', options, splitOptions)
  requireKind('randomSplit: dataset', dataSet, dataset)
  return splitIndices(dataset.length, parts, seed).map(indices => new Subset(dataset, indices))
}

/** The indices 0 to `length − 1` dealt out at random; see {@link randomSplit}. */
export function splitIndices(length: number, parts: readonly number[], seed: number): Int32Array[] {
  const sizes = partSizes(length, parts)
  const order = permutation(length, seed)
  let start = 0
  return sizes.map(size => order.slice(start, (start += size)))
}

function partSizes(length: number, parts: readonly number[]): number[] {
  requireKind('parts', numbers, parts)
  const sum = parts.reduce((total, part) => total + part, 0)
  const negative = parts.some(part => !(part >= 0))
  if (!negative && sum === length && parts.every(Number.isInteger)) return [...parts]
  if (negative || Math.abs(sum - 1) > 1e-9) {
    throw argumentError('parts', `sizes that add up to ${length} or fractions that add up to 1`, parts)
  }
  const sizes = parts.map(part => Math.floor(part * length + 1e-9))
  const left = length - sizes.reduce((total, size) => total + size, 0)
  return sizes.map((size, index) => (index < left ? size + 1 : size))
}

/** A typed array will do; its elements are looked at one by one. */
const indexList: Kind = {
  expected: 'an array of indices',
  fits: isList,
}

/**
 * @throws AlambicError `ERR_INDEX` for the first index that is no integer from 0 to `length − 1`, `ERR_ARGUMENT` for what is
 *   no list
 */
export function checkIndices(what: string, indices: ArrayLike<number>, length: number): void {
  requireKind(`${what}: indices`, indexList, indices)
  if (typedArrayName(indices) !== undefined) requireMemory(indices as unknown as ArrayBufferView)
  for (let position = 0; position < indices.length; position++) {
    const index = indices[position]!
    if (Number.isInteger(index) && index >= 0 && index < length) continue
    throw new AlambicError(
      'ERR_INDEX',
      `${what}: expected indices from 0 to ${length - 1}, got ${show(index)} at position ${position}`,
    )
  }
}

/** A dataset as it is for evaluation: no random numbers reach its augmentation. */
export class Unaugmented implements Dataset {
  constructor(private readonly dataset: Dataset) {}

  get length(): number {
    return this.dataset.length
  }

  get classes(): readonly string[] | undefined {
    return this.dataset.classes
  }

  batch(indices: readonly number[] | Int32Array): Batch {
    return this.dataset.batch(indices)
  }

  toString(): string {
    return String(this.dataset)
  }
}
