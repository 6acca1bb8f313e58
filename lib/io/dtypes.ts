import { AlambicError } from '../errors.js'
import { native } from '../native/loader.js'
import type { DType } from '../tensors/types.js'

/** Bytes of an element. */
const itemSizes: Record<DType, number> = {
  bool: 1,
  uint8: 1,
  int8: 1,
  qint8: 1,
  quint8: 1,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
  float8_e4m3fnuz: 1,
  float8_e5m2fnuz: 1,
  float8_e8m0fnu: 1,
  int16: 2,
  uint16: 2,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  uint32: 4,
  qint32: 4,
  float32: 4,
  complex32: 4,
  int64: 8,
  uint64: 8,
  float64: 8,
  complex64: 8,
  complex128: 16,
}

export function itemSize(dtype: DType): number {
  return itemSizes[dtype]
}

export function isDType(name: string): name is DType {
  return Object.hasOwn(itemSizes, name)
}

/** The types of safetensors that libtorch has, by their names in the header. */
const safetensorsTypes: Record<string, DType> = {
  BOOL: 'bool',
  U8: 'uint8',
  I8: 'int8',
  F8_E4M3: 'float8_e4m3fn',
  F8_E5M2: 'float8_e5m2',
  F8_E4M3FNUZ: 'float8_e4m3fnuz',
  F8_E5M2FNUZ: 'float8_e5m2fnuz',
  F8_E8M0: 'float8_e8m0fnu',
  I16: 'int16',
  U16: 'uint16',
  F16: 'float16',
  BF16: 'bfloat16',
  I32: 'int32',
  U32: 'uint32',
  F32: 'float32',
  I64: 'int64',
  U64: 'uint64',
  F64: 'float64',
  C64: 'complex64',
}

export function fromSafetensorsType(name: string): DType | undefined {
  return Object.hasOwn(safetensorsTypes, name) ? safetensorsTypes[name] : undefined
}

export function toSafetensorsType(dtype: DType): string | undefined {
  return Object.keys(safetensorsTypes).find(name => safetensorsTypes[name] === dtype)
}

/** The classes of storages in `torch`; other dtypes are saved with an `UntypedStorage`. */
const storageClasses: Partial<Record<DType, string>> = {
  bool: 'BoolStorage',
  uint8: 'ByteStorage',
  int8: 'CharStorage',
  int16: 'ShortStorage',
  float16: 'HalfStorage',
  bfloat16: 'BFloat16Storage',
  int32: 'IntStorage',
  float32: 'FloatStorage',
  int64: 'LongStorage',
  float64: 'DoubleStorage',
  complex64: 'ComplexFloatStorage',
  complex128: 'ComplexDoubleStorage',
  qint8: 'QInt8Storage',
  quint8: 'QUInt8Storage',
  qint32: 'QInt32Storage',
}

export function toStorageClass(dtype: DType): string | undefined {
  return storageClasses[dtype]
}

export function fromStorageClass(name: string): DType | undefined {
  return (Object.keys(storageClasses) as DType[]).find(dtype => storageClasses[dtype] === name)
}

let known: Set<string> | undefined

/** @throws AlambicError `ERR_DTYPE` when this libtorch is too old for the dtype */
export function requireDType(dtype: DType, what: string): void {
  known ??= new Set(native.dtypes())
  if (known.has(dtype)) return
  throw new AlambicError(
    'ERR_DTYPE',
    `${what}: libtorch ${native.systemInfo().torchVersion} has no ${dtype}; use a newer one`,
  )
}
