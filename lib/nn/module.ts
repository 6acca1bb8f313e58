import { noGrad } from '../tensors/grad-mode.js'
import { AlambicError, argumentError, show } from '../errors.js'
import { keep, refusePromise, scope } from '../memory/memory.js'
import { nearest } from '../checks/names.js'
import { native } from '../native/loader.js'
import {
  boolean,
  callback,
  readOptions,
  requireKind,
  text,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { fromTypedArray, Tensor, toOptionKinds, type ToOptions } from '../tensors/tensor.js'
import { isMap } from '../checks/realms.js'
import type { Device, DType } from '../tensors/types.js'
import { Parameter } from './parameter.js'

/** Tensors by their dotted names, as in PyTorch: `layer1.0.conv1.weight`. */
export type StateDict = Record<string, Tensor>

export interface LoadStateDictOptions {
  /** Missing and unexpected keys are errors. Default: true. */
  strict?: boolean
  /** A prefix of the file's keys that the module's keys do not have, such as `module.` of DataParallel. */
  prefix?: string
  /** Converts a file's key (without the prefix) to the module's. */
  rename?: (key: string) => string
}

export interface BufferOptions {
  /** Whether the buffer is part of {@link Module.stateDict}. Default: true. */
  persistent?: boolean
  /** Whether it may be missing in {@link Module.loadStateDict}, which then keeps the value. Default: false. */
  optional?: boolean
}

const loadOptions: Kinds<LoadStateDictOptions> = { strict: boolean, prefix: text, rename: callback }

/** What is in it is looked at one by one. */
export const stateDict: Kind = {
  expected: 'an object of tensors by name',
  fits: value => Object.prototype.toString.call(value) === '[object Object]', // of all realms, and no promise
}

const bufferOptions: Kinds<BufferOptions> = { persistent: boolean, optional: boolean }

/** The keys that did not match, with `strict: false`. */
export interface LoadStateDictResult {
  missing: string[]
  unexpected: string[]
}

/**
 * A part of a network, with PyTorch's semantics: fields that hold a {@link Parameter}, a buffer
 * ({@link registerBuffer}) or another module belong to it, in the order in which they were assigned.
 *
 * @example
 * class Net extends nn.Module {
 *   conv = new nn.Conv2d(3, 8, 3)
 *   forward(x: Tensor) { return this.conv.forward(x).relu() }
 * }
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each module has its own inputs and outputs
export abstract class Module<Inputs extends any[] = any[], Output = any> {
  /** Set by {@link train} and {@link eval}; dropout and batch norm depend on it. */
  training = true

  readonly #buffers = new Map<string, BufferOptions>()

  abstract forward(...inputs: Inputs): Output

  // ---- What belongs to the module --------------------------------------------------------------------------------

  /**
   * Makes `this[name]` a buffer: part of the state, moved by {@link to}, but not trained. No scope releases it.
   *
   * @throws AlambicError `ERR_ARGUMENT` for a name that is empty, has a dot, or is a member of the module already, such as
   *   `forward`, and for what is neither a tensor nor null
   */
  registerBuffer(name: string, buffer: Tensor | null, options: BufferOptions = {}): void {
    readOptions('registerBuffer', options, bufferOptions)
    if (!isFreeField(this, name))
      throw argumentError('registerBuffer: name', 'a name without dots that the module does not use', name)
    if (buffer !== null && !(buffer instanceof Tensor))
      throw argumentError(`registerBuffer: ${name}`, 'a tensor or null', buffer)
    if (buffer !== null) keep(buffer)
    this.#buffers.set(name, options)
    ;(this as Record<string, unknown>)[name] = buffer
  }

  /** The direct parts, by field name. */
  namedChildren(): [string, Module][] {
    checkFields(this)
    const children = Object.entries(this).filter(
      (entry): entry is [string, Module] => entry[1] instanceof Module,
    )
    for (const [, child] of children) checkFields(child)
    return children
  }

  children(): Module[] {
    return this.namedChildren().map(([, child]) => child)
  }

  /** This module (under the path `''`) and all below it, each once, by dotted path. */
  namedModules(): [string, Module][] {
    const seen = new Set<Module>()
    const list: [string, Module][] = []
    const visit = (path: string, module: Module) => {
      if (seen.has(module)) return
      seen.add(module)
      list.push([path, module])
      for (const [name, child] of module.namedChildren()) visit(join(path, name), child)
    }
    visit('', this)
    return list
  }

  modules(): Module[] {
    return this.namedModules().map(([, module]) => module)
  }

  /** Parameters of this module and all below, each once, by dotted path. */
  namedParameters(): [string, Parameter][] {
    return unique(this.namedModules().flatMap(([path, module]) => under(path, module.ownParameters())))
  }

  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter)
  }

  namedBuffers(): [string, Tensor][] {
    return unique(this.namedModules().flatMap(([path, module]) => under(path, module.ownBuffers())))
  }

  buffers(): Tensor[] {
    return this.namedBuffers().map(([, buffer]) => buffer)
  }

  /** Its own tensors by field name, without those of children. @internal */
  ownTensors(): {
    parameters: { name: string; tensor: Parameter }[]
    buffers: { name: string; tensor: Tensor; persistent: boolean }[]
  } {
    const persistent = new Set(this.ownBuffers({ persistentOnly: true }).map(([name]) => name))
    return {
      parameters: this.ownParameters().map(([name, tensor]) => ({ name, tensor })),
      buffers: this.ownBuffers().map(([name, tensor]) => ({
        name,
        tensor,
        persistent: persistent.has(name),
      })),
    }
  }

  /** The fields that were registered as buffers, with what they hold now. @internal */
  bufferFields(): [string, Tensor | null][] {
    return Array.from(this.#buffers.keys(), name => {
      const value = (this as Record<string, unknown>)[name]
      return [name, value instanceof Tensor ? value : null]
    })
  }

  /** Puts another tensor, or none, into the field of a buffer. @internal */
  replaceBuffer(name: string, buffer: Tensor | null): void {
    if (buffer !== null) keep(buffer)
    ;(this as Record<string, unknown>)[name] = buffer
  }

  /** The parameters of this very module. Modules that do not keep them in fields override it. */
  protected ownParameters(): [string, Parameter][] {
    checkFields(this)
    return Object.entries(this).filter((entry): entry is [string, Parameter] => entry[1] instanceof Parameter)
  }

  /** The buffers of this very module. Modules that do not register them override it. */
  protected ownBuffers({ persistentOnly = false } = {}): [string, Tensor][] {
    const buffers: [string, Tensor][] = []
    for (const [name, { persistent = true }] of this.#buffers) {
      const value = (this as Record<string, unknown>)[name]
      if (value instanceof Tensor && (persistent || !persistentOnly)) buffers.push([name, value])
    }
    return buffers
  }

  /** Number of elements of all parameters. */
  parameterCount(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.numel(), 0)
  }

  /**
   * The module at a dotted path; `''` is this one.
   *
   * @throws AlambicError `ERR_UNKNOWN_LAYER`, naming the nearest paths
   */
  getSubmodule(path: string): Module {
    requireKind('getSubmodule: path', text, path)
    const names = path === '' ? [] : path.split('.')
    const found = names.reduce<Module | undefined>((module, name) => module?.child(name), this)
    if (found === undefined) throw this.unknownLayer(path)
    return found
  }

  /** The part of that name. Modules that do not keep their parts in fields override it. */
  protected child(name: string): Module | undefined {
    const value: unknown = Object.hasOwn(this, name) ? (this as Record<string, unknown>)[name] : undefined
    return value instanceof Module ? (value as Module) : undefined
  }

  private unknownLayer(path: string): AlambicError {
    const paths = this.namedModules()
      .map(([known]) => known)
      .filter(known => known !== '')
    const near = nearest(path, paths, 5)
    const offer =
      near.length > 0 ? `near names: ${near.join(', ')}` : `there are: ${paths.slice(0, 20).join(', ')}`
    return new AlambicError(
      'ERR_UNKNOWN_LAYER',
      `${this.label} has no layer ${JSON.stringify(path)}; ${offer}`,
    )
  }

  // ---- Modes -------------------------------------------------------------------------------------------------------

  /**
   * Sets training mode for this module and, by their own `train()`, for its parts. A part may override `train()`, for
   * itself and its own parts, such as a batch norm that stays frozen. {@link eval} calls `train(false)`.
   *
   * @throws AlambicError `ERR_ARGUMENT` for what is neither true nor false
   */
  train(mode = true): this {
    requireKind('train: mode', boolean, mode)
    if (switching.has(this)) return this // a part that refers to what it is a part of
    switching.add(this)
    try {
      this.training = mode
      for (const child of this.children()) child.train(mode)
    } finally {
      switching.delete(this)
    }
    return this
  }

  /** Sets evaluation mode: dropout changes nothing, batch norm uses its running statistics. */
  eval(): this {
    return this.train(false)
  }

  /**
   * Calls `body` with each part, and then with this module; parts by their own `apply()`.
   *
   * @example net.apply(module => { if (module instanceof nn.Linear) nn.init.zeros_(module.weight) })
   */
  apply(body: (module: Module) => void): this {
    requireKind('apply: body', callback, body)
    for (const child of this.children()) child.apply(body)
    body(this)
    return this
  }

  /** Sets whether the parameters are trained: `false` freezes the module. */
  requiresGrad(requiresGrad = true): this {
    requireKind('requiresGrad', boolean, requiresGrad)
    for (const parameter of this.parameters()) parameter.requiresGrad = requiresGrad
    return this
  }

  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null
  }

  /**
   * Moves parameters and buffers in place. A dtype applies to floating point tensors, `channelsLast` to those with
   * four dimensions, `channelsLast3d` to those with five.
   *
   * On `'meta'` a module computes shapes and holds no data. It cannot be moved back, TorchScript modules cannot be
   * moved there, and optimizers that were made before keep the earlier parameters.
   *
   * @example model.to('cuda'), model.to({ memoryFormat: 'channelsLast' })
   * @throws AlambicError `ERR_DEVICE`, `ERR_DTYPE`; `ERR_NOT_IMPLEMENTED` from `'meta'` to another device, and to
   *   `'meta'` for a TorchScript module, also as a part; then nothing was moved
   */
  to(target: Device | DType | ToOptions): this {
    if (typeof target !== 'string') readOptions('to', target, toOptionKinds)
    noGrad(() =>
      scope(() => {
        const wanted = targetOf(target)
        const own = this.namedModules().flatMap(([path, module]) =>
          under(path, [...module.ownParameters(), ...module.ownBuffers()]).map(([name, tensor]) => ({
            module,
            name,
            tensor,
          })),
        )
        for (const { module, name, tensor } of own) {
          checkTarget(name, tensor, wanted)
          module.checkMove(name, tensor, wanted.device ?? tensor.device)
        }
        for (const { module, tensor } of own) module.setOwnData(tensor, convert(tensor, target))
      }),
    )
    return this
  }

  /** Throws where a tensor of this very module cannot be moved, before any tensor is. */
  protected checkMove(name: string, tensor: Tensor, device: Device): void {
    if (tensor.device === 'meta' && device !== 'meta')
      throw new AlambicError(
        'ERR_NOT_IMPLEMENTED',
        `to: ${name} has no data that could be moved to ${device} (Cannot copy out of meta tensor)`,
      )
  }

  /** Gives a tensor of this very module other data. */
  protected setOwnData(tensor: Tensor, data: Tensor): void {
    native.setData(tensor.handle, data.handle)
  }

  // ---- State -------------------------------------------------------------------------------------------------------

  /**
   * Parameters and persistent buffers under PyTorch's keys. The tensors share the module's memory and are
   * detached; the caller releases them. A part contributes the result of its own `stateDict()`.
   */
  stateDict(): StateDict {
    const own = [...this.ownParameters(), ...this.ownBuffers({ persistentOnly: true })]
    return Object.fromEntries([
      ...own.map(([name, tensor]): [string, Tensor] => [name, tensor.detach()]),
      ...this.namedChildren().flatMap(([name, child]) => under(name, Object.entries(child.stateDict()))),
    ])
  }

  /**
   * In PyTorch's order: of each module its parameters, its buffers, its children. Shared tensors appear under each
   * name.
   */
  private namedState(path = ''): [string, Tensor][] {
    return [
      ...under(path, this.ownParameters()),
      ...under(path, this.ownBuffers({ persistentOnly: true })),
      ...this.namedChildren().flatMap(([name, child]) => child.namedState(join(path, name))),
    ]
  }

  private optionalState(path = ''): string[] {
    const own = Array.from(this.#buffers).filter(([, { optional = false }]) => optional)
    return [
      ...own.map(([name]) => join(path, name)),
      ...this.namedChildren().flatMap(([name, child]) => child.optionalState(join(path, name))),
    ]
  }

  /**
   * Copies the tensors of a state dict into this module's, converting dtype and device.
   *
   * @throws AlambicError `ERR_STATE_DICT`, with all keys that are missing, unexpected or ambiguous, or whose values do
   *   not fit: no tensors, released ones, another shape, another layout, quantized or nested ones for plain ones, complex
   *   numbers for real ones, `'meta'` for a device with data or the other way round; `ERR_ARGUMENT` for a dict that is no
   *   object and a `rename` that returns no string, `ERR_ASYNC_CALLBACK` for one that returns a promise. Then nothing was
   *   changed.
   */
  loadStateDict(dict: StateDict, options: LoadStateDictOptions = {}): LoadStateDictResult {
    const { strict = true, prefix = '', rename } = readOptions('loadStateDict', options, loadOptions)
    if (isMap(dict))
      throw new AlambicError(
        'ERR_ARGUMENT',
        'loadStateDict: dict: expected an object with tensors, got a Map; Object.fromEntries(map) makes one of it',
      )
    const given = new Map<string, Tensor>()
    const ambiguous: string[] = []
    requireKind('loadStateDict: dict', stateDict, dict)
    for (const [key, tensor] of Object.entries(dict)) {
      const bare = key.startsWith(prefix) ? key.slice(prefix.length) : key
      const name = rename ? renamed(rename, bare) : bare
      if (given.has(name)) ambiguous.push(name)
      given.set(name, tensor)
    }
    const own = this.namedState()
    const names = new Set(own.map(([name]) => name))
    const optional = new Set(this.optionalState())
    const missing = own.map(([name]) => name).filter(name => !given.has(name) && !optional.has(name))
    const unexpected = [...given.keys()].filter(name => !names.has(name))
    const misfits = scope(() =>
      own.flatMap(([name, tensor]) => (given.has(name) ? (misfit(name, tensor, given.get(name)) ?? []) : [])),
    )
    if (ambiguous.length + misfits.length > 0 || (strict && missing.length + unexpected.length > 0))
      throw new AlambicError(
        'ERR_STATE_DICT',
        [`loadStateDict into ${this.label}:`]
          .concat(missing.length ? `  missing keys: ${missing.join(', ')}` : [])
          .concat(unexpected.length ? `  unexpected keys: ${unexpected.join(', ')}` : [])
          .concat(commonPrefix(missing, unexpected) ?? [])
          .concat(misfitLines(misfits))
          .concat(
            ambiguous.length ? `  given more than once, by prefix or rename: ${ambiguous.join(', ')}` : [],
          )
          .join('\n'),
      )
    noGrad(() =>
      scope(() => {
        for (const [name, tensor] of own) if (given.has(name)) tensor.copy_(given.get(name)!)
      }),
    )
    return { missing, unexpected }
  }

  // ---- Display -------------------------------------------------------------------------------------------------------

  /** What messages call it. */
  protected get label(): string {
    return this.constructor.name
  }

  /** What stands between the parentheses of {@link toString}: `3, 64, kernelSize=(3, 3)`. */
  protected describe(): string {
    return ''
  }

  /** The tree of modules, as PyTorch prints it. */
  toString(): string {
    const children = this.namedChildren().map(([name, child]) =>
      `(${name}): ${child.toString()}`.replaceAll('\n', '\n  '),
    )
    if (children.length === 0) return `${this.label}(${this.describe()})`
    return `${this.label}(\n  ${children.join('\n  ')}\n)`
  }
}

/**
 * Throws where a part or parameter lies in a field that hides a member which every module has: what calls that member
 * would find the part instead. `registerBuffer` does so for buffers. Methods that override one are no parts.
 *
 * @internal
 */
export function checkFields(module: Module): void {
  for (const name of Object.keys(module)) {
    const value = (module as unknown as Record<string, unknown>)[name]
    if (!(value instanceof Module || value instanceof Parameter) || !isMember(name)) continue
    const { name: owner } = (Object.getPrototypeOf(module) as Module).constructor
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${owner}: the field ${show(name)} holds ${show(value)}, but every module has a member of that name; call the field otherwise`,
    )
  }
}

function isMember(name: string): boolean {
  return name in Module.prototype || name === 'forward' || name === 'training'
}

/** Whether a buffer can have that name: no member of the class, no parameter and no part has it. */
function isFreeField(module: Module, name: unknown): boolean {
  if (typeof name !== 'string' || name === '' || name.includes('.')) return false
  if (!Object.hasOwn(module, name)) return !(name in module)
  const value: unknown = (module as unknown as Record<string, unknown>)[name]
  return value === null || value === undefined || (value instanceof Tensor && !(value instanceof Parameter))
}

/** Modules whose `train()` is running. */
const switching = new Set<Module>()

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}

/**
 * What is to be done where all keys differ in what they begin with, as those of `DataParallel` and `torch.compile` do.
 */
function commonPrefix(missing: readonly string[], unexpected: readonly string[]): string | undefined {
  const [first] = missing
  if (first === undefined || unexpected.length === 0) return undefined
  const found = (prefix: string, wanted: readonly string[], given: ReadonlySet<string>) =>
    wanted.filter(name => given.has(prefix + name)).length
  const bestPrefix = (wanted: readonly string[], given: readonly string[]) => {
    const names = new Set(given)
    return wanted
      .slice(0, 8)
      .flatMap(name => given.filter(key => key.endsWith(name)).map(key => key.slice(0, -name.length)))
      .filter(prefix => prefix !== '' && found(prefix, wanted, names) * 2 >= wanted.length)
      .sort((a, b) => found(b, wanted, names) - found(a, wanted, names))[0]
  }
  const prefix = bestPrefix(missing, unexpected)
  if (prefix !== undefined)
    return `  with { prefix: ${show(prefix)} } ${found(prefix, missing, new Set(unexpected))} of the missing keys are there`
  const added = bestPrefix(unexpected, missing)
  return added === undefined
    ? undefined
    : `  with { rename: key => ${show(added)} + key } ${found(added, unexpected, new Set(missing))} of the missing keys are there`
}

/** The module's key for a file's key. */
function renamed(rename: (key: string) => unknown, key: string): string {
  const name = rename(key)
  refusePromise('loadStateDict: rename', name)
  if (typeof name !== 'string')
    throw argumentError('loadStateDict: rename', `a function that returns a string for ${show(key)}`, name)
  return name
}

/** Why a value can not be copied into a tensor, and the key with its details. */
interface Misfit {
  readonly why: string
  readonly what: string
}

function misfit(name: string, tensor: Tensor, value: unknown): Misfit | undefined {
  const differs = (why: string, expected: string, actual: string): Misfit => ({
    why,
    what: `${name}: expected ${expected}, got ${actual}`,
  })
  if (!(value instanceof Tensor)) return { why: 'no tensors', what: `${name}: got ${show(value)}` }
  if (value.handle === 0) return { why: 'released tensors', what: name }
  if (storage(value) !== storage(tensor)) return differs('stored otherwise', storage(tensor), storage(value))
  const [expected, actual] = [tensor, value].map(each => each.shape.join(', ')) as [string, string]
  if (expected !== actual) return differs('wrong shapes', `(${expected})`, `(${actual})`)
  if (isComplex(value) && !isComplex(tensor))
    return differs('complex numbers for real ones', tensor.dtype, value.dtype)
  if (tensor.isMeta !== value.isMeta)
    return { why: tensor.isMeta ? 'on meta, which holds no data' : 'given on meta, without data', what: name }
  if (storage(tensor) !== 'strided') return failedCopy(name, tensor, value)
  if (sharesElements(tensor))
    return { why: 'expanded in the module, so that elements share memory', what: name }
  return undefined
}

/** `'strided'`, another layout, `'quantized'` or `'nested'`: libtorch copies only within one of them. */
function storage(tensor: Tensor): string {
  if (tensor.isNested) return 'nested'
  return tensor.isQuantized ? 'quantized' : tensor.layout
}

/** Which compressed, quantized and nested tensors fit each other, only a copy tells: here into another tensor. */
function failedCopy(name: string, tensor: Tensor, value: Tensor): Misfit | undefined {
  try {
    noGrad(() => tensor.clone().copy_(value))
    return undefined
  } catch (error) {
    return { why: 'not to be copied', what: `${name}: ${(error as Error).message}` }
  }
}

function sharesElements(tensor: Tensor): boolean {
  const strides = tensor.stride()
  return tensor.numel() > 0 && tensor.shape.some((size, dim) => size > 1 && strides[dim] === 0)
}

/** One line for each reason, with all of its keys. */
function misfitLines(misfits: readonly Misfit[]): string[] {
  return [...new Set(misfits.map(({ why }) => why))].map(
    why =>
      `  ${why}: ` +
      misfits
        .filter(each => each.why === why)
        .map(({ what }) => what)
        .join(misfits.some(each => each.why === why && each.what.includes(': ')) ? '; ' : ', '),
  )
}

function under<T>(path: string, named: [string, T][]): [string, T][] {
  return named.map(([name, value]) => [join(path, name), value])
}

function unique<T>(named: [string, T][]): [string, T][] {
  const seen = new Set<T>()
  return named.filter(([, value]) => !seen.has(value) && seen.add(value))
}

/** Null is as good as left out, for callers who pass on what they have. */
interface Target {
  dtype?: DType | null | undefined
  device?: Device | undefined
}

/** What a move changes. Throws for devices and dtypes that are not there. */
function targetOf(target: Device | DType | ToOptions): Target {
  const moved = convert(fromTypedArray(new Float32Array(0), [0]), target)
  if (typeof target === 'object') return { dtype: target.dtype, device: target.device && moved.device }
  return native.dtypes().includes(target) ? { dtype: target as DType } : { device: moved.device }
}

/** A dtype has to be one that parameters can have. */
function checkTarget(name: string, tensor: Tensor, { dtype }: Target): void {
  if (dtype === undefined || dtype === null || !isFloating(tensor) || isFloatingType(dtype)) return
  throw new AlambicError('ERR_DTYPE', `to: expected a floating point dtype for ${name}, got ${dtype}`)
}

function convert(tensor: Tensor, target: Device | DType | ToOptions): Tensor {
  const converted = tensor.to(typeof target === 'object' ? fitting(tensor, target) : target)
  if (converted.dtype === tensor.dtype) return converted
  return isFloating(tensor) ? converted : tensor
}

/** That a tensor has to have for a memory format. */
const dimensions: Partial<Record<string, number>> = { channelsLast: 4, channelsLast3d: 5 }

function fitting(tensor: Tensor, { dtype, memoryFormat, ...options }: ToOptions): ToOptions {
  return {
    ...options,
    dtype: isFloating(tensor) ? dtype : undefined,
    memoryFormat: (dimensions[memoryFormat ?? ''] ?? tensor.ndim) === tensor.ndim ? memoryFormat : undefined,
  }
}

function isFloating({ dtype }: Tensor): boolean {
  return isFloatingType(dtype)
}

function isComplex({ dtype }: Tensor): boolean {
  return dtype.startsWith('complex')
}

function isFloatingType(dtype: DType): boolean {
  return dtype.startsWith('float') || dtype === 'bfloat16' || dtype.startsWith('complex')
}
