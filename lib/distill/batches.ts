import type { Batch } from '../data/dataset.js'

/**
 * What training and evaluation read: a `data.DataLoader`, or any iterable of batches that can be run through again.
 * They dispose of the batches.
 */
export type Batches = (AsyncIterable<Batch> | Iterable<Batch>) & {
  /** Number of batches, where it is known: for progress. */
  readonly length?: number
}

/** Lets timers, input and finalizers run. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

/** Asks for the next batch while the one before is worked with. */
export async function* readAhead(loader: Batches): AsyncGenerator<Batch, void, undefined> {
  const iterator: AsyncIterator<Batch> | Iterator<Batch> =
    Symbol.asyncIterator in loader ? loader[Symbol.asyncIterator]() : loader[Symbol.iterator]()
  // A turn later: whoever has got a batch is to begin with it first.
  const ask = () => {
    const next = nextTurn().then(() => iterator.next())
    next.catch(() => {}) // reported when it is asked for
    return next
  }
  let next = ask()
  try {
    for (let result = await next; result.done !== true; result = await next) {
      next = ask()
      yield result.value
    }
  } finally {
    await discard(next)
    await iterator.return?.()
  }
}

async function discard(next: Promise<IteratorResult<Batch>>): Promise<void> {
  const result = await next.catch(() => undefined)
  if (result === undefined || result.done === true) return
  result.value.data.dispose()
  result.value.labels.dispose()
}
