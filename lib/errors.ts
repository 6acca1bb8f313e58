/**
 * The class of Alambic's errors: a message that names what was expected and what was given, and a stable
 * {@link AlambicError.code} to test for. The table of codes is in `docs/errors.md`.
 */
export class AlambicError extends Error {
  override readonly name = 'AlambicError'

  constructor(
    /** Stable across releases, for example `ERR_SHAPE_MISMATCH`. */
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(typeof message === 'string' ? message : show(message), isObject(options) ? options : undefined)
  }

  /** Also of another copy of this package, as test runners load one per file. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== AlambicError) return Function.prototype[Symbol.hasInstance].call(this, value)
    if (typeof value !== 'object' || value === null) return false
    const { name, code } = value as Partial<AlambicError>
    return name === 'AlambicError' && typeof code === 'string' && code.startsWith('ERR_')
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** What each code means is in `docs/errors.md`. */
export type ErrorCode =
  | 'ERR_ADDON_NOT_FOUND'
  | 'ERR_ARGUMENT'
  | 'ERR_ASYNC_CALLBACK'
  | 'ERR_AUTOGRAD'
  | 'ERR_BUSY'
  | 'ERR_CHANNEL_MISMATCH'
  | 'ERR_DEVICE'
  | 'ERR_DTYPE'
  | 'ERR_EXPORT'
  | 'ERR_FILE_FORMAT'
  | 'ERR_FILE_NOT_FOUND'
  | 'ERR_INDEX'
  | 'ERR_LABEL_RANGE'
  | 'ERR_LENGTH_MISMATCH'
  | 'ERR_LIBTORCH_LOAD'
  | 'ERR_LIBTORCH_NOT_FOUND'
  | 'ERR_NAN_LOSS'
  | 'ERR_NATIVE'
  | 'ERR_NO_OVERLOAD'
  | 'ERR_NOT_IMPLEMENTED'
  | 'ERR_OPERATOR'
  | 'ERR_OTHER_THREAD'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_PRECISION'
  | 'ERR_RECIPE'
  | 'ERR_SCRIPT'
  | 'ERR_SHAPE_MISMATCH'
  | 'ERR_STATE_DICT'
  | 'ERR_TENSOR_RELEASED'
  | 'ERR_THREAD'
  | 'ERR_UNKNOWN_LAYER'
  | 'ERR_UNKNOWN_OPERATOR'
  | 'ERR_UNSAFE_PICKLE'

/** Of the whole description, in characters. */
const longestDescription = 500
/** Of one string or name in it. */
const longestText = 200
/** What has more elements or members is cut. */
const mostParts = 8

/**
 * How a value is shown inside an error message: short, on one line. Of whatever came: a value that cannot be looked at,
 * such as a revoked proxy, is named by its type.
 */
export function show(value: unknown): string {
  return cut(describe(value, 0), longestDescription)
}

function describe(value: unknown, depth: number): string {
  try {
    if (typeof value === 'string') return quoted(value)
    if (typeof value === 'bigint') return shortBigint(value)
    if (typeof value === 'function')
      return `${isClass(value) ? 'class' : 'function'} ${nameOf(value) || '(anonymous)'}`
    if (typeof value !== 'object' || value === null) return cut(String(value), longestText)
    if (Array.isArray(value)) return depth >= 3 ? '[…]' : describeList(value, depth)
    return describeObject(value)
  } catch {
    return typeof value === 'function' ? 'a function' : `an ${typeof value} that cannot be read`
  }
}

function describeList(list: readonly unknown[], depth: number): string {
  const { length } = list
  const shown = Math.min(length, mostParts)
  const parts: string[] = []
  for (let i = 0; i < shown; i++) parts.push(describe(list[i], depth + 1))
  if (length > shown) parts.push(`… ${length} in all`)
  return `[${parts.join(', ')}]`
}

function describeObject(value: object): string {
  const hasClass = Object.getPrototypeOf(value) !== null
  const name = hasClass ? nameOf(value.constructor) : 'Object'
  if (name !== 'Object') return name || cut(Object.prototype.toString.call(value).slice(8, -1), longestText)
  const keys = Object.keys(value)
  const shown = keys.slice(0, mostParts).map(key => cut(key, 40))
  if (keys.length > shown.length) shown.push(`… ${keys.length} in all`)
  return shown.length === 0 ? '{}' : `{ ${shown.join(', ')} }`
}

/** Of a function or class; a class may have a static member of that name which is anything. */
function nameOf(made: unknown): string {
  const name = (made as { name?: unknown } | null | undefined)?.name
  return typeof name === 'string' ? cut(name, longestText) : ''
}

function quoted(text: string): string {
  if (text.length <= longestText) return JSON.stringify(text)
  return `${JSON.stringify(text.slice(0, longestText))}… (${text.length} characters)`
}

function cut(text: string, longest: number): string {
  return text.length <= longest ? text : `${text.slice(0, longest)}…`
}

/** Written as `class`: to call it without `new` is an error. */
export function isClass(value: unknown): boolean {
  if (typeof value !== 'function') return false
  // The prototype of a function is writable, and most functions have none: the text is looked at for few.
  if (Object.getOwnPropertyDescriptor(value, 'prototype')?.writable !== false) return false
  return Function.prototype.toString.call(value).startsWith('class')
}

/** Its digits take time and space that grow with it. */
function shortBigint(value: bigint): string {
  return BigInt.asIntN(256, value) === value ? `${value}n` : 'a bigint of more than 256 bits'
}

/** The error for an argument that was left out: `name is missing: expected …`. */
export function missingError(name: string, expected: string): AlambicError {
  return new AlambicError('ERR_ARGUMENT', `${name} is missing: expected ${expected}`)
}

/** The error for an argument of the wrong kind: `name: expected …, got …`. */
export function argumentError(name: string, expected: string, actual: unknown): AlambicError {
  return new AlambicError('ERR_ARGUMENT', `${name}: expected ${expected}, got ${show(actual)}`)
}
