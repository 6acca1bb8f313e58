import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { AlambicError, show } from '../errors.js'
import { DividedScope, scope } from '../memory/memory.js'
import {
  boolean,
  callback,
  device,
  integer,
  readOptions,
  requireKind,
  type Kinds,
} from '../checks/options.js'
import { isPromise } from '../checks/realms.js'
import { fromTypedArray } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import {
  batchOn,
  dataSet,
  isBatch,
  releaseBatch,
  type Batch,
  type Dataset,
  type SampleView,
} from './dataset.js'
import { permutation, Random } from './random.js'

export interface DataLoaderOptions {
  /** Samples in a batch. Default: 1, as in PyTorch. */
  batchSize?: number
  /** A new order each epoch. Default: false. */
  shuffle?: boolean
  /** Seed for the orders and the augmentation: 0 to 2^53 − 1. Default: 0. */
  seed?: number
  /** Leave out a last batch that is not full. Default: false. */
  dropLast?: boolean
  /** Give each batch the samples' positions in the dataset, as `indices`. Default: false. */
  indices?: boolean
  /** Where batches go. Default: where the dataset makes them. */
  device?: Device
  /**
   * Changes each batch, as the last step, on its device; {@link mixUp} is one. It is given random numbers that depend on
   * the seed, the epoch and the batch. Tensors that it makes and does not return are released, and so
   * are the batch's tensors that it does not return. With `for await`, and so in training, it may be asynchronous: then
   * it has to release tensors that it makes after its first `await`.
   */
  transform?: (batch: Batch, random: Random) => Batch | Promise<Batch>
}

const loaderOptions: Kinds<DataLoaderOptions> = {
  batchSize: integer(1),
  shuffle: boolean,
  seed: integer(0, Number.MAX_SAFE_INTEGER),
  dropLast: boolean,
  indices: boolean,
  device,
  transform: callback,
}

/**
 * Batches of a dataset, one epoch for each iteration, as `torch.utils.data.DataLoader`. A batch is made when your code
 * asks for it, and your code disposes of its tensors. When a loop ends early, no other batch is left.
 *
 * Both kinds of loop work. `for await` lets the event loop run before each batch, so timers, sockets and finalizers
 * work during training; plain `for` does not.
 *
 * The order of epoch k is a permutation that depends only on the length, the seed and k, not on libtorch's generator.
 *
 * @example for await (const { data, labels } of new DataLoader(dataset, { batchSize: 64, shuffle: true })) …
 */
export class DataLoader<D extends Dataset = Dataset> implements Iterable<Batch>, AsyncIterable<Batch> {
  readonly batchSize: number
  readonly shuffle: boolean
  readonly seed: number
  readonly dropLast: boolean
  readonly indices: boolean
  readonly device: Device | undefined
  #epoch = 0
  #firstBatch = 0
  readonly #transform: DataLoaderOptions['transform']

  /** @throws AlambicError `ERR_ARGUMENT` for options out of range, and for something that is not a dataset */
  constructor(
    readonly dataset: D,
    options: DataLoaderOptions = {},
  ) {
    const {
      batchSize = 1,
      shuffle = false,
      seed = 0,
      dropLast = false,
      indices = false,
      device,
      transform,
    } = readOptions('DataLoader', options, loaderOptions)
    requireKind('DataLoader: dataset', dataSet, dataset)
    checkLength(dataset.length)
    this.batchSize = batchSize
    this.shuffle = shuffle
    this.seed = seed
    this.dropLast = dropLast
    this.indices = indices
    this.device = device
    this.#transform = transform
  }

  /**
   * Number of the next epoch, from 0. Set it to repeat an epoch, or to resume an earlier run.
   *
   * @throws AlambicError `ERR_ARGUMENT` for anything but an integer of at least 0
   */
  get epoch(): number {
    return this.#epoch
  }

  set epoch(epoch: number) {
    requireKind('DataLoader: epoch', epochNumber, epoch)
    this.#epoch = epoch
  }

  /**
   * Number of the batch, from 0, that the next iteration begins with; the one after begins with 0 again. Set it to resume
   * an earlier run within an epoch.
   *
   * @throws AlambicError `ERR_ARGUMENT` for anything but an integer of at least 0
   */
  get firstBatch(): number {
    return this.#firstBatch
  }

  set firstBatch(batch: number) {
    requireKind('DataLoader: firstBatch', epochNumber, batch)
    this.#firstBatch = batch
  }

  /** Number of batches in an epoch. */
  get length(): number {
    const batches = checkLength(this.dataset.length) / this.batchSize
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches)
  }

  /** The sample numbers of an epoch, in order. */
  order(epoch: number): Int32Array {
    const length = checkLength(this.dataset.length)
    return this.shuffle
      ? permutation(length, this.seed, epoch)
      : Int32Array.from({ length }, (_, index) => index)
  }

  *[Symbol.iterator](): Generator<Batch, void, undefined> {
    const { epoch, first, order, length } = this.#begin()
    for (let number = first; number < length; number++) {
      const made = this.#make(order, epoch, number)
      refuseLater(made, 'batch() of the data set')
      yield this.#withIndices(
        this.#finishNow(checkBatch('batch() of the data set', made), epoch, number),
        order,
        number,
      )
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, undefined> {
    const { epoch, first, order, length } = this.#begin()
    for (let number = first; number < length; number++) {
      await setImmediate()
      const made: unknown = await this.#make(order, epoch, number)
      yield this.#withIndices(
        await this.#finish(checkBatch('batch() of the data set', made), epoch, number),
        order,
        number,
      )
    }
  }

  toString(): string {
    const parts = [String(this.dataset), `batchSize ${this.batchSize}`]
    if (this.shuffle) parts.push(`shuffle, seed ${this.seed}`)
    if (this.dropLast) parts.push('dropLast')
    if (this.device !== undefined) parts.push(`device ${this.device}`)
    return `DataLoader(${parts.join(', ')})`
  }

  [inspect.custom](): string {
    return this.toString()
  }

  /** An epoch, from the batch where it is to begin. */
  #begin(): { epoch: number; first: number; order: Int32Array; length: number } {
    const epoch = this.#epoch++
    const first = this.#firstBatch
    this.#firstBatch = 0
    return { epoch, first, order: this.order(epoch), length: this.length }
  }

  #make(order: Int32Array, epoch: number, number: number): unknown {
    return this.dataset.batch(
      this.#indicesOf(order, number),
      new Random(this.seed, epoch, number),
      viewInEpoch(this.dataset, this.seed, epoch),
    )
  }

  #indicesOf(order: Int32Array, number: number): Int32Array {
    const start = number * this.batchSize
    return order.subarray(start, start + this.batchSize)
  }

  #withIndices(batch: Batch, order: Int32Array, number: number): Batch {
    if (!this.indices) return batch
    const indices = BigInt64Array.from(this.#indicesOf(order, number), BigInt)
    return { ...batch, indices: fromTypedArray(indices, [indices.length], { device: this.device ?? 'cpu' }) }
  }

  /** What has been made goes to its device and through the transform, which may take its time. */
  async #finish(made: Batch, epoch: number, number: number): Promise<Batch> {
    if (this.device === undefined && this.#transform === undefined) return made
    const whole = new DividedScope()
    let finished: Batch | undefined
    try {
      const { changed } = whole.run(() => ({ changed: this.#change(made, epoch, number) }))
      finished = checkBatch('transform', await changed)
      return finished
    } finally {
      whole.close(finished)
      releaseBatch(made, finished)
    }
  }

  #finishNow(made: Batch, epoch: number, number: number): Batch {
    if (this.device === undefined && this.#transform === undefined) return made
    let finished: Batch | undefined
    try {
      finished = scope(() => {
        const changed: unknown = this.#change(made, epoch, number)
        refuseLater(changed, 'transform')
        return checkBatch('transform', changed)
      })
      return finished
    } finally {
      releaseBatch(made, finished)
    }
  }

  #change(made: Batch, epoch: number, number: number): Batch | Promise<Batch> {
    const placed = this.device === undefined ? made : batchOn(made, this.device)
    if (this.#transform === undefined) return placed
    // Other numbers than the augmentation's.
    return this.#transform(placed, new Random(this.seed, epoch, number, 1))
  }
}

/**
 * The view in which the samples of a data set are seen in an epoch; undefined where it promises none.
 *
 * @throws AlambicError `ERR_ARGUMENT` for `views` that are no integer of at least 1
 */
export function viewInEpoch({ views }: Dataset, seed: number, epoch: number): SampleView | undefined {
  if (views === undefined) return undefined
  requireKind('DataLoader: views of the data set', viewCount, views)
  return { number: epoch % views, seed }
}

const viewCount = integer(1)

const epochNumber = integer(0, Number.MAX_SAFE_INTEGER)

/** Samples are numbered in an Int32Array. */
const sampleCount = integer(0, 2 ** 31 - 1)

function checkLength(length: unknown): number {
  requireKind('DataLoader: length of the data set', sampleCount, length)
  return length as number
}

/**
 * What comes from functions of the user's.
 *
 * @throws AlambicError `ERR_ARGUMENT` for what is no batch
 */
export function checkBatch(what: string, value: unknown): Batch {
  if (isBatch(value)) return value
  const isObject = typeof value === 'object' && value !== null && ('data' in value || 'labels' in value)
  const parts = (value ?? {}) as Partial<Record<keyof Batch, unknown>>
  const shown = (['data', 'labels', 'indices', 'targets', 'taught'] as const)
    .filter((name, i) => i < 2 || parts[name] !== undefined)
    .map(name => `${name}: ${show(parts[name])}`)
  const got = isObject ? `{ ${shown.join(', ')} }` : show(value)
  throw new AlambicError(
    'ERR_ARGUMENT',
    `DataLoader: expected ${what} to return a batch { data, labels } of two tensors, got ${got}`,
  )
}

function refuseLater(value: unknown, what: string): void {
  if (!isPromise(value)) return
  // Nobody waits for what was begun.
  Promise.resolve(value).catch(() => undefined)
  throw new AlambicError(
    'ERR_ASYNC_CALLBACK',
    `DataLoader: ${what} returns a promise, which a plain \`for\` does not wait for; use \`for await\``,
  )
}
