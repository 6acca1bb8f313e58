import { argumentError } from '../errors.js'
import { Tensor as TensorClass } from './tensor.js'

/** {@inheritDoc TensorClass} */
export type Tensor = TensorClass

/** The functions that make a tensor of what one has. */
const ways = 'one of the functions that make tensors: tensor(), fromTypedArray(), zeros(), ones(), empty() …'

/**
 * The class as users have it: for `instanceof` and its prototype. Inside of the package the class itself is used, whose
 * constructor takes over a native handle: with any other number it would make a tensor out of somebody else's.
 */
export const Tensor: (abstract new (handle: never) => TensorClass) & { readonly prototype: TensorClass } =
  new Proxy(TensorClass, {
    construct(_, [value]: unknown[]): never {
      throw argumentError('new Tensor', ways, value)
    },
    apply(_, __, [value]: unknown[]): never {
      throw argumentError('Tensor', ways, value)
    },
  })

Object.defineProperty(TensorClass.prototype, 'constructor', {
  value: Tensor,
  configurable: true,
  writable: true,
})
