/**
 * Reads pickles, protocols 0 to 5, without running them. A pickle is a program for a stack machine that may import and
 * call anything; here it may only build containers and call what a {@link Vocabulary} knows, which is data about
 * tensors. In the place of everything else stands an {@link Unknown}, or it is refused by its name.
 *
 * Opcodes are those of Python's `pickletools`; the few that old and rare writers use only (`INST`, `OBJ`, extension
 * codes, out-of-band buffers) build objects of classes, and are never known.
 */
import { AlambicError } from '../../errors.js'
import { fileError } from '../file-error.js'
import { Malformed } from '../records.js'
import { Bytes, Complex128, Dict, PySet, Tuple, Unknown, type Value } from './values.js'

/** A class or function that a pickle names. */
export interface Global {
  /** `module.name`, as Python 3 calls it. */
  readonly name: string
  /** What calling it gives; undefined for names that may be mentioned and not called, such as a dtype. */
  readonly call?: (args: readonly Value[]) => Value
}

/** What a pickle may name and refer to. */
export interface Vocabulary {
  /** Undefined for what is not known. */
  find(name: string): Global | undefined
  /** What is not known gives an {@link Unknown}, and is refused only where it is needed. Default: refused at once. */
  readonly passesUnknown?: boolean
  /** An object outside of the pickle, such as a storage. */
  load(id: Value): Value
  /** Takes the state of an object that a call made; false refuses it. */
  build?(target: Value, state: Value): boolean
}

export interface PickleLimits {
  /** Opcodes. Default: 50 million; a tensor takes about 30. */
  maxSteps?: number
  /** Containers. Default: 1 million; a tensor takes about 5. */
  maxContainers?: number
}

/** Marks where a group of values begins on the stack. */
const MARK = Symbol('mark')

type Stacked = Value | typeof MARK

const MAX_INTEGER_BYTES = 1024
const MAX_LINE_BYTES = 1 << 16

/** The names that Python 2, and protocol 2 for its sake, has for modules. */
const PYTHON_2_MODULES: Record<string, string> = { __builtin__: 'builtins', copy_reg: 'copyreg' }

/**
 * Reads the pickle at the start of `bytes`.
 *
 * @param base of `bytes` in the file, for messages
 * @returns the value, and where the pickle ends in `bytes`
 * @throws AlambicError `ERR_UNSAFE_PICKLE` for what is not understood, `ERR_FILE_FORMAT` for what is no pickle
 */
export function unpickle(
  bytes: Buffer,
  vocabulary: Vocabulary,
  file: string,
  base = 0,
  limits: PickleLimits = {},
): { value: Value; end: number } {
  const machine = new Unpickler(bytes, vocabulary, file, base, limits)
  const value = machine.run()
  // There is nothing beside it that could be read.
  if (value instanceof Unknown) throw unsafePickle(file, value.at, value.what)
  return { value, end: machine.position }
}

class Unpickler {
  position = 0
  private readonly stack: Stacked[] = []
  private readonly marks: number[] = []
  private readonly memo = new Map<number, Value>()
  private containers = 0
  private opcodeAt = 0
  private readonly maxSteps: number
  private readonly maxContainers: number

  constructor(
    private readonly bytes: Buffer,
    private readonly vocabulary: Vocabulary,
    private readonly file: string,
    private readonly base: number,
    { maxSteps = 5e7, maxContainers = 1e6 }: PickleLimits,
  ) {
    this.maxSteps = maxSteps
    this.maxContainers = maxContainers
  }

  run(): Value {
    for (let steps = 0; steps < this.maxSteps; steps++) {
      this.opcodeAt = this.position
      const opcode = this.uint8()
      if (opcode === STOP) return this.pop()
      const execute = opcodes[opcode]
      if (execute === undefined) throw this.broken('an opcode of a pickle', describeByte(opcode))
      this.execute(execute)
    }
    throw this.broken(`a pickle of at most ${this.maxSteps} steps`, 'more')
  }

  private execute(execute: Execute): void {
    try {
      execute(this)
    } catch (error) {
      if (error instanceof Malformed) throw this.broken(error.expected, error.found)
      throw error
    }
  }

  // ---- Bytes ---------------------------------------------------------------------------------------------------------

  take(length: number): Buffer {
    const end = this.position + length
    if (end > this.bytes.length) throw this.broken(`${length} bytes`, 'the end of the data')
    const taken = this.bytes.subarray(this.position, end)
    this.position = end
    return taken
  }

  uint8(): number {
    return this.take(1)[0]!
  }

  uint32(): number {
    return this.take(4).readUInt32LE()
  }

  /** A length that nothing in memory can have is refused by {@link take}. */
  uint64(): number {
    return Number(this.take(8).readBigUInt64LE())
  }

  line(encoding: 'utf8' | 'latin1' = 'utf8'): string {
    const end = this.bytes.indexOf(0x0a, this.position)
    if (end < 0 || end - this.position > MAX_LINE_BYTES) throw this.broken('a line of text', 'no end of it')
    const text = this.take(end - this.position).toString(encoding)
    this.position++
    return text
  }

  utf8(length: number): string {
    return this.take(length).toString('utf8')
  }

  integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES)
      throw this.broken(`an integer of at most ${MAX_INTEGER_BYTES} bytes`, `${length}`)
    const littleEndian = this.take(length)
    if (length === 0) return 0
    const magnitude = BigInt('0x' + Buffer.from(littleEndian).reverse().toString('hex'))
    return toNumber(BigInt.asIntN(8 * length, magnitude))
  }

  decimal(text: string): number | bigint {
    if (!/^\s*[+-]?\d{1,1000}L?\s*$/.test(text))
      throw this.broken('an integer', JSON.stringify(text.slice(0, 40)))
    return toNumber(BigInt(text.trim().replace(/L$/, '').replace(/^\+/, '')))
  }

  // ---- Stack ---------------------------------------------------------------------------------------------------------

  push(value: Value): void {
    this.stack.push(value)
  }

  pop(): Value {
    const value = this.stack.pop()
    if (value === undefined || value === MARK) throw this.broken('a value on the stack', 'none')
    return value
  }

  top(): Value {
    const value = this.stack.at(-1)
    if (value === undefined || value === MARK) throw this.broken('a value on the stack', 'none')
    return value
  }

  mark(): void {
    this.marks.push(this.stack.length)
    this.stack.push(MARK)
  }

  /** The values above the last mark, which go. */
  popToMark(): Value[] {
    const start = this.marks.pop()
    if (start === undefined || this.stack[start] !== MARK) throw this.broken('a mark on the stack', 'none')
    const values = this.stack.splice(start + 1) as Value[]
    this.stack.pop()
    return values
  }

  /** `POP` takes a mark away as well. */
  discard(): void {
    if (this.stack.at(-1) === MARK) this.popToMark()
    else this.pop()
  }

  remember(index: number): void {
    this.memo.set(index, this.top())
  }

  recall(index: number): void {
    const value = this.memo.get(index)
    if (value === undefined) throw this.broken('a value that was put into the memo', `number ${index}`)
    this.push(value)
  }

  get memoSize(): number {
    return this.memo.size
  }

  // ---- Containers ------------------------------------------------------------------------------------------------------

  pushContainer(container: Value): void {
    this.countContainer()
    this.push(container)
  }

  private countContainer(): void {
    if (++this.containers > this.maxContainers)
      throw this.broken(`a pickle of at most ${this.maxContainers} containers`, 'more')
  }

  pushTuple(length: number): void {
    const items: Value[] = []
    for (let i = 0; i < length; i++) items.unshift(this.pop())
    this.pushContainer(new Tuple(items))
  }

  append(values: readonly Value[]): void {
    const list = this.top()
    if (this.fillUnknown(list, values)) return
    if (!Array.isArray(list)) throw this.broken('a list', kindOf(list))
    for (const value of values) list.push(value)
  }

  addItems(values: readonly Value[]): void {
    const set = this.top()
    if (this.fillUnknown(set, values)) return
    if (!(set instanceof PySet)) throw this.broken('a set', kindOf(set))
    for (const value of values) set.items.push(value)
  }

  setItems(pairs: readonly Value[]): void {
    const dict = this.top()
    if (this.fillUnknown(dict, pairs)) return
    if (!(dict instanceof Dict)) throw this.broken('a dict', kindOf(dict))
    fill(dict, pairs, this)
  }

  // ---- Names -------------------------------------------------------------------------------------------------------------

  pushGlobal(module: Value, name: Value): void {
    if (typeof module !== 'string' || typeof name !== 'string')
      throw this.broken('the name of a class or function', `${kindOf(module)}, ${kindOf(name)}`)
    const qualified = `${PYTHON_2_MODULES[module] ?? module}.${name}`
    const found = this.vocabulary.find(qualified)
    if (found === undefined) this.pushUnknown(qualified, [])
    else this.push(new Reference(found))
  }

  /** What a class or function gives that is not known, or whose arguments are not. Nothing is called. */
  pushUnknown(what: string, parts: readonly Value[]): void {
    if (!this.vocabulary.passesUnknown) throw this.unsafe(what)
    const unknown = new Unknown(what, this.base + this.opcodeAt)
    this.fillUnknown(unknown, parts)
    this.pushContainer(unknown)
  }

  private fillUnknown(target: Value, parts: readonly Value[]): boolean {
    if (!(target instanceof Unknown)) return false
    for (const part of parts) if (typeof part === 'object' && part !== null) target.parts.push(part)
    return true
  }

  call(callee: Value, args: Value): void {
    if (callee instanceof Unknown) {
      this.pushUnknown(calledName(callee, args), [callee, args])
      return
    }
    if (!(callee instanceof Reference)) throw this.broken('a class or function to call', kindOf(callee))
    if (!(args instanceof Tuple)) throw this.broken('a tuple of arguments', kindOf(args))
    const { name, call } = callee.global
    if (call === undefined) {
      this.pushUnknown(`${name}(…)`, [args])
      return
    }
    this.countContainer()
    this.passing(args, () => call(args.items))
  }

  /** Pushes what `make` gives, or that it is unknown where it fails for a part of `parts` that is. */
  private passing(parts: Value, make: () => Value): void {
    let value: Value
    try {
      value = make()
    } catch (error) {
      const unknown = error instanceof Malformed ? unknownIn(parts) : undefined
      if (unknown === undefined) throw error
      this.pushUnknown(unknown.what, [parts])
      return
    }
    this.push(value)
  }

  /** The state of a dict is its attributes, such as the versions (`_metadata`) of a state dict: not part of the data. */
  build(): void {
    const state = this.pop()
    const target = this.top()
    if (this.vocabulary.build?.(target, state) || this.fillUnknown(target, [state])) return
    const attributes = state instanceof Tuple ? state.items[0] : state
    if (target instanceof Dict && (attributes instanceof Dict || attributes === null)) return
    throw this.unsafe(state instanceof Unknown ? state.what : `the state of ${kindOf(target)}`)
  }

  load(id: Value): void {
    this.passing(id, () => this.vocabulary.load(id))
  }

  // ---- Errors ------------------------------------------------------------------------------------------------------------

  broken(expected: string, found: string): AlambicError {
    return fileError(this.file, { offset: this.base + this.opcodeAt, expected, found })
  }

  private unsafe(what: string): AlambicError {
    return unsafePickle(this.file, this.base + this.opcodeAt, what)
  }
}

/** The error for an object that is needed and not known. */
export function unsafePickle(file: string, at: number, what: string, where = ''): AlambicError {
  const kind = otherTensors.find(([function_]) => what.startsWith(`torch._utils.${function_}`))
  const [expected, wayOut] = kind
    ? ['dense tensors', `${kind[1]}: in Python, ${kind[2]}`]
    : [
        'tensors, containers, numbers and strings',
        'pickles are read, never run: in Python, save the state_dict() alone',
      ]
  return new AlambicError(
    'ERR_UNSAFE_PICKLE',
    `${file}: at byte ${at}: expected ${expected}${where === '' ? '' : ` at ${show(where)}`}, ` +
      `found ${show(what)}; ${wayOut}`,
  )
}

/** What PyTorch rebuilds tensors with that have no plain memory: the function, what it makes, and what to save instead. */
const otherTensors: readonly (readonly [rebuild: string, makes: string, wayOut: string])[] = [
  ['_rebuild_sparse', 'this makes a sparse tensor', 'save its to_dense()'],
  ['_rebuild_qtensor', 'this makes a quantized tensor', 'save its dequantize()'],
  ['_rebuild_meta', 'this makes a tensor on meta, which holds no data', 'save the weights themselves'],
  ['_rebuild_nested', 'this makes a nested tensor', 'save its unbind(), or to_padded_tensor(0)'],
]

/** Protocol 0 makes objects by a function, whose first argument is the class. */
function calledName({ what }: Unknown, args: Value): string {
  const [type] = args instanceof Tuple ? args.items : []
  return what === 'copyreg._reconstructor' && type instanceof Unknown ? `${what}(${type.what}, …)` : what
}

/** The first unknown object in a value, or in the tuples in it. */
function unknownIn(value: Value, depth = 0): Unknown | undefined {
  if (value instanceof Unknown) return value
  if (!(value instanceof Tuple) || depth > 2) return undefined
  for (const item of value.items) {
    const found = unknownIn(item, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

/** A {@link Global} as a value. */
export class Reference {
  constructor(readonly global: Global) {}
}

function fill(dict: Dict, pairs: readonly Value[], machine: Unpickler): void {
  if (pairs.length % 2 !== 0) throw machine.broken('keys and values in pairs', `${pairs.length} values`)
  for (let i = 0; i < pairs.length; i += 2) dict.map.set(pairs[i]!, pairs[i + 1]!)
}

function toNumber(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

/** Names come from the file: short, and without anything that a terminal would act upon. */
function show(name: string): string {
  return JSON.stringify(name.slice(0, 200)).slice(1, -1)
}

function describeByte(byte: number): string {
  return `byte 0x${byte.toString(16).padStart(2, '0')}`
}

export function kindOf(value: Value): string {
  if (value === null) return 'None'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Dict) return 'a dict'
  if (value instanceof Tuple) return 'a tuple'
  if (value instanceof PySet) return 'a set'
  if (value instanceof Bytes) return 'bytes'
  if (value instanceof Complex128) return 'a complex number'
  if (value instanceof Reference) return value.global.name
  if (value instanceof Unknown) return value.what
  return typeof value === 'object' ? 'a tensor or storage' : `a ${typeof value}`
}

// ---- Opcodes -----------------------------------------------------------------------------------------------------------

const STOP = 0x2e

type Execute = (machine: Unpickler) => void

/** An opcode that makes objects of classes; `pops` takes its arguments from the data and the stack. */
const unknown =
  (what: string, pops: (machine: Unpickler) => Value[]): Execute =>
  m =>
    m.pushUnknown(what, pops(m))

const byCharacter: Record<string, Execute> = {
  '(': m => m.mark(),
  '0': m => m.discard(),
  '1': m => void m.popToMark(),
  '2': m => m.push(m.top()),

  N: m => m.push(null),
  I: m => m.push(integerOrBoolean(m, m.line())),
  L: m => m.push(m.decimal(m.line())),
  J: m => m.push(m.take(4).readInt32LE()),
  K: m => m.push(m.uint8()),
  M: m => m.push(m.take(2).readUInt16LE()),
  F: m => m.push(float(m, m.line())),
  G: m => m.push(m.take(8).readDoubleBE()),
  S: m => m.push(quoted(m, m.line())),
  T: m => m.push(m.utf8(m.uint32())),
  U: m => m.push(m.utf8(m.uint8())),
  V: m => m.push(rawUnicode(m, m.line('latin1'))),
  X: m => m.push(m.utf8(m.uint32())),
  B: m => m.push(new Bytes(m.take(m.uint32()))),
  C: m => m.push(new Bytes(m.take(m.uint8()))),

  ']': m => m.pushContainer([]),
  '}': m => m.pushContainer(new Dict()),
  ')': m => m.pushContainer(new Tuple([])),
  l: m => m.pushContainer(m.popToMark()),
  t: m => m.pushContainer(new Tuple(m.popToMark())),
  d: m => {
    const dict = new Dict()
    fill(dict, m.popToMark(), m)
    m.pushContainer(dict)
  },
  a: m => {
    const value = m.pop()
    m.append([value])
  },
  e: m => m.append(m.popToMark()),
  s: m => {
    const value = m.pop()
    const key = m.pop()
    m.setItems([key, value])
  },
  u: m => m.setItems(m.popToMark()),

  g: m => m.recall(index(m, m.line())),
  h: m => m.recall(m.uint8()),
  j: m => m.recall(m.uint32()),
  p: m => m.remember(index(m, m.line())),
  q: m => m.remember(m.uint8()),
  r: m => m.remember(m.uint32()),

  c: m => {
    const module = m.line()
    m.pushGlobal(module, m.line())
  },
  R: m => {
    const args = m.pop()
    m.call(m.pop(), args)
  },
  b: m => m.build(),
  P: m => m.load(m.line()),
  Q: m => m.load(m.pop()),

  i: m => {
    const module = m.line()
    m.pushUnknown(`${module}.${m.line()}, as an instance`, m.popToMark())
  },
  o: m => {
    const [type = null, ...args] = m.popToMark()
    m.pushUnknown(type instanceof Unknown ? type.what : 'an instance of a class (OBJ)', args)
  },
}

const byCode: Record<number, Execute> = {
  0x80: m => {
    const protocol = m.uint8()
    if (protocol > 5) throw m.broken('a pickle of protocol 0 to 5', `${protocol}`)
  },
  0x81: m => {
    const args = m.pop()
    m.call(m.pop(), args)
  },
  0x82: unknown('an extension code (EXT1)', m => (m.take(1), [])),
  0x83: unknown('an extension code (EXT2)', m => (m.take(2), [])),
  0x84: unknown('an extension code (EXT4)', m => (m.take(4), [])),
  0x85: m => m.pushTuple(1),
  0x86: m => m.pushTuple(2),
  0x87: m => m.pushTuple(3),
  0x88: m => m.push(true),
  0x89: m => m.push(false),
  0x8a: m => m.push(m.integer(m.uint8())),
  0x8b: m => m.push(m.integer(m.uint32())),
  0x8c: m => m.push(m.utf8(m.uint8())),
  0x8d: m => m.push(m.utf8(m.uint64())),
  0x8e: m => m.push(new Bytes(m.take(m.uint64()))),
  0x8f: m => m.pushContainer(new PySet([])),
  0x90: m => m.addItems(m.popToMark()),
  0x91: m => m.pushContainer(new PySet(m.popToMark())),
  0x92: m => {
    const [keywords, args, type] = [m.pop(), m.pop(), m.pop()]
    const what = type instanceof Unknown ? type.what : 'an instance of a class with keywords (NEWOBJ_EX)'
    m.pushUnknown(what, [args, keywords])
  },
  0x93: m => {
    const name = m.pop()
    m.pushGlobal(m.pop(), name)
  },
  0x94: m => m.remember(m.memoSize),
  0x95: m => void m.take(8),
  0x96: m => m.push(new Bytes(m.take(m.uint64()))),
  0x97: unknown('a buffer outside of the file (NEXT_BUFFER)', () => []),
  0x98: unknown('a buffer outside of the file (READONLY_BUFFER)', m => [m.pop()]),
}

/** By code: looked up once per step. */
const opcodes: (Execute | undefined)[] = []
for (const [character, execute] of Object.entries(byCharacter)) opcodes[character.charCodeAt(0)] = execute
for (const [code, execute] of Object.entries(byCode)) opcodes[Number(code)] = execute

/** Protocol 0 wrote booleans as the integers 00 and 01. */
function integerOrBoolean(machine: Unpickler, text: string): Value {
  if (text === '00') return false
  if (text === '01') return true
  return machine.decimal(text)
}

function float(machine: Unpickler, text: string): number {
  const named: Record<string, number> = { inf: Infinity, '-inf': -Infinity, nan: NaN, '-nan': NaN }
  if (text in named) return named[text]!
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text))
    throw machine.broken('a number', JSON.stringify(text.slice(0, 40)))
  return Number(text)
}

function index(machine: Unpickler, text: string): number {
  if (!/^\d{1,10}$/.test(text))
    throw machine.broken('a number in the memo', JSON.stringify(text.slice(0, 40)))
  return Number(text)
}

/** Python 2's strings in quotes. */
function quoted(machine: Unpickler, text: string): string {
  const quote = text[0]
  if (text.length < 2 || (quote !== "'" && quote !== '"') || text.at(-1) !== quote)
    throw machine.broken('a string in quotes', JSON.stringify(text.slice(0, 40)))
  const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t', '\\': '\\', "'": "'", '"': '"' }
  return text.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|.)/g, (all, what: string) => {
    if (what.startsWith('x') && what.length === 3) return String.fromCharCode(parseInt(what.slice(1), 16))
    return escapes[what] ?? all
  })
}

/** Python's raw-unicode-escape: latin1, and escapes for the rest. */
function rawUnicode(machine: Unpickler, text: string): string {
  return text.replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_, short?: string, long?: string) => {
    const code = parseInt((short ?? long)!, 16)
    if (code > 0x10ffff) throw machine.broken('a character', code.toString(16))
    return String.fromCodePoint(code)
  })
}
