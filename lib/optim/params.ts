import { argumentError } from '../errors.js'
import type { Handle } from '../native/contract.js'
import { Tensor } from '../tensors/tensor.js'

export function toList(params: Tensor | readonly Tensor[]): readonly Tensor[] {
  if (params instanceof Tensor) return [params]
  if (Array.isArray(params)) return params as readonly Tensor[]
  throw argumentError('params', 'a tensor or an array of tensors', params)
}

export function handlesOf(params: readonly Tensor[]): Handle[] {
  return params.map((each, i) => {
    if (each instanceof Tensor) return each.handle
    throw argumentError(`params[${i}]`, 'a tensor', each)
  })
}
