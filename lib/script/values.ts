/** TorchScript's values as JavaScript's, in the form in which they cross to native code (`native/script/ivalues.h`). */
import { argumentError } from '../errors.js'
import type { Handle, NativeValue } from '../native/contract.js'
import { isMap, isPlainObject, typedArrayName } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'

/** `where` names the value in errors; `handleOf` says which handle of a tensor crosses. */
export function encode(
  value: unknown,
  where: string,
  handleOf: (tensor: Tensor) => Handle = tensor => tensor.handle,
): NativeValue {
  const visit = (each: unknown, depth: number): NativeValue => {
    if (depth > 64) throw argumentError(where, 'values nested less than 64 deep', each)
    switch (typeof each) {
      case 'undefined':
      case 'boolean':
      case 'number':
      case 'bigint':
      case 'string':
        return each
      case 'object':
        if (each === null) return null
        if (each instanceof Tensor) return { tensor: handleOf(each) }
        if (Array.isArray(each)) return each.map(element => visit(element, depth + 1))
        if (typedArrayName(each) !== undefined)
          return Array.from(each as unknown as Iterable<number | bigint>)
        if (isMap(each)) return entries(Array.from(each), depth)
        if (isPlainObject(each)) return entries(Object.entries(each), depth)
        break
      case 'function':
      case 'symbol':
        break
    }
    throw argumentError(
      where,
      'a tensor, number, bigint, boolean, string, null, or an array, object or Map of those',
      each,
    )
  }
  const entries = (pairs: [unknown, unknown][], depth: number) => ({
    keys: pairs.map(([key]) => visit(key, depth + 1)),
    values: pairs.map(([, element]) => visit(element, depth + 1)),
  })
  return visit(value, 0)
}

/** Tuples and lists become arrays, named tuples and dicts with string keys objects, other dicts Maps. */
export function decode(value: NativeValue): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(decode)
  if ('tensor' in value) return new Tensor(value.tensor)
  const pairs = value.keys.map((key, i) => [decode(key), decode(value.values[i])] as [string, unknown])
  return value.isMap ? new Map(pairs) : Object.fromEntries(pairs)
}
