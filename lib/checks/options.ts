/**
 * Options of everything that takes an object of them. Beside each type of options stands a list of what its members
 * take; the compiler holds the two against each other, and {@link readOptions} holds what a caller gives against the list.
 */
import { AlambicError, argumentError, isClass, show } from '../errors.js'
import { nearest } from './names.js'
import type { TensorOptions } from '../tensors/types.js'

/** What one option takes. */
export interface Kind {
  /** For messages: `a number above 0`. */
  readonly expected: string
  readonly fits: (value: unknown) => boolean
  /** The same as JSON Schema, for what can be written in a file. */
  readonly schema?: JsonSchema
  /** What the option does, in a sentence: editors show it. */
  readonly description?: string
  /** What holds where the option is left out, if that is one value. */
  readonly default?: unknown
  /** Whether it may not be left out. */
  readonly isRequired?: boolean
  /** Whether it is the path of a file or folder, which a file gives relative to itself. */
  readonly isPath?: boolean
}

/** A piece of JSON Schema. */
export type JsonSchema = Readonly<Record<string, unknown>>

/** The kind, told to those who write values in a file. */
export function described(
  kind: Kind,
  description: string,
  more: Pick<Kind, 'default' | 'isRequired' | 'isPath'> = {},
): Kind {
  return { ...kind, description, ...more }
}

/** A kind for each member of a type of options: one that is missing, or that the type has not, does not compile. */
export type Kinds<Options extends object> = { readonly [Name in keyof Required<Options>]: Kind }

/**
 * The options as they were given. What is undefined counts as absent.
 *
 * @param who whose options they are, for messages: the function or class
 * @throws AlambicError `ERR_ARGUMENT` for an option that is not in the list, with the nearest name, and for a value of
 *   another kind
 */
export function readOptions<Options extends object>(
  who: string,
  given: Options | undefined,
  kinds: Kinds<Options>,
): Options {
  if (given === undefined) return {} as Options
  if (isOf(tensor, given))
    throw argumentError(`${who}: options`, `an object such as { ${Object.keys(kinds)[0] ?? ''} }`, given)
  if (!isOf(options, given)) throw notOptions(who, given, kinds)
  for (const name of Object.keys(given)) {
    const value = (given as Record<string, unknown>)[name]
    if (value === undefined) continue
    if (!Object.hasOwn(kinds, name)) throw unknownOption(who, name, Object.keys(kinds))
    const kind = (kinds as Record<string, Kind>)[name]!
    if (!isOf(kind, value)) throw argumentError(`${who}: ${name}`, kind.expected, value)
  }
  return given
}

/**
 * For an argument that is not an option: says what was expected where it is of another kind.
 *
 * @param name of the function and its argument: `scope: body`
 * @throws AlambicError `ERR_ARGUMENT`
 */
export function requireKind(name: string, kind: Kind, value: unknown): void {
  if (!isOf(kind, value)) throw argumentError(name, kind.expected, value)
}

/** A value that cannot be looked at, such as a revoked proxy, is of no kind. */
function isOf(kind: Kind, value: unknown): boolean {
  try {
    return kind.fits(value)
  } catch {
    return false
  }
}

/** Of any realm; arrays, maps, tensors' buffers and promises are no options. */
export const options: Kind = {
  expected: 'an object',
  fits: value => Object.prototype.toString.call(value) === '[object Object]',
}

/** For a value of an option that stands alone, as Python takes it, the error shows it with its name. */
function notOptions(who: string, given: unknown, kinds: object): AlambicError {
  const name = nameOfAlone(given, kinds as Record<string, Kind>)
  const offer = name === undefined ? '' : `; did you mean { ${name}: ${show(given)} }?`
  return new AlambicError(
    'ERR_ARGUMENT',
    `${who}: options: expected ${options.expected}, got ${show(given)}${offer}`,
  )
}

/** The first option that takes the value; one that takes anything says nothing. */
function nameOfAlone(given: unknown, kinds: Record<string, Kind>): string | undefined {
  if (typeof given === 'string' && 'device' in kinds && /^(cpu|cuda|meta)\b/.test(given)) return 'device'
  if (!['string', 'number', 'boolean'].includes(typeof given)) return undefined
  return Object.keys(kinds).find(name => kinds[name] !== anything && isOf(kinds[name]!, given))
}

/** The error for an option that does not exist. */
export function unknownOption(who: string, name: string, known: readonly string[]): AlambicError {
  const near = nearest(name, known, 1)[0]
  const offer =
    near !== undefined
      ? `did you mean ${JSON.stringify(near)}?`
      : known.length > 0
        ? `there are: ${known.join(', ')}`
        : 'it takes none'
  return new AlambicError('ERR_ARGUMENT', `${who}: there is no option ${JSON.stringify(name)}; ${offer}`)
}

// ---- Kinds -----------------------------------------------------------------------------------------------------------

/** Whoever uses the value checks it: another native call, or a rule over several options. */
export const anything: Kind = { expected: 'anything', fits: () => true }

export const boolean: Kind = {
  expected: 'true or false',
  fits: value => typeof value === 'boolean',
  schema: { type: 'boolean' },
}

export const text: Kind = {
  expected: 'a string',
  fits: value => typeof value === 'string',
  schema: { type: 'string' },
}

/** Native code knows which there are. */
export const device: Kind = { ...text, expected: "a device such as 'cpu' or 'cuda:0'" }

/** Native code knows which there are. */
export const dtype: Kind = { ...text, expected: "a dtype such as 'float32'" }

export const callback: Kind = {
  expected: 'a function',
  fits: value => typeof value === 'function' && !isClass(value),
}

export const signal: Kind = {
  expected: 'an AbortSignal',
  fits: value =>
    typeof (value as AbortSignal | null)?.aborted === 'boolean' &&
    typeof (value as AbortSignal).addEventListener === 'function',
}

/** Any number, also infinite ones, but not NaN. */
export const number: Kind = {
  expected: 'a number',
  fits: value => typeof value === 'number' && !Number.isNaN(value),
  schema: { type: 'number' },
}

export const finite: Kind = {
  expected: 'a finite number',
  fits: value => Number.isFinite(value),
  schema: { type: 'number' },
}

export const positive: Kind = {
  expected: 'a number above 0',
  fits: value => typeof value === 'number' && value > 0 && value < Infinity,
  schema: { type: 'number', exclusiveMinimum: 0 },
}

export const notNegative: Kind = {
  expected: 'a number of at least 0',
  fits: value => typeof value === 'number' && value >= 0 && value < Infinity,
  schema: { type: 'number', minimum: 0 },
}

/** Both ends excluded. */
export const properFraction: Kind = {
  expected: 'a number above 0 and below 1',
  fits: value => typeof value === 'number' && value > 0 && value < 1,
  schema: { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 },
}

export function between(low: number, high: number): Kind {
  return {
    expected: `a number from ${low} to ${high}`,
    fits: value => typeof value === 'number' && value >= low && value <= high,
    schema: { type: 'number', minimum: low, maximum: high },
  }
}

export function integer(low = -Infinity, high = Infinity): Kind {
  const range =
    low === -Infinity
      ? ''
      : high === Infinity
        ? ` of at least ${low}`
        : ` from ${low} to ${describeLimit(high)}`
  return {
    expected: `an integer${range}`,
    fits: value => Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high,
    schema: {
      type: 'integer',
      ...(low !== -Infinity && { minimum: low }),
      ...(high !== Infinity && { maximum: high }),
    },
  }
}

function describeLimit(limit: number): string {
  return limit === Number.MAX_SAFE_INTEGER ? '2^53 − 1' : String(limit)
}

export function oneOf(...values: readonly unknown[]): Kind {
  const names = values.map(each => (typeof each === 'string' ? `'${each}'` : String(each)))
  const last = names.pop()!
  return {
    expected: names.length === 0 ? last : `${names.join(', ')} or ${last}`,
    fits: value => values.includes(value),
    schema: { enum: [...values] },
  }
}

/** Stops at the first that is not, and takes no holes for elements: an array may be very long and empty. */
function areAll(kind: Kind, list: readonly unknown[]): boolean {
  for (let i = 0; i < list.length; i++) if (!kind.fits(list[i])) return false
  return true
}

export function listOf(kind: Kind, expected: string): Kind {
  return {
    expected,
    fits: value => Array.isArray(value) && areAll(kind, value),
    schema: { type: 'array', items: kind.schema ?? {} },
  }
}

export function either(first: Kind, second: Kind): Kind {
  return {
    expected: `${first.expected} or ${second.expected}`,
    fits: value => first.fits(value) || second.fits(value),
    schema: { anyOf: [first.schema ?? {}, second.schema ?? {}] },
  }
}

export function orNull(kind: Kind): Kind {
  return {
    expected: `${kind.expected}, or null`,
    fits: value => value === null || kind.fits(value),
    schema: { anyOf: [kind.schema ?? {}, { type: 'null' }] },
  }
}

/** An object with these methods: a module, a tensor, a generator, of whatever copy of this package. */
export function having(expected: string, ...methods: readonly string[]): Kind {
  return {
    expected,
    fits: value =>
      typeof value === 'object' &&
      value !== null &&
      methods.every(name => typeof (value as Record<string, unknown>)[name] === 'function'),
  }
}

export const tensor: Kind = having('a tensor', 'dispose', 'backward')

export const module: Kind = having('a module', 'forward', 'parameters', 'modules')

export const generator: Kind = {
  expected: 'a Generator',
  fits: value => typeof value === 'object' && value !== null && 'native' in value,
}

const whole: Kind = { expected: 'an integer', fits: Number.isInteger }

/** Of the spatial sizes of layers: native code knows how many there have to be. */
export const size: Kind = {
  expected: 'an integer, or one per dimension',
  fits: value => whole.fits(value) || (Array.isArray(value) && areAll(whole, value)),
}

/** Of everything that makes tensors. */
export const tensorOptions: Kinds<TensorOptions> = {
  dtype: orNull(dtype),
  device: orNull(device),
  requiresGrad: boolean,
}
