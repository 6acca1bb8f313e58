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
