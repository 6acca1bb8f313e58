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
  const iterator = Symbol.asyncIterator in loader ? loader[Symbol.asyncIterator]() : loader[Symbol.iterator]()
  // A turn later: whoever has got a batch is to begin with it first.
  const ask = () => {
    const next = nextTurn().then(() => iterator.next())
    next.catch(() => {}) // reported when it is asked for
    return next
  }
  let next = ask()
  try {
    for (let { value, done } = await next; !done; { value, done } = await next) {
      next = ask()
      yield value as Batch
    }
  } finally {
    await discard(next)
    await iterator.return?.()
  }
}

async function discard(next: Promise<IteratorResult<Batch, unknown>>): Promise<void> {
  const { value, done } = await next.catch(() => ({ value: undefined, done: true }) as const)
  if (done) return
  value.data.dispose()
  value.labels.dispose()
}
