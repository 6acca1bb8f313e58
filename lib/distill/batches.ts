import { isBatch, releaseBatch, type Batch } from '../data/dataset.js'
import { AlambicError, argumentError, show } from '../errors.js'
import { isPromise } from '../checks/realms.js'
import { checkFields, Module } from '../nn/module.js'
import { Tensor } from '../tensors/tensor.js'

/**
 * What training and evaluation read: a `data.DataLoader`, or any iterable of batches that can be iterated several
 * times. They dispose of the batches, except for those of an array: these belong to the caller, and come again in the
 * next epoch.
 */
export type Batches = (AsyncIterable<Batch> | Iterable<Batch>) & {
  /** Number of batches, if it is known: for progress. */
  readonly length?: number
}

/** @throws AlambicError `ERR_ARGUMENT` for anything but a module, saying what may have been meant */
export function checkModel(name: string, model: unknown): void {
  if (model instanceof Module) {
    checkFields(model as Module)
    return
  }
  if (isPromise(model))
    throw new AlambicError('ERR_ARGUMENT', `${name}: expected a module, got a promise: await it first`)
  if (typeof model === 'function')
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${name}: expected a module, got ${show(model)}: make one with new, or call the function that makes it`,
    )
  throw argumentError(name, 'a module', model)
}

/** @throws AlambicError `ERR_ARGUMENT` for anything but a loader, saying what may have been meant */
export function checkLoader(name: string, loader: unknown, { epochs = 1 } = {}): void {
  const expected = 'batches, such as those of a data.DataLoader'
  const refuse = (got: string, remedy: string) =>
    new AlambicError('ERR_ARGUMENT', `${name}: expected ${expected}, got ${got}: ${remedy}`)
  if (typeof loader !== 'object' || loader === null) throw argumentError(name, expected, loader)
  if (isPromise(loader)) throw refuse('a promise', 'await it first')
  const { next, batch } = loader as { next?: unknown; batch?: unknown }
  const isIterable = Symbol.asyncIterator in loader || Symbol.iterator in loader
  if (!isIterable && typeof batch === 'function')
    throw refuse('a data set', 'new data.DataLoader(dataset, { batchSize: 64 }) makes batches of it')
  if (isBatch(loader)) throw refuse('one batch', 'several are wanted, if only [batch]')
  if (!isIterable || loader instanceof Tensor) throw argumentError(name, expected, loader)
  if (typeof next === 'function' && epochs > 1)
    throw refuse(
      'a generator',
      `it can be run through once, and there are ${epochs} epochs; an object whose [Symbol.asyncIterator]() makes a ` +
        'new one, or an array, can be run through again',
    )
}

/** What is done with a batch of the loader when it was used. */
export function releaserOf(loader: Batches): (batch: Batch) => void {
  return Array.isArray(loader) ? () => undefined : releaseBatch
}

/** The batches of a loader, each looked at before it is used. */
export async function* batchesOf(name: string, loader: Batches): AsyncGenerator<Batch, void, undefined> {
  for await (const batch of loader) {
    if (!isBatch(batch)) throw argumentError(name, 'batches { data, labels } of two tensors', batch)
    yield batch
  }
}

/**
 * Asks for each batch as soon as the one before is handed out, so that a loader which waits for files, for a worker, or
 * for its turn does so while a step runs elsewhere.
 *
 * @param begun when the second may be asked for: as it would be if the first step began at once
 * @param release for a batch that nobody takes
 * @internal
 */
export function prefetch(
  loader: Batches,
  begun: Promise<void>,
  release: (batch: Batch) => void = releaseBatch,
): Batches {
  const batches = {
    async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, undefined> {
      const iterator =
        Symbol.asyncIterator in loader ? loader[Symbol.asyncIterator]() : loader[Symbol.iterator]()
      // A turn later: whoever has got a batch is to begin with it first.
      const ask = (after?: Promise<void>) => {
        const asked = (after ?? Promise.resolve()).then(nextTurn).then(() => iterator.next())
        asked.catch(() => undefined) // thrown where it is awaited, which may be a step later
        return asked
      }
      let next = ask()
      try {
        for (;;) {
          const result = await next
          if (result.done) return
          next = ask(begun)
          yield result.value
        }
      } finally {
        // Whoever stopped, perhaps for an error, doesn't wait for a batch that may come late or never.
        const ignore = () => undefined
        dropAhead(next, release).catch(ignore)
        Promise.resolve(iterator.return?.()).catch(ignore)
      }
    },
  }
  return loader.length === undefined ? batches : Object.assign(batches, { length: loader.length })
}

/** Nobody takes the batch any more that was asked for: neither its memory nor its error is anybody's. */
async function dropAhead(
  next: Promise<IteratorResult<Batch, unknown>>,
  release: (batch: Batch) => void,
): Promise<void> {
  const result = await next
  if (result.done) return
  release(result.value)
}

/** Lets timers, input and finalizers run. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
