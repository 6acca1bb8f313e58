import { AlambicError } from '../errors.js'
import { native } from '../native/loader.js'
import type { Tensor } from '../tensors/tensor.js'
import { torch } from '../calls/index.js'
import { itemSize } from './dtypes.js'

/** What is copied out of libtorch's memory at a time. */
const CHUNK_BYTES = 1 << 24

/** @throws AlambicError `ERR_DTYPE` for a tensor whose elements are not plain memory */
export function requirePlain(tensor: Tensor, name: string): void {
  const { layout, dtype, device } = tensor
  const remedy =
    layout !== 'strided'
      ? 'convert it with toDense()'
      : dtype.startsWith('q')
        ? 'convert it with dequantize()'
        : device === 'meta'
          ? 'it has no data'
          : undefined
  if (remedy === undefined) return
  throw new AlambicError(
    'ERR_DTYPE',
    `save: ${name}: expected a dense tensor with data, got ${layout} ${dtype} on ${device}; ${remedy}`,
  )
}

export function isConjugate(tensor: Tensor): boolean {
  return tensor.dtype.startsWith('complex') && torch.isConj(tensor)
}

export function isNegative(tensor: Tensor): boolean {
  return torch.isNeg(tensor)
}

/** A tensor's elements in row-major order, piece by piece. */
export function* elementBytes(tensor: Tensor): Generator<Buffer> {
  if (!tensor.isContiguous() || isConjugate(tensor) || isNegative(tensor)) {
    yield Buffer.from(native.tensorToData(tensor.handle))
    return
  }
  const { offset } = native.storageOf(tensor.handle)
  const size = itemSize(tensor.dtype)
  yield* rangeBytes(tensor, offset * size, tensor.numel() * size)
}

/** All of a tensor's storage. */
export function storageBytes(tensor: Tensor): Generator<Buffer> {
  return rangeBytes(tensor, 0, native.storageOf(tensor.handle).bytes)
}

function* rangeBytes(tensor: Tensor, from: number, bytes: number): Generator<Buffer> {
  for (let done = 0; done < bytes; done += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, bytes - done)
    const view = native.viewStorage(tensor.handle, 'uint8', [length], [1], from + done)
    try {
      yield Buffer.from(native.tensorToData(view))
    } finally {
      native.release(view)
    }
  }
}
