import { AlambicError, argumentError, show } from '../errors.js'
import type { NativeOptimizer, NativeOptimizerOptions, NativeOptimizerState } from '../native/contract.js'
import { anything, boolean, readOptions } from '../options.js'
import { Tensor, tensor } from '../tensor.js'
import { handlesOf, toList } from './params.js'

/** What every optimizer's options have in common. */
export interface OptimizerOptions {
  /** Learning rate, not negative. Default: 1e-3. */
  lr?: number
  /** Climbs instead of descending. Default: false. */
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

/** A group as it is given: what is left out is the optimizer's. */
export type ParamGroupInit<Options> = Options & ScheduleFields & { params: Tensor | readonly Tensor[] }

/**
 * Parameters, or groups of them. One array holds either the one or the other.
 *
 * @example [weight, bias], [{ params: backbone, lr: 1e-4 }, { params: head }]
 */
export type Params<Options> = readonly Tensor[] | readonly ParamGroupInit<Options>[]

/** PyTorch's structure and names, so that checkpoints travel between the two. */
export interface OptimizerStateDict {
  /** By the parameter's number in `param_groups`. */
  state: Record<string, Record<string, Tensor | number | null>>
  param_groups: ({ params: number[] } & Record<string, unknown>)[]
}

const scheduleFields = ['initialLr', 'maxLr', 'minLr', 'maxMomentum', 'baseMomentum'] as const
/** A matter of the machine, not of the training: not saved. */
const kernelChoices = ['fused', 'foreach']

/**
 * Base of the optimizers. The state (momentum and the like) lives in native memory, in the dtype, on the device and in
 * the memory format of its parameter, and is made when a parameter's first gradient arrives.
 */
export abstract class Optimizer<Options extends OptimizerOptions = OptimizerOptions> {
  /** What groups are completed with. */
  readonly defaults: Complete<Options>
  private readonly groups: ParamGroup<Options>[] = []

  /** @internal */
  constructor(
    private readonly native: NativeOptimizer<NativeOptimizerOptions>,
    params: Params<Options>,
    defaults: Complete<Options>,
    options: Options,
  ) {
    refuseUnknownOptions(this, options, defaults)
    this.defaults = { ...defaults, ...defined(options) }
    if (!Array.isArray(params))
      throw argumentError('params', 'an array of tensors or of groups { params, lr, … }', params)
    if (params.length === 0)
      throw new AlambicError('ERR_ARGUMENT', 'params: expected at least one parameter, got []')
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
   * @throws AlambicError `ERR_AUTOGRAD` for a parameter that is no leaf, `ERR_ARGUMENT` for one that is in a group
   *   already and for options out of range; then nothing was added
   */
  addParamGroup(init: ParamGroupInit<Options>): void {
    if (typeof init !== 'object' || init === null || !('params' in init))
      throw argumentError('params', 'tensors, or groups { params, lr, … }, and not both', init)
    const { params, ...options } = init
    refuseUnknownOptions(this, options, this.defaults)
    const list = toList(params)
    const group = { params: Object.freeze([...list]), ...this.defaults, ...defined(options) }
    this.native.addGroup(handlesOf(list), group as unknown as NativeOptimizerOptions)
    this.groups.push(group)
  }

  /**
   * Updates every parameter that has a gradient, in one native call.
   *
   * @throws AlambicError `ERR_TENSOR_RELEASED` when a parameter was disposed of, `ERR_NOT_IMPLEMENTED` for sparse
   *   gradients, `ERR_ARGUMENT` for options out of range
   */
  step(): void {
    this.native.step(this.groups as unknown as NativeOptimizerOptions[])
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

  /** Options and state. The tensors share the optimizer's memory: later steps change them. */
  stateDict(): OptimizerStateDict {
    const state: OptimizerStateDict['state'] = {}
    this.native.state().forEach((entries, index) => {
      const tensors = Object.entries(entries).map(([name, handle]) => [name, new Tensor(handle)] as const)
      if (tensors.length > 0) state[index] = Object.fromEntries(tensors)
    })
    let next = 0
    const groups = this.groups.map(({ params, ...options }) => ({
      ...snakeCased(options, kernelChoices),
      params: params.map(() => next++),
    }))
    return { state, param_groups: groups }
  }

  /**
   * Takes over options and state, copying the tensors to the dtype and device of their parameters; training goes on
   * bit for bit. Takes PyTorch's state dicts too.
   *
   * @throws AlambicError `ERR_STATE_DICT` when groups, their sizes or shapes differ; then nothing was changed
   */
  loadStateDict(dict: OptimizerStateDict): void {
    const saved = dict?.param_groups
    if (!Array.isArray(saved) || typeof dict.state !== 'object')
      throw new AlambicError(
        'ERR_STATE_DICT',
        `loadStateDict: expected { state, param_groups }, got ${show(dict)}`,
      )
    checkSizes(
      this.groups.map(({ params }) => params.length),
      saved.map(({ params }) => params.length),
    )
    const numbers = saved.flatMap(({ params }) => params)
    const made: Tensor[] = []
    try {
      this.native.loadState(numbers.map(number => nativeState(dict.state[number] ?? {}, made)))
    } finally {
      for (const each of made) each.dispose()
    }
    this.groups.forEach((group, i) => Object.assign(group, knownOptions(saved[i]!, this.defaults)))
  }
}

/** Without those that are undefined, which would hide a default. */
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>
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
  throw new AlambicError(
    'ERR_STATE_DICT',
    `loadStateDict: expected groups of ${own.join(', ')} parameters, got ${saved.join(', ') || 'none'}`,
  )
}

/** Numbers (counts of old checkpoints) become tensors, which are added to `made`. */
function nativeState(entries: Record<string, Tensor | number | null>, made: Tensor[]): NativeOptimizerState {
  const handles: NativeOptimizerState = {}
  for (const [name, value] of Object.entries(entries)) {
    if (value === null) continue
    if (typeof value === 'number') made.push(tensor(value))
    handles[name] = (value instanceof Tensor ? value : made.at(-1)!).handle
  }
  return handles
}

/** Of a saved group, the options that this optimizer knows, by their names in JavaScript. */
function knownOptions(saved: Record<string, unknown>, defaults: object): Record<string, unknown> {
  const names = [...Object.keys(defaults), ...scheduleFields].filter(name => !kernelChoices.includes(name))
  return Object.fromEntries(
    names.filter(name => saved[snakeCase(name)] !== undefined).map(name => [name, saved[snakeCase(name)]]),
  )
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
