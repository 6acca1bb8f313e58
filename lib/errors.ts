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
    super(message, options)
  }

  /** Also of another copy of this package, as test runners load one per file. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== AlambicError) return Function.prototype[Symbol.hasInstance].call(this, value)
    if (typeof value !== 'object' || value === null) return false
    const { name, code } = value as Partial<AlambicError>
    return name === 'AlambicError' && typeof code === 'string' && code.startsWith('ERR_')
  }
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
  | 'ERR_SCRIPT'
  | 'ERR_SHAPE_MISMATCH'
  | 'ERR_STATE_DICT'
  | 'ERR_TENSOR_RELEASED'
  | 'ERR_THREAD'
  | 'ERR_UNKNOWN_LAYER'
  | 'ERR_UNKNOWN_OPERATOR'
  | 'ERR_UNSAFE_PICKLE'

/** How a value is shown inside an error message: short, on one line. */
export function show(value: unknown, depth = 0): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return `function ${value.name || '(anonymous)'}`
  if (Array.isArray(value)) {
    if (depth >= 3) return '[…]'
    const head = value
      .slice(0, 8)
      .map(each => show(each, depth + 1))
      .join(', ')
    return value.length > 8 ? `[${head}, … ${value.length} in all]` : `[${head}]`
  }
  if (typeof value === 'object' && value !== null) {
    const name = value.constructor?.name ?? 'object'
    return name === 'Object' ? `{ ${Object.keys(value).join(', ')} }` : name
  }
  return String(value)
}

/** The error for an argument of the wrong kind: `name: expected …, got …`. */
export function argumentError(name: string, expected: string, actual: unknown): AlambicError {
  return new AlambicError('ERR_ARGUMENT', `${name}: expected ${expected}, got ${show(actual)}`)
}
