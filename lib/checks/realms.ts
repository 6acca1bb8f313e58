/**
 * Values of other realms. `vm` contexts and test runners such as Jest have an `Array`, `Map`, `Uint8Array`, `Error` … of
 * their own, of which `instanceof` knows nothing. What comes from a caller is asked by these functions instead; classes
 * of this package may be asked with `instanceof`.
 */
import { types } from 'node:util'
import { AlambicError } from '../errors.js'

/** A `Map` of whatever realm. */
export const isMap: (value: unknown) => value is Map<unknown, unknown> = types.isMap

/** A `Set` of whatever realm. */
export const isSet: (value: unknown) => value is Set<unknown> = types.isSet

/** A `Uint8Array`, such as a `Buffer`. */
export const isUint8Array: (value: unknown) => value is Uint8Array = types.isUint8Array

/** An `Error` or an instance of a class that extends it. */
export const isError: (value: unknown) => value is Error = types.isNativeError

/** `{ … }`, as opposed to an instance of a class: its prototype is some realm's `Object.prototype`, or null. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype = Object.getPrototypeOf(value) as object | null
  return prototype === Object.prototype || prototype === null || isRoot(prototype)
}

/** Some realm's `Object.prototype`, of which there is one below every class. */
function isRoot(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'isPrototypeOf')
}

/** A promise, or what is waited for like one. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}

/** A `URL`, also one of another implementation: what Node.js takes for one. */
export function isURL(value: unknown): value is URL {
  if (value instanceof URL) return true
  if (typeof value !== 'object' || value === null) return false
  const { href, protocol, auth, path } = value as Record<string, unknown>
  return typeof href === 'string' && typeof protocol === 'string' && auth === undefined && path === undefined
}

// It reads what an array is from the array itself, wherever that comes from.
const { get: tagOfTypedArray } = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
) as { get: (this: unknown) => string | undefined }

/** `'Float32Array'` …, of classes that extend one the name of that one; undefined for whatever is no typed array. */
export function typedArrayName(value: unknown): string | undefined {
  return tagOfTypedArray.call(value)
}

/** An array, or a typed array. */
export function isList(value: unknown): boolean {
  return Array.isArray(value) || typedArrayName(value) !== undefined
}

/** @throws AlambicError `ERR_ARGUMENT` for a view whose memory is gone */
export function requireMemory(view: ArrayBufferView): void {
  if (isDetached(view)) throw lostMemory()
}

function lostMemory(): AlambicError {
  return new AlambicError(
    'ERR_ARGUMENT',
    'expected an array with its memory, got one whose memory was transferred, to another thread for example',
  )
}

/**
 * The bytes that a caller gave: a `Uint8Array`, or all of an `ArrayBuffer` or `SharedArrayBuffer`; undefined for anything
 * else.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a buffer whose memory is gone
 */
export function givenBytes(value: unknown): Uint8Array | undefined {
  if (isUint8Array(value)) return value
  if (!types.isAnyArrayBuffer(value)) return undefined
  try {
    return new Uint8Array(value)
  } catch {
    throw lostMemory()
  }
}

/** Whether the memory of a view was taken away from it: such a view is empty, and nothing can be made of it. */
function isDetached({ buffer, byteLength }: ArrayBufferView): boolean {
  if (byteLength > 0) return false
  try {
    new Uint8Array(buffer)
    return false
  } catch {
    return true
  }
}

/**
 * The bytes of a view as native code and Node.js take them. They are the view's own memory, except where threads share
 * it: then a copy, so that no other thread changes what was checked.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a view whose memory is gone
 */
export function bytesOf(view: ArrayBufferView): Uint8Array<ArrayBuffer> {
  requireMemory(view)
  const { buffer, byteOffset, byteLength } = view
  const bytes = new Uint8Array(buffer, byteOffset, byteLength)
  return (types.isSharedArrayBuffer(buffer) ? bytes.slice() : bytes) as Uint8Array<ArrayBuffer>
}
