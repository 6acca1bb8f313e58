import { enableGrad } from '../tensors/grad-mode.js'
import { AlambicError, argumentError, show } from '../errors.js'
import { nearest } from '../checks/names.js'
import type { NativeOptimizer, NativeOptimizerOptions, NativeOptimizerState } from '../native/contract.js'
import { isPlainObject } from '../memory/memory.js'
import { isMap } from '../checks/realms.js'
import { anything, boolean, callback, readOptions, requireKind } from '../checks/options.js'
import { Tensor, tensor } from '../tensors/tensor.js'
import { refuseAsync } from './callbacks.js'
import { fromJson, tensorFromJson, withJson } from './json.js'
import { handlesOf, refuseHoles, toList } from './params.js'
import { roundingOf } from './rounding.js'
import { stateError } from './stateError.js'

/** Options that all optimizers have. */
export interface OptimizerOptions {
  /** Learning rate, a finite number of at least 0. Default: 1e-3. */
  lr?: number
  /** Maximizes the objective instead of minimizing it. Default: false. */
  maximize?: boolean
  /** true: libtorch's fused kernel or an error; false: never. Default: where there is one for dtype and device. */
  fused?: boolean
  /** true: libtorch's multi-tensor operators; false: never. Default: where there is no fused kernel. */
  foreach?: boolean
}

/** Options as an optimizer keeps them: none is missing, except the choice of kernels. */
export type Complete<Options> = Required<Omit<Options, 'fused' | 'foreach'>> &
  Pick<Options, Extract<keyof Options, 'fused' | 'foreach'>>

/** What schedules write into a group besides its options; part of the state dict, as in PyTorch. */
export interface ScheduleFields {
  /** The learning rate that a schedule started from. */
  initialLr?: number
  maxLr?: number
  minLr?: number
  maxMomentum?: number
  baseMomentum?: number
}

/** Parameters with options of their own. Options may be changed at any time: the next step reads them. */
export type ParamGroup<Options> = Complete<Options> & ScheduleFields & { readonly params: readonly Tensor[] }

/** A group as it is given. Options that it leaves out are the optimizer's. */
export type ParamGroupInit<Options> = Options & ScheduleFields & { params: Tensor | readonly Tensor[] }

/**
 * An array of parameters, or an array of groups of them, not both in one. Another iterable, such as a generator, is run
 * through once.
 *
 * @example [weight, bias], [{ params: backbone, lr: 1e-4 }, { params: head }]
 */
export type Params<Options> =
  | readonly Tensor[]
  | readonly ParamGroupInit<Options>[]
  | IterableIterator<Tensor>
  | IterableIterator<ParamGroupInit<Options>>

/**
 * A state dict with PyTorch's structure and names, so that either can load the other's. In JSON a tensor is
 * `{ dtype, shape, data }`, and numbers that JSON does not have are strings.
 */
export interface OptimizerStateDict {
  /** State by the parameter's number in `param_groups`. */
  state: Record<string, Record<string, Tensor | number | null>>
  param_groups: ({ params: number[] } & Record<string, unknown>)[]
}

const scheduleFields = ['initialLr', 'maxLr', 'minLr', 'maxMomentum', 'baseMomentum'] as const
/** A matter of the machine, not of the training: not saved. */
const kernelChoices = ['fused', 'foreach']
/** What PyTorch saves with a group besides, and no step here depends on. */
const foreignFields = [
  'fused',
  'foreach',
  'capturable',
  'differentiable',
  'decoupled_weight_decay',
  'param_names',
  'swa_lr',
]

/**
 * Base class of the optimizers. The state (momentum and the like) is kept in native memory, in the dtype, on the device
 * and in the memory format of its parameter, and is made when a parameter's first gradient arrives. While a compiled
 * step in another thread uses an optimizer, its methods throw `ERR_BUSY`.
 */
export abstract class Optimizer<Options extends OptimizerOptions = OptimizerOptions> {
  /** Options of groups that do not give them. */
  readonly defaults: Complete<Options>
  private readonly groups: ParamGroup<Options>[] = []

  /** @internal */
  constructor(
    private readonly native: NativeOptimizer<NativeOptimizerOptions>,
    params: Params<Options>,
    defaults: Complete<Options>,
    options: Options,
  ) {
    if (new.target === Optimizer)
      throw new AlambicError(
        'ERR_ARGUMENT',
        'Optimizer: expected one of its classes, such as optim.SGD, got it itself',
      )
    refuseUnknownOptions(this, options, defaults)
    this.defaults = { ...defaults, ...defined(options) }
    if (isIterable(params)) params = Array.from<unknown>(params) as unknown as Params<Options>
    if (!Array.isArray(params))
      throw argumentError('params', 'an array of tensors or of groups { params, lr, … }', params)
    if (params.length === 0)
      throw new AlambicError('ERR_ARGUMENT', 'params: expected at least one parameter, got []')
    refuseHoles('params', params)
    const list = params as readonly (Tensor | ParamGroupInit<Options>)[]
    if (list.some(each => each instanceof Tensor))
      this.addParamGroup({ params: list } as unknown as ParamGroupInit<Options>)
    else for (const group of list) this.addParamGroup(group as ParamGroupInit<Options>)
  }

  /** The groups, each with all its options: `optimizer.paramGroups[0].lr = 1e-4`. */
  get paramGroups(): readonly ParamGroup<Options>[] {
    return this.groups
  }

  /**
   * Adds a group of parameters with options of its own.
   *
   * @throws AlambicError `ERR_AUTOGRAD` for a parameter that is no leaf, `ERR_ARGUMENT` for one that is in a group
   *   already and for options out of range; then nothing was added
   */
  addParamGroup(init: ParamGroupInit<Options>): void {
    if (typeof init !== 'object' || init === null || !('params' in init))
      throw argumentError('params', 'tensors, or groups { params, lr, … }, and not both', init)
    const { params, ...options } = init
    refuseUnknownOptions(this, options, this.defaults)
    checkScheduleFields(options)
    const list = toList(params)
    const group = { params: Object.freeze([...list]), ...copied({ ...this.defaults, ...defined(options) }) }
    this.native.addGroup(handlesOf(list), group as unknown as NativeOptimizerOptions)
    this.groups.push(group)
  }

  /**
   * Updates every parameter that has a gradient, in one native call.
   *
   * @param closure called first, with gradients recorded, as in Python: it clears the gradients, computes the loss,
   *   calls `backward()` and returns the loss
   * @returns what the closure returned
   * @throws AlambicError `ERR_TENSOR_RELEASED` when a parameter was disposed of, `ERR_NOT_IMPLEMENTED` for sparse
   *   gradients, `ERR_ARGUMENT` for options out of range and for an expanded parameter, `ERR_SHAPE_MISMATCH` when a
   *   parameter was given another shape in place since its state was made, `ERR_ASYNC_CALLBACK` when the closure returns
   *   a promise; then no parameter was changed
   */
  step(): void
  step<Result>(closure: () => Result): Result
  step<Result>(closure?: () => Result): Result | undefined {
    if (closure !== undefined) requireKind('step: closure', callback, closure)
    const result = closure === undefined ? undefined : enableGrad(() => runClosure(closure))
    this.native.step(this.groups as unknown as NativeOptimizerOptions[])
    return result
  }

  /** Hands over the options for a step in another thread, and what takes it. @internal */
  prepareStep(): NativeOptimizer<NativeOptimizerOptions> {
    this.native.prepareStep(this.groups as unknown as NativeOptimizerOptions[])
    return this.native
  }

  /** Clears all gradients: their memory is released, or with `setToNone: false` filled with 0. */
  zeroGrad(options: { setToNone?: boolean } = {}): void {
    const { setToNone = true } = readOptions('zeroGrad', options, { setToNone: boolean })
    this.native.zeroGrad(setToNone)
  }

  /**
   * Options and state. The tensors share the optimizer's memory, so later steps change them. `JSON.stringify` keeps
   * everything that {@link loadStateDict} needs.
   */
  stateDict(): OptimizerStateDict {
    const state: OptimizerStateDict['state'] = {}
    this.native.state().forEach((entries, index) => {
      const tensors = Object.entries(entries).map(([name, handle]) => [name, new Tensor(handle)] as const)
      if (tensors.length > 0) state[index] = withJson(Object.fromEntries(tensors))
    })
    let next = 0
    const groups = this.groups.map(({ params, ...options }) =>
      withJson({ ...snakeCased(copied(options), kernelChoices), params: params.map(() => next++) }),
    )
    return { state, param_groups: groups }
  }

  /**
   * Loads options and state; tensors are copied to the dtype and device of their parameters, and training goes on bit
   * for bit. Takes PyTorch's state dicts too, and those that `JSON.parse` returns. Options that a saved group does not
   * have are unchanged; it needs `lr`.
   *
   * @throws AlambicError `ERR_STATE_DICT` when groups, their sizes or shapes differ, for options of the wrong type or
   *   out of range, for options and state that this optimizer does not know, and for entries and elements that are
   *   missing or of another kind, by their place; then nothing was changed
   */
  loadStateDict(dict: OptimizerStateDict): void {
    const saved = savedGroups(dict)
    checkSizes(
      this.groups.map(({ params }) => params.length),
      saved.map(({ params }) => params.length),
    )
    const numbers = saved.flatMap(({ params }) => params).map(String)
    checkNumbers(numbers, dict.state)
    const loaded = saved.map((group, i) => {
      this.checkSavedGroup(group, `param_groups[${i}]`)
      return knownOptions(group, this, `param_groups[${i}]`)
    })
    const groups = this.groups.map((group, i) => ({ ...group, ...loaded[i] }))
    const made: Tensor[] = []
    try {
      const states = saved.flatMap((group, i) =>
        group.params.map(number => {
          const where = `state[${number}]`
          const state = dict.state[number]
          if (state === undefined) return {}
          const handles = nativeState(state, where, made)
          if (Object.keys(handles).length === 0) this.checkEmptyState(state, groups[i]!, group, where)
          return handles
        }),
      )
      this.native.loadState(states, groups as unknown as NativeOptimizerOptions[])
    } finally {
      for (const each of made) each.dispose()
    }
    this.groups.forEach((group, i) => Object.assign(group, loaded[i]))
  }

  private checkEmptyState(state: object, group: ParamGroup<Options>, saved: SavedGroup, where: string): void {
    if (!this.keepsState(group, state) || savedByPython(saved)) return
    throw stateError(
      `${where}: expected the state of a parameter, got ${show(state)} without any; ` +
        'a parameter that has taken no step has no entry',
    )
  }

  /** Whether every step of such a group leaves something; `saved` has no tensor. */
  protected abstract keepsState(group: ParamGroup<Options>, saved: object): boolean

  /** Refuses what only an optimizer of another kind can have saved. */
  protected checkSavedGroup(_group: Record<string, unknown>, _where: string): void {}
}

function runClosure<Result>(closure: () => Result): Result {
  const result = closure()
  refuseAsync('step: closure', 'the loss', result)
  return result
}

/** As Python, which takes a generator: `model.parameters()` is one there. A tensor iterates over its rows. */
function isIterable(params: unknown): params is Iterable<unknown> {
  if (typeof params !== 'object' || params === null || Array.isArray(params)) return false
  return !(params instanceof Tensor) && !isMap(params) && Symbol.iterator in params
}

/** Without those that are undefined, which would hide a default. */
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>
}

/** With arrays of its own, which nobody else can change. */
function copied<T extends object>(options: T): T {
  return Object.fromEntries(
    Object.entries(options).map(([name, value]: [string, unknown]) => [
      name,
      Array.isArray(value) ? Array.from(value as unknown[]) : value,
    ]),
  ) as T
}

function checkScheduleFields(options: object): void {
  for (const name of scheduleFields) {
    const value = (options as Record<string, unknown>)[name]
    if (value !== undefined && !Number.isFinite(value)) throw argumentError(name, 'a finite number', value)
  }
}

/** The values native code checks: they may be changed in the groups. */
function refuseUnknownOptions(optimizer: object, options: object, defaults: object): void {
  const known = [...Object.keys(defaults), ...scheduleFields, ...kernelChoices]
  readOptions<object>(
    optimizer.constructor.name,
    options,
    Object.fromEntries(known.map(name => [name, anything])),
  )
}

function checkSizes(own: number[], saved: number[]): void {
  if (own.length === saved.length && own.every((size, i) => size === saved[i])) return
  throw stateError(`expected groups of ${own.join(', ')} parameters, got ${saved.join(', ') || 'none'}`)
}

type SavedGroup = OptimizerStateDict['param_groups'][number]

function savedGroups(dict: unknown): SavedGroup[] {
  if (typeof dict !== 'object' || dict === null || Array.isArray(dict))
    throw stateError(`expected { state, param_groups }, got ${show(dict)}`)
  const { state, param_groups: groups } = dict as Record<string, unknown>
  if (state === undefined && groups === undefined)
    throw stateError(`expected { state, param_groups }, got ${show(dict)}`)
  if (!isPlainObject(state))
    throw stateError(`state: expected an object of states by the numbers of parameters, got ${show(state)}`)
  if (!Array.isArray(groups))
    throw stateError(`param_groups: expected an array of groups, got ${show(groups)}`)
  Array.from(groups as unknown[]).forEach((group, i) => {
    checkGroup(group, `param_groups[${i}]`)
  })
  return groups as SavedGroup[]
}

function checkGroup(group: unknown, where: string): void {
  if (!isPlainObject(group))
    throw stateError(`${where}: expected a group { params, lr, … }, got ${show(group)}`)
  const { params, lr } = group
  if (!Array.isArray(params) || !Array.from(params as unknown[]).every(isNumberOfParameter))
    throw stateError(`${where}.params: expected numbers of parameters, got ${show(params)}`)
  if (lr === undefined) throw stateError(`${where}.lr: expected a number, but the group has none`)
}

function isNumberOfParameter(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Each parameter has a number of its own, and all state belongs to one of them. */
function checkNumbers(numbers: string[], state: object): void {
  const known = new Set(numbers)
  if (known.size < numbers.length)
    throw stateError(`params: expected a number for each parameter, got ${numbers.join(', ')}`)
  const stray = Object.keys(state).find(number => !known.has(number))
  if (stray !== undefined) throw stateError(`state[${stray}]: no group has a parameter of that number`)
}

/** What is no tensor yet (counts of old checkpoints, JSON) becomes one, and is added to `made`. */
function nativeState(entries: object, where: string, made: Tensor[]): NativeOptimizerState {
  if (!isPlainObject(entries))
    throw stateError(`${where}: expected an object of tensors, got ${show(entries)}`)
  const handles: NativeOptimizerState = {}
  for (const [name, value] of Object.entries(entries)) {
    if (value === null || value === undefined) continue
    if (value instanceof Tensor) {
      handles[name] = value.handle
      continue
    }
    const plain = fromJson(value)
    const converted = typeof plain === 'number' ? tensor(plain) : tensorFromJson(value, `${where}.${name}`)
    if (converted === undefined) throw stateError(`${where}.${name}: expected a tensor, got ${show(value)}`)
    made.push(converted)
    handles[name] = converted.handle
  }
  return handles
}

/** PyTorch saves an empty entry for a parameter without state that somebody has asked for. */
function savedByPython(group: SavedGroup): boolean {
  return 'foreach' in group || 'differentiable' in group
}

/** Which optimizer has an option, by its name in Python. */
const owners = new Map([
  ...['momentum', 'dampening', 'nesterov'].map(name => [name, 'SGD'] as const),
  ...['betas', 'eps', 'amsgrad'].map(name => [name, 'Adam'] as const),
])

function unknownSavedOption(key: string, known: Iterable<string>, { constructor }: object): string {
  const owner = owners.get(key)
  if (owner !== undefined)
    return `this optimizer has no such option, ${owner} has; expected the state of an optimizer of class ${constructor.name}`
  const [near] = nearest(key, known, 1)
  return `this optimizer has no such option${near === undefined ? '' : `; did you mean ${near}?`}`
}

/** The options of a saved group by their names in JavaScript. */
function knownOptions(
  saved: SavedGroup,
  optimizer: { readonly defaults: object },
  where: string,
): Record<string, unknown> {
  const names = [...Object.keys(optimizer.defaults), ...scheduleFields].filter(
    name => !kernelChoices.includes(name),
  )
  const byKey = new Map(names.map(name => [snakeCase(name), name]))
  const options: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(saved)) {
    const name = byKey.get(key)
    if (name !== undefined) {
      if (value !== undefined) options[name] = plainOption(value)
    } else if (key !== 'params' && !foreignFields.includes(key))
      throw stateError(`${where}.${key}: ${unknownSavedOption(key, byKey.keys(), optimizer)}`)
  }
  try {
    checkScheduleFields(options)
  } catch (error) {
    throw stateError(`${where}.${(error as Error).message}`)
  }
  const { lr, initialLr } = options
  // As PyTorch's schedules that end at 0 leave it.
  if (typeof lr === 'number' && lr < 0 && lr >= -roundingOf((initialLr as number | undefined) ?? 0))
    options['lr'] = 0
  return options
}

/** PyTorch saves a learning rate that is a tensor as one. */
function plainOption(value: unknown): unknown {
  if (value instanceof Tensor) return value.numel() === 1 ? value.item() : value
  if (Array.isArray(value)) return value.map(plainOption)
  return fromJson(value)
}

function snakeCased(options: object, without: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options)
      .filter(([name, value]) => value !== undefined && !without.includes(name))
      .map(([name, value]) => [snakeCase(name), value]),
  )
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
}
