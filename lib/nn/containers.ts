import { AlambicError, argumentError, show } from '../errors.js'
import { requireKind, type Kind } from '../checks/options.js'
import { isPlainObject, typedArrayName } from '../checks/realms.js'
import type { Tensor } from '../tensors/tensor.js'
import { Module } from './module.js'

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a module takes and gives is its own matter
type AnyModule = Module<any[], any>

/** Makes a module a field, and thereby a part, of its container. */
function adopt(container: Module, name: unknown, module: unknown): void {
  const what = container.constructor.name
  if (!(module instanceof Module))
    throw argumentError(`${what}: ${typeof name === 'string' ? name : show(name)}`, 'a module', module)
  if (typeof name !== 'string' || name === '' || name.includes('.'))
    throw argumentError(
      `${what}: name`,
      'a name that is not empty and has no dot (paths are joined by dots)',
      name,
    )
  // `__proto__` is an object of the class, a module.
  if (name === '__proto__' || (name in container && !(fieldsOf(container)[name] instanceof Module)))
    throw argumentError(`${what}: name`, `a name that ${what} does not use itself`, name)
  fieldsOf(container)[name] = module
}

function fieldsOf(container: Module): Record<string, unknown> {
  return container as unknown as Record<string, unknown>
}

const iterable: Kind = {
  expected: 'an array or another iterable of modules',
  fits: value => typeof (value as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] === 'function',
}

const modulesByName: Kind = {
  expected: 'an object of modules by name, or an iterable of [name, module]',
  fits: value => typeof value === 'object' && value !== null && typedArrayName(value) === undefined,
}

const nameAndModule: Kind = {
  expected: 'an iterable of [name, module]',
  fits: value => Array.isArray(value) && value.length === 2,
}

/** A container whose modules are numbered from 0, so that paths are `0`, `1` … */
abstract class NumberedModules<
  Inputs extends unknown[],
  Output,
  M extends AnyModule = AnyModule,
> extends Module<Inputs, Output> {
  /** Number of modules. */
  get length(): number {
    return this.children().length
  }

  /**
   * The module at an index; negative counts from the last.
   *
   * @throws AlambicError `ERR_INDEX`
   */
  at(index: number): M {
    const children = this.children() as M[]
    const module = Number.isInteger(index) ? children.at(index) : undefined
    if (module === undefined || index < -children.length)
      throw new AlambicError(
        'ERR_INDEX',
        `${this.constructor.name}: expected an index from ${-children.length} to ${children.length - 1}, got ${show(index)}`,
      )
    return module
  }

  /** Adds a module at the end. */
  append(module: M): this {
    adopt(this, String(this.length), module)
    return this
  }

  [Symbol.iterator](): Iterator<M> {
    return (this.children() as M[])[Symbol.iterator]()
  }
}

/**
 * Modules one after the other, each given the output of the one before. As `torch.nn.Sequential`: by position, or by
 * name from an object.
 *
 * The first may take several inputs, as its class declares; inputs that it would not see are `ERR_ARGUMENT`.
 *
 * @example new nn.Sequential(new nn.Conv2d(3, 8, 3), new nn.ReLU())           // paths '0', '1'
 * @example new nn.Sequential({ conv: new nn.Conv2d(3, 8, 3), relu: new nn.ReLU() })
 */
export class Sequential<Inputs extends unknown[] = [Tensor], Output = Tensor> extends NumberedModules<
  Inputs,
  Output
> {
  constructor(...modules: AnyModule[] | [Record<string, AnyModule>]) {
    super()
    const [first] = modules
    const named = isPlainObject(first) ? first : modules
    for (const [name, module] of Object.entries(named)) adopt(this, name, module)
  }

  override forward(...inputs: Inputs): Output {
    const [first, ...others] = this.children()
    if (inputs.length > 1) refuseIgnored(first, inputs.length)
    if (first === undefined) return inputs[0] as Output
    let value: unknown = first.forward(...inputs)
    for (const module of others) value = module.forward(value)
    return value as Output
  }
}

/** @throws AlambicError `ERR_ARGUMENT` where the first module would see one of several inputs alone */
function refuseIgnored(first: AnyModule | undefined, count: number): void {
  if (first !== undefined && !takesOne(first)) return
  const taker = first === undefined ? '' : `, as ${first.constructor.name} takes`
  throw new AlambicError('ERR_ARGUMENT', `Sequential: forward: expected one input${taker}, got ${count}`)
}

/** Whether a module's forward is written with one parameter, and has no other way to see more. */
function takesOne(module: AnyModule): boolean {
  const { forward } = module as { forward: (this: void, ...inputs: never[]) => unknown }
  const text = Function.prototype.toString.call(forward)
  const parameters = text.slice(0, text.indexOf(')'))
  return forward.length === 1 && !/=|\.\.\./.test(parameters) && !/\barguments\b|\[native code\]/.test(text)
}

function refuseForward(container: Module): never {
  throw new AlambicError(
    'ERR_NOT_IMPLEMENTED',
    `${container.constructor.name} only holds modules: call the forward of those in it`,
  )
}

/** A list of modules, which belong to the module that holds it. As `torch.nn.ModuleList`. */
export class ModuleList<M extends AnyModule = AnyModule> extends NumberedModules<[], never, M> {
  constructor(modules: Iterable<M> = []) {
    super()
    this.extend(modules)
  }

  /** Adds modules at the end. */
  extend(modules: Iterable<M>): this {
    requireKind(`${this.constructor.name}: modules`, iterable, modules)
    for (const module of modules) this.append(module)
    return this
  }

  override forward(): never {
    return refuseForward(this)
  }
}

/** Modules by name, which belong to the module that holds it. As `torch.nn.ModuleDict`. */
export class ModuleDict extends Module<[], never> {
  constructor(modules: Record<string, AnyModule> | Iterable<readonly [string, AnyModule]> = {}) {
    super()
    const what = `${this.constructor.name}: modules`
    requireKind(what, modulesByName, modules)
    const entries = Symbol.iterator in modules ? modules : Object.entries(modules)
    for (const entry of entries) {
      requireKind(what, nameAndModule, entry)
      this.set(...entry)
    }
  }

  /** The module of that name, or undefined. */
  get(name: string): AnyModule | undefined {
    const module = typeof name === 'string' && Object.hasOwn(this, name) ? fieldsOf(this)[name] : undefined
    return module instanceof Module ? module : undefined
  }

  has(name: string): boolean {
    return this.get(name) !== undefined
  }

  /** @throws AlambicError `ERR_ARGUMENT` for a name with a dot, or one of this class's own, such as `train` */
  set(name: string, module: AnyModule): this {
    adopt(this, name, module)
    return this
  }

  /** Whether there was such a module. */
  delete(name: string): boolean {
    return this.has(name) && delete fieldsOf(this)[name]
  }

  /** Number of modules. */
  get size(): number {
    return this.children().length
  }

  keys(): string[] {
    return this.namedChildren().map(([name]) => name)
  }

  values(): AnyModule[] {
    return this.children()
  }

  entries(): [string, AnyModule][] {
    return this.namedChildren()
  }

  [Symbol.iterator](): Iterator<[string, AnyModule]> {
    return this.entries()[Symbol.iterator]()
  }

  override forward(): never {
    return refuseForward(this)
  }
}
