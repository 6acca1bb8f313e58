/** What a pickle holds, before it becomes JavaScript's own: lists are arrays, None is null. */
import type { StorageRecord, TensorRecord } from '../records.js'
import type { Reference } from './unpickler.js'

export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Value[]
  | Dict
  | Tuple
  | PySet
  | Bytes
  | Complex128
  | TensorRecord
  | StorageRecord
  | Reference
  | Unknown

/** dict, OrderedDict and their like: keys in order. */
export class Dict {
  #map: Map<Value, Value> | undefined

  /** Made when it is first needed: each tensor comes with an empty dict, and hostile files with millions. */
  get map(): Map<Value, Value> {
    return (this.#map ??= new Map())
  }
}

export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

/** set and frozenset, with whatever order they were saved in. */
export class PySet {
  constructor(readonly items: Value[]) {}
}

/** bytes and bytearray. */
export class Bytes {
  constructor(readonly bytes: Uint8Array) {}
}

export class Complex128 {
  constructor(
    readonly re: number,
    readonly im: number,
  ) {}
}

/**
 * What a pickle makes by a class or function that is not known. It stands where Python would have the object, so that
 * what is beside it can be read; nothing was called. Whoever needs the object itself refuses it by its name.
 */
export class Unknown {
  /** What it was made of and filled with: arguments, items, state. */
  readonly parts: Value[] = []

  /**
   * @param what its class or function, `argparse.Namespace`
   * @param at the byte of the file where it is named
   */
  constructor(
    readonly what: string,
    readonly at: number,
  ) {}
}
