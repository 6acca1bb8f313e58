import type { Batch } from '../data/dataset.js'

/**
 * What training and evaluation read: a `data.DataLoader`, or any iterable of batches that can be run through again.
 * They dispose of the batches.
 */
export type Batches = (AsyncIterable<Batch> | Iterable<Batch>) & {
  /** Number of batches, where it is known: for progress. */
  readonly length?: number
}

/**
 * Asks for each batch as soon as the one before is handed out, so that a loader which waits for files, for a worker, or
 * for its turn does so while a step runs elsewhere.
 *
 * @param begun when the second may be asked for: as it would be if the first step began at once
 * @internal
 */
export function prefetch(loader: Batches, begun: Promise<void>): Batches {
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
        dropAhead(next).catch(ignore)
        Promise.resolve(iterator.return?.()).catch(ignore)
      }
    },
  }
  return loader.length === undefined ? batches : Object.assign(batches, { length: loader.length })
}

/** Nobody takes the batch any more that was asked for: neither its memory nor its error is anybody's. */
async function dropAhead(next: Promise<IteratorResult<Batch, unknown>>): Promise<void> {
  const result = await next
  if (result.done) return
  result.value.data.dispose()
  result.value.labels.dispose()
}

/** Lets timers, input and finalizers run. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
