import { argumentError } from '../errors.js'
import type { Handle } from '../native/contract.js'
import { Tensor } from '../tensors/tensor.js'

export function toList(params: Tensor | readonly Tensor[]): readonly Tensor[] {
  if (params instanceof Tensor) return [params]
  if (Array.isArray(params)) {
    refuseHoles('params', params)
    return params as readonly Tensor[]
  }
  throw argumentError('params', 'a tensor or an array of tensors', params)
}

/** Stops at the first: an array may be very long and empty, and most ways through it take its whole length. */
export function refuseHoles(name: string, list: readonly unknown[]): void {
  for (let i = 0; i < list.length; i++)
    if (!(i in list)) throw argumentError(`${name}[${i}]`, 'a tensor', undefined)
}

export function handlesOf(params: readonly Tensor[]): Handle[] {
  return params.map((each, i) => {
    if (each instanceof Tensor) return each.handle
    throw argumentError(`params[${i}]`, 'a tensor', each)
  })
}
