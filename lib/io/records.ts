/** What a file says about its tensors, before libtorch sees any of it. */
import type { DType } from '../tensors/types.js'
import { itemSize } from './dtypes.js'
import type { ByteSource } from './source.js'

/** Where the bytes of a storage are. */
export interface Place {
  source: ByteSource
  offset: number
  /** Checks the bytes: `ERR_FILE_FORMAT`. */
  verify?: () => Promise<void>
}

/** Memory that several tensors may share. */
export class StorageRecord {
  /** Known once the file was read to its end. */
  place: Place | undefined

  constructor(
    /** What the file calls it. */
    readonly key: string,
    /** Of its elements, where the file says so; bytes otherwise. */
    readonly dtype: DType,
    readonly bytes: number,
    /** The storage that this is a part of, from a byte on: old files have such. */
    readonly part?: { of: StorageRecord; from: number },
  ) {}
}

export interface TensorFields {
  storage: StorageRecord
  dtype: DType
  shape: number[]
  /** In elements, as is `offset`. */
  strides: number[]
  offset: number
  /** The lazily conjugated and negated views of complex tensors. */
  isConjugate?: boolean
  isNegative?: boolean
}

/** A view of a storage, checked to lie inside it. */
export class TensorRecord implements TensorFields {
  readonly storage: StorageRecord
  readonly dtype: DType
  readonly shape: number[]
  readonly strides: number[]
  readonly offset: number
  readonly isConjugate: boolean
  readonly isNegative: boolean

  /** @throws Malformed */
  constructor(fields: TensorFields) {
    checkView(fields)
    this.storage = fields.storage
    this.dtype = fields.dtype
    this.shape = fields.shape
    this.strides = fields.strides
    this.offset = fields.offset
    this.isConjugate = fields.isConjugate ?? false
    this.isNegative = fields.isNegative ?? false
  }

  /** Number of elements. */
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1)
  }

  get isContiguous(): boolean {
    return this.numel <= 1 || String(this.strides) === String(contiguousStrides(this.shape))
  }
}

/** What a file says does not add up. Readers turn it into an error that names the file. */
export class Malformed extends Error {
  constructor(
    readonly expected: string,
    readonly found: string,
  ) {
    super(`expected ${expected}, found ${found}`)
  }
}

/** More than libtorch can address, let alone a file hold. */
const MAX_DIMENSIONS = 64

function checkView({ storage, dtype, shape, strides, offset }: TensorFields): void {
  const numbers = [...shape, ...strides, offset]
  if (shape.length !== strides.length || shape.length > MAX_DIMENSIONS || !numbers.every(isSize))
    throw new Malformed('a shape and strides of sizes', `(${shape.join(', ')}) and (${strides.join(', ')})`)
  if (!isSize(shape.reduce((product, size) => product * Math.max(size, 1), 1)))
    throw new Malformed('a shape that a tensor can have', `(${shape.join(', ')})`)
  const isEmpty = shape.includes(0)
  const last = shape.reduce((sum, size, i) => sum + (size - 1) * strides[i]!, offset)
  const needed = (isEmpty ? offset : last + 1) * itemSize(dtype)
  if (needed > storage.bytes)
    throw new Malformed(
      `a storage of at least ${needed} bytes for ${dtype} (${shape.join(', ')})`,
      `${storage.bytes}`,
    )
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

/** Of a tensor in row-major order without gaps. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length)
  let step = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step
    step *= Math.max(shape[i]!, 1)
  }
  return strides
}
