/**
 * Calls of operators through the native dispatcher: a call becomes a plan (looked up once per form of call), tags and
 * values. Knows the Tensor class only through {@link installMethods}, which `tensor.ts` calls: the class needs this
 * file and this file the class.
 */
import { AlambicError } from '../errors.js'
import { isPlainObject } from '../memory.js'
import { Tag, type CallResult, type PlanId } from '../native/contract.js'
import { listBuffer } from '../native/lists.js'
import { native } from '../native/loader.js'
import { Generator } from '../random.js'
import type { Tensor as TensorClass } from '../tensor.js'

let Tensor: typeof TensorClass
type Tensor = TensorClass

/** Plans of calls with options, by the options' names in the order in which they are given. */
class PlanTree {
  plan: PlanId | undefined
  private readonly branches = new Map<string, PlanTree>()

  branch(name: string): PlanTree {
    let branch = this.branches.get(name)
    if (branch === undefined) {
      branch = new PlanTree()
      this.branches.set(name, branch)
    }
    return branch
  }
}

/** An operator, or one overload of it, and the plans made so far. */
export class Operator {
  /** By number of positional arguments, for calls without options. */
  readonly plain: (PlanId | undefined)[] = []
  /** By number of positional arguments. */
  private readonly trees: (PlanTree | undefined)[] = []

  constructor(
    readonly qualifiedName: string,
    readonly overload: string | null,
  ) {}

  plainPlan(count: number): PlanId {
    return (this.plain[count] ??= this.plan(count, []))
  }

  planTree(positional: number): PlanTree {
    return (this.trees[positional] ??= new PlanTree())
  }

  plan(positional: number, options: readonly string[]): PlanId {
    return native.plan(this.qualifiedName, this.overload, positional, options)
  }
}

// Read once: a property of the lazily loaded addon costs as much as a small operator.
let nativeCall: typeof native.call = (...args) => {
  nativeCall = native.call
  return nativeCall(...args)
}

const tagBits = 3

/** The tag of the value that {@link encode} returned last. */
let tag: number = Tag.plain
/** How much of the list buffer the values of this call take so far. */
let listed = 0

function encode(value: unknown): unknown {
  if (value instanceof Tensor) {
    tag = Tag.tensor
    return value.handle
  }
  tag = Tag.plain
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return encodeList(value)
  if (ArrayBuffer.isView(value)) return encodeList(Array.from(value as unknown as Iterable<number>))
  if (value instanceof Generator) {
    tag = Tag.generator
    return value.native
  }
  return value
}

/** Lists of numbers and of tensors go into the list buffer, their length takes their place; others stay as they are. */
function encodeList(list: readonly unknown[]): unknown {
  if (list.length === 0) return list
  if (typeof list[0] === 'number') return encodeNumbers(list)
  return list.some(each => each instanceof Tensor) ? encodeTensors(list) : list
}

function encodeNumbers(list: readonly unknown[]): unknown {
  const buffer = listBuffer(listed + list.length)
  for (let i = 0; i < list.length; i++) {
    const value = list[i]
    if (typeof value !== 'number') return list
    buffer[listed + i] = value
  }
  tag = Tag.numberList
  listed += list.length
  return list.length
}

function encodeTensors(list: readonly unknown[]): number {
  const buffer = listBuffer(listed + list.length)
  list.forEach((value, i) => (buffer[listed + i] = toHandle(value, i)))
  tag = Tag.tensorList
  listed += list.length
  return list.length
}

function toHandle(value: unknown, index: number): number {
  if (value instanceof Tensor) return released(value)
  if (value === null || value === undefined) return 0
  throw new AlambicError('ERR_ARGUMENT', `expected a tensor or null at index ${index} of a list of tensors`)
}

/** In a list, 0 means null: a released tensor must not pass for it. */
function released(tensor: Tensor): number {
  if (tensor.handle === 0)
    throw new AlambicError(
      'ERR_TENSOR_RELEASED',
      'a tensor of the list was released before: keep it with keep()',
    )
  return tensor.handle
}

function decode(result: CallResult, args: readonly unknown[]): unknown {
  if (typeof result === 'number') return decodeTensor(result, args)
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
  const plan = operator.plain[1] ?? operator.plainPlan(1)
  listed = 0
  const va = encode(a)
  const result = nativeCall(plan, tag, va)
  return typeof result === 'number' && result > 0 ? new Tensor(result) : decode(result, [a])
}

function call2(operator: Operator, a: unknown, b: unknown): unknown {
  const plan = operator.plain[2] ?? operator.plainPlan(2)
  listed = 0
  const va = encode(a)
  let tags = tag
  const vb = encode(b)
  tags |= tag << tagBits
  const result = nativeCall(plan, tags, va, vb)
  return typeof result === 'number' && result > 0 ? new Tensor(result) : decode(result, [a, b])
}

/** The trailing options object; `{ re, im }` is a complex number. */
function isOptions(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !(value instanceof Tensor) &&
    !Array.isArray(value) &&
    isPlainObject(value) &&
    !('re' in value)
  )
}

/** Values beyond this have their tags in a string. */
const mostPackedTags = 10

/** The values of a call with options or many arguments. */
class Values {
  readonly given: unknown[] = []
  readonly encoded: unknown[] = []
  private readonly tags: number[] = []

  constructor() {
    listed = 0
  }

  add(value: unknown): void {
    this.given.push(value)
    this.encoded.push(encode(value))
    this.tags.push(tag)
  }

  packedTags(): number | string {
    const { tags } = this
    if (tags.length > mostPackedTags) return tags.join('')
    let packed = 0
    for (let i = 0; i < tags.length; i++) packed |= tags[i]! << (tagBits * i)
    return packed
  }
}

/** `self` is the first argument of a method. */
function callMany(operator: Operator, self: Tensor | null, args: ArrayLike<unknown>): unknown {
  const last = args[args.length - 1]
  const options = isOptions(last) ? last : null
  const positional = options === null ? args.length : args.length - 1
  const values = new Values()
  if (self !== null) values.add(self)
  for (let i = 0; i < positional; i++) values.add(args[i])
  const count = values.given.length
  const plan = options === null ? operator.plainPlan(count) : addOptions(operator, values, options)
  return decode(spreadCall(plan, values.packedTags(), values.encoded), values.given)
}

/** V8 calls native code by a slow path when arguments are spread. */
function spreadCall(plan: PlanId, tags: number | string, values: readonly unknown[]): CallResult {
  switch (values.length) {
    case 2:
      return nativeCall(plan, tags, values[0], values[1])
    case 3:
      return nativeCall(plan, tags, values[0], values[1], values[2])
    case 4:
      return nativeCall(plan, tags, values[0], values[1], values[2], values[3])
    case 5:
      return nativeCall(plan, tags, values[0], values[1], values[2], values[3], values[4])
    default:
      return nativeCall(plan, tags, ...values)
  }
}

/** Adds the options that are not undefined, and returns the plan for this choice of them. */
function addOptions(operator: Operator, values: Values, options: Record<string, unknown>): PlanId {
  const positional = values.given.length
  let tree = operator.planTree(positional)
  for (const name in options) {
    const value = options[name]
    if (value === undefined) continue
    values.add(value)
    tree = tree.branch(name)
  }
  return (tree.plan ??= operator.plan(
    positional,
    Object.keys(options).filter(name => options[name] !== undefined),
  ))
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

/** Gives the class a method for every ATen operator on tensors that it does not define itself. */
export function installMethods(constructor: typeof TensorClass): void {
  Tensor = constructor
  const names = operatorNames('aten').filter(
    ({ jsName, isMethod }) => isMethod && !(jsName in Tensor.prototype),
  )
  // A chain of prototypes; the methods of the first are found as fast as those of the last.
  let last: object = Tensor.prototype
  for (let start = 0; start < names.length; start += methodsPerPrototype) {
    const prototype = Object.create(Object.prototype) as object
    for (const { jsName, name } of names.slice(start, start + methodsPerPrototype))
      Object.defineProperty(prototype, jsName, {
        value: toMethod(new Operator(`aten::${name}`, null)),
        configurable: true,
        writable: true,
      })
    Object.setPrototypeOf(last, prototype)
    last = prototype
  }
}
