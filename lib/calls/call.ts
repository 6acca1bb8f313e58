/**
 * Calls of operators through the native dispatcher: a call becomes a plan (looked up once per form of call) and numbers in
 * a buffer that native code sees. Knows the Tensor class only through {@link installMethods}, which `tensor.ts` calls: the class needs this
 * file and this file the class.
 */
import { AlambicError, show } from '../errors.js'
import { Tag, type CallResult, type PlanId } from '../native/contract.js'
import { callBuffer, claim, claims, reserve } from '../native/call-buffer.js'
import { native } from '../native/loader.js'
import { Generator } from './generator.js'
import { isPlainObject, requireMemory, typedArrayName } from '../checks/realms.js'
import type { Tensor as TensorClass } from '../tensors/tensor.js'

let Tensor: typeof TensorClass
type Tensor = TensorClass

/** An operator, or one overload of it, and the plans made so far. */
export class Operator {
  /** Of calls with one positional argument and no options, and with two: members, for lists are slower to read. */
  plan1: PlanId | undefined = undefined
  plan2: PlanId | undefined = undefined
  /** Of the last call with options or more arguments: most places in a program call in the same form. */
  lastForm: Form = { positional: -1, options: [], plan: -1 }
  private readonly forms = new Map<string, Form>()

  constructor(
    readonly qualifiedName: string,
    readonly overload: string | null,
    private readonly isMethod = false,
  ) {}

  /** Its name in JavaScript. */
  get name(): string {
    return camelCase(this.qualifiedName.replace(/^aten::/, '').replace('::', '.'))
  }

  /** @param values what stands in the positions, for messages */
  plan(values: readonly unknown[], options: readonly string[]): PlanId {
    const shown = values.map(shownInMessages)
    return native.plan(this.qualifiedName, this.overload, values.length, options, shown, this.isMethod)
  }

  /** The form with so many positional arguments and options of these names, in this order. */
  form(values: readonly unknown[], options: readonly string[]): Form {
    const positional = values.length
    const key = `${positional} ${options.join(' ')}`
    let form = this.forms.get(key)
    if (form === undefined) {
      form = { positional, options, plan: this.plan(values, options) }
      this.forms.set(key, form)
    }
    this.lastForm = form
    return form
  }
}

export function camelCase(name: string): string {
  return name.replace(/(?<=[a-zA-Z0-9])_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

/** Longer lists say no more. */
const longestShown = 8

/** Numbers, words and short lists of numbers; undefined for tensors and whatever else. */
function shownInMessages(value: unknown): unknown {
  if (['number', 'boolean', 'string'].includes(typeof value)) return value
  const isShort = Array.isArray(value) && value.length <= longestShown
  return isShort && value.every(each => typeof each === 'number') ? value : undefined
}

interface Form {
  positional: number
  options: readonly string[]
  plan: PlanId
}

// Read once: a property of the lazily loaded addon costs as much as a small operator.
let nativeCall: typeof native.call = (...others) => {
  nativeCall = native.call
  return nativeCall(...others)
}

/** Room for plan and values of any call, without the elements of lists. */
const longestCall = 256

/** The values of the call that are no numbers. */
let others: unknown[] | null = null

/** Where the first value of a call goes, behind the plan; each of the functions below writes one and returns where the next goes. */
const firstValue = 1

/** Begins a call. Returns its claim of the buffer. */
function begin(plan: PlanId): number {
  const own = claim(longestCall)
  callBuffer[0] = plan
  others = null
  return own
}

function write(at: number, tag: number, value: number): number {
  callBuffer[at] = tag
  callBuffer[at + 1] = value
  return at + 2
}

function writeOther(at: number, tag: number, value: unknown): number {
  if (others === null) others = [value]
  else others.push(value)
  return write(at, tag, 0)
}

function encode(operator: Operator, at: number, value: unknown): number {
  if (typeof value === 'number') return write(at, Tag.number, value)
  if (value instanceof Tensor) return write(at, Tag.tensor, value.handle)
  return encodeOther(operator, at, value)
}

function encodeOther(operator: Operator, at: number, value: unknown): number {
  if (value === null || value === undefined) return write(at, Tag.null, value === null ? 0 : 1)
  if (typeof value === 'boolean') return write(at, Tag.boolean, value ? 1 : 0)
  if (typeof value === 'string') return encodeString(at, value)
  if (Array.isArray(value)) return encodeList(operator, at, value)
  if (typedArrayName(value) !== undefined) {
    requireMemory(value as ArrayBufferView)
    return encodeList(operator, at, Array.from(value as Iterable<number>))
  }
  if (value instanceof Generator) return writeOther(at, Tag.generator, value.native)
  return writeOther(at, Tag.other, value)
}

const words = new Map<string, number>()
/** Names that operators take are fewer; what is more is text made by a program. */
const mostWords = 1000

function encodeString(at: number, value: string): number {
  let word = words.get(value)
  if (word === undefined) {
    if (words.size === mostWords) return writeOther(at, Tag.other, value)
    word = native.addWord(value)
    words.set(value, word)
  }
  return write(at, Tag.word, word)
}

/** No operator takes more, and the buffer would grow with it. */
const longestList = 2 ** 24

function encodeList(operator: Operator, at: number, list: readonly unknown[]): number {
  if (list.length > longestList)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${operator.name}: expected a list of at most ${longestList} values, got one of ${list.length}; make a tensor of it`,
    )
  if (typeof list[0] === 'number') return encodeNumbers(at, list)
  if (list.some(each => each instanceof Tensor)) return encodeTensors(operator, at, list)
  return writeOther(at, Tag.other, list)
}

function encodeNumbers(start: number, list: readonly unknown[]): number {
  const { length } = list // once: a proxy may give another one each time
  reserve(start + length + longestCall)
  let at = write(start, Tag.numberList, length)
  for (let i = 0; i < length; i++) {
    const value = list[i]
    if (typeof value !== 'number') return writeOther(start, Tag.other, list)
    callBuffer[at++] = value
  }
  return at
}

function encodeTensors(operator: Operator, start: number, list: readonly unknown[]): number {
  const { length } = list
  reserve(start + length + longestCall)
  let at = write(start, Tag.tensorList, length)
  for (let i = 0; i < length; i++) callBuffer[at++] = toHandle(operator, list[i], i)
  return at
}

function toHandle(operator: Operator, value: unknown, index: number): number {
  if (value instanceof Tensor) return liveHandle(operator, value, index)
  if (value === null || value === undefined) return 0
  throw new AlambicError(
    'ERR_ARGUMENT',
    `${operator.name}: expected a tensor or null at index ${index} of a list of tensors, got ${show(value)}`,
  )
}

/** In a list, 0 means null: a released tensor must not pass for it. */
function liveHandle(operator: Operator, tensor: Tensor, index: number): number {
  if (tensor.handle === 0)
    throw new AlambicError(
      'ERR_TENSOR_RELEASED',
      `${operator.name}: the tensor at index ${index} of the list was released before: keep it with keep()`,
    )
  return tensor.handle
}

/**
 * Writes a call of values whose reading made other calls meanwhile: from copies, whose reading runs nothing of the
 * program's.
 */
function writeAgain(operator: Operator, plan: PlanId, values: readonly unknown[], count: number): void {
  const copies = values.slice(0, count).map(copyOf)
  begin(plan)
  let at = firstValue
  for (const copy of copies) at = encode(operator, at, copy)
}

function copyOf(value: unknown): unknown {
  if (value instanceof Tensor) return plainTensor(value)
  if (value instanceof Generator)
    return Object.create(Generator.prototype, { native: { value: value.native } })
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) return value
  return Array.from(value as unknown as ArrayLike<unknown>, each =>
    each instanceof Tensor ? plainTensor(each) : each,
  )
}

function plainTensor(tensor: Tensor): Tensor {
  return Object.create(Tensor.prototype, { handle: { value: tensor.handle } }) as Tensor
}

/** V8 calls native code by a slow path when arguments are spread. */
function callWithOthers(call: typeof native.call, values: readonly unknown[]): CallResult {
  if (values.length === 1) return call(values[0])
  return values.length === 2 ? call(values[0], values[1]) : call(...values)
}

function decode(result: CallResult, args: readonly unknown[]): unknown {
  if (result === undefined) return decodeTensor(callBuffer[0]!, args)
  const [tags, ...values] = result
  const decoded = values.map((value, i) => {
    if (tags[i] === 't') return decodeTensor(value as number, args)
    if (tags[i] === 'T') return (value as number[]).map(each => decodeTensor(each, args))
    return value
  })
  return decoded.length <= 1 ? decoded[0] : decoded
}

function decodeTensor(result: number, args: readonly unknown[]): unknown {
  if (result > 0) return new Tensor(result)
  return result === 0 ? null : args[-result - 1]
}

function call1(operator: Operator, a: unknown): unknown {
  const own = begin((operator.plan1 ??= operator.plan([a], [])))
  encode(operator, firstValue, a)
  if (own !== claims) writeAgain(operator, operator.plan1, [a], 1)
  const result = others === null ? nativeCall() : callWithOthers(nativeCall, others)
  return result === undefined && callBuffer[0]! > 0 ? new Tensor(callBuffer[0]!) : decode(result, [a])
}

function call2(operator: Operator, a: unknown, b: unknown): unknown {
  const own = begin((operator.plan2 ??= operator.plan([a, b], [])))
  encode(operator, encode(operator, firstValue, a), b)
  if (own !== claims) writeAgain(operator, operator.plan2, [a, b], 2)
  const result = others === null ? nativeCall() : callWithOthers(nativeCall, others)
  return result === undefined && callBuffer[0]! > 0 ? new Tensor(callBuffer[0]!) : decode(result, [a, b])
}

/** The trailing options object; `{ re, im }` is a complex number. */
function isOptions(value: unknown): value is Record<string, unknown> {
  return !(value instanceof Tensor) && isPlainObject(value) && value.re === undefined
}

/** Writes a call with options or many arguments; returns its values. `self` is the first argument of a method. */
function prepare(operator: Operator, self: Tensor | null, args: ArrayLike<unknown>): unknown[] {
  const last = args[args.length - 1]
  const options = isOptions(last) ? last : null
  const given = options === null ? args.length : args.length - 1
  // All are read before the first is written: to read an option may be another call.
  const values = new Array<unknown>(usualValues)
  let count = 0
  if (self !== null) values[count++] = self
  for (let i = 0; i < given; i++) values[count++] = args[i]
  const positional = count
  let form = operator.lastForm
  let isSame = form.positional === positional
  for (const name in options) {
    const value = options[name]
    if (value === undefined) continue
    if (form.options[count - positional] !== name) isSame = false
    values[count++] = value
  }
  if (!isSame || form.options.length !== count - positional)
    form = operator.form(values.slice(0, positional), options === null ? [] : givenOptions(options))
  const own = begin(form.plan)
  let at = firstValue
  for (let i = 0; i < count; i++) at = encode(operator, at, values[i])
  if (own !== claims) writeAgain(operator, form.plan, values, count)
  return values
}

/** What most calls have at most; the list grows where there are more. */
const usualValues = 8

function givenOptions(options: Record<string, unknown>): string[] {
  return Object.keys(options).filter(name => options[name] !== undefined)
}

function callMany(operator: Operator, self: Tensor | null, args: ArrayLike<unknown>): unknown {
  const values = prepare(operator, self, args)
  return decode(others === null ? nativeCall() : callWithOthers(nativeCall, others), values)
}

/**
 * Nanoseconds of one call of an operator by C++, or null where C++ calls it boxed: {@link NativeAddon.timeCall}.
 *
 * @internal
 */
export function timeOperator(qualifiedName: string, ...args: unknown[]): number | null {
  prepare(new Operator(qualifiedName, null), null, args)
  return native.timeCall(...(others ?? []))
}

export function toFunction(operator: Operator): (...args: unknown[]) => unknown {
  return function (a?: unknown, b?: unknown) {
    // eslint-disable-next-line prefer-rest-params -- a rest parameter would allocate on the fast paths
    const args = arguments
    if (args.length === 1 && !isOptions(a)) return call1(operator, a)
    if (args.length === 2 && !isOptions(b)) return call2(operator, a, b)
    return callMany(operator, null, args)
  }
}

function toMethod(operator: Operator): (this: Tensor, ...args: unknown[]) => unknown {
  return function (this: Tensor, a?: unknown) {
    // eslint-disable-next-line prefer-rest-params
    const args = arguments
    if (args.length === 0) return call1(operator, this)
    if (args.length === 1 && !isOptions(a)) return call2(operator, this, a)
    return callMany(operator, this, args)
  }
}

/** An operator's names, from the native catalogue. */
export interface OperatorName {
  /** camelCase */
  jsName: string
  /** As in its schema, without the namespace. */
  name: string
  /** Whether some overload's first argument is a tensor. */
  isMethod: boolean
}

export function operatorNames(namespace: string): OperatorName[] {
  const flat = native.operatorNames(namespace)
  const names: OperatorName[] = []
  for (let i = 0; i < flat.length; i += 3)
    names.push({ jsName: flat[i] as string, name: flat[i + 1] as string, isMethod: flat[i + 2] as boolean })
  return names
}

/** V8 keeps objects with more than 1020 properties as hash tables, where every read is a search. */
const methodsPerPrototype = 500

/**
 * Gives the class a method for every ATen operator on tensors that it does not define itself: when one is first looked
 * for, because the names are libtorch's and importing this package loads nothing.
 */
export function installMethods(constructor: typeof TensorClass): void {
  Tensor = constructor
  const { prototype } = constructor
  const find = (name: string | symbol): object => {
    if (typeof name === 'symbol' || name in Object.prototype) return Object.prototype
    const methods = makeMethods(prototype)
    Object.setPrototypeOf(prototype, methods)
    return methods
  }
  Object.setPrototypeOf(
    prototype,
    new Proxy(Object.prototype, {
      get: (_, name, receiver) => Reflect.get(find(name), name, receiver) as unknown,
      has: (_, name) => Reflect.has(find(name), name),
    }),
  )
}

/** A chain of prototypes; the methods of the first are found as fast as those of the last. */
function makeMethods(own: object): object {
  const names = operatorNames('aten').filter(
    ({ jsName, isMethod }) => isMethod && !Object.hasOwn(own, jsName) && !(jsName in Object.prototype),
  )
  let next: object = Object.prototype
  for (let end = names.length; end > 0; end -= methodsPerPrototype) {
    const prototype = Object.create(next) as object
    for (const { jsName, name } of names.slice(Math.max(0, end - methodsPerPrototype), end))
      Object.defineProperty(prototype, jsName, {
        value: toMethod(new Operator(`aten::${name}`, null, true)),
        configurable: true,
        writable: true,
      })
    next = prototype
  }
  return next
}
