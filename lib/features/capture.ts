/** Intermediate features of a model, by the dotted path of the layer that makes them. */
import { AlambicError, argumentError, show } from '../errors.js'
import { parseFeaturePath, valueAt, withValueAt } from '../nn/feature-path.js'
import { currentScope, moveToScope, type OpenScope } from '../memory/memory.js'
import { aroundForward, hasOwnForward } from '../nn/around-forward.js'
import { checkFields, Module } from '../nn/module.js'
import {
  callback,
  listOf,
  module as moduleKind,
  oneOf,
  readOptions,
  requireKind,
  text,
  type Kinds,
} from '../checks/options.js'
import { ScriptModule } from '../script/script-module.js'
import { Tensor } from '../tensors/tensor.js'

/** Which value a {@link CaptureOptions.replace} is shown. */
export interface FeatureSite {
  /** The path as it was given. */
  path: string
  /** Number of the layer's call within this forward, from 0. */
  call: number
}

export interface CaptureOptions {
  /** A layer's output (default), or the first tensor it is given. */
  io?: 'output' | 'input'
  /** For a layer that runs several times in a forward: its last call (default), or a list with one tensor per call. */
  calls?: 'last' | 'all'
  /**
   * Called with each value; may return another tensor, which the model then uses and which is the feature. Gradients
   * flow through its operators.
   */
  replace?: (value: Tensor, site: FeatureSite) => Tensor | void
  /** The method to run, for a TorchScript model. Default: `'forward'`. */
  method?: string
}

/** A feature per path: a tensor, or with `calls: 'all'` one tensor per call. */
export type Features<Options extends CaptureOptions = CaptureOptions> = Record<
  string,
  Options['calls'] extends 'all' ? Tensor[] : Tensor
>

/** The output of a forward, and its features by path. */
export interface Captured<Output, Options extends CaptureOptions = CaptureOptions> {
  output: Output
  features: Features<Options>
}

/**
 * Runs a forward and returns its output and the features at the given paths, with gradients. Works for modules written
 * in TypeScript, for those of TorchScript, and for one inside the other.
 *
 * @param paths paths of layers, such as `layer1` or `layer2.0.conv1`; for a layer whose output is not a tensor, with
 *   the tensor in brackets: `lstm[0]`, `head[logits]`. With `io: 'input'` the first bracket is the argument.
 * @param input the model's input; several as an array
 * @throws AlambicError `ERR_UNKNOWN_LAYER` for a path that names no layer, or a layer that the forward did not call
 * @example const { output, features } = captureFeatures(model, ['layer1'], x); features.layer1
 */
export function captureFeatures<Output, const Options extends CaptureOptions = CaptureOptions>(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- any module can be hooked
  model: Module<any, Output>,
  paths: readonly string[],
  input: Tensor | readonly unknown[],
  options?: Options,
): Captured<Output, Options> {
  const probe = attachFeatures(model, paths, options)
  try {
    return probe.forward(input)
  } finally {
    probe.detach()
  }
}

/**
 * The persistent form of {@link captureFeatures}: attaches once, captures at each `forward`, and stores nothing
 * between.
 *
 * @example using probe = attachFeatures(model, ['layer1'], { io: 'input' }); probe.forward(x)
 */
export function attachFeatures<Output, const Options extends CaptureOptions = CaptureOptions>(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  model: Module<any, Output>,
  paths: readonly string[],
  options?: Options,
): FeatureProbe<Output, Options> {
  return new FeatureProbe(model, paths, options)
}

/** Made by {@link attachFeatures}. */
export class FeatureProbe<Output, Options extends CaptureOptions = CaptureOptions> {
  /** Of the forward that is running: what others make the model compute is not recorded. */
  private calls: Map<string, Tensor[]> | null = null
  /** Around that forward: the features outlive those that the model opens. */
  private scope: OpenScope | null = null
  private readonly restore: (() => void)[] = []
  private readonly hooked: Module

  /** @internal */
  constructor(
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    private readonly model: Module<any, Output>,
    readonly paths: readonly string[],
    private readonly options: Options = {} as Options,
  ) {
    this.hooked = model as Module
    checkArguments(this.hooked, paths, options)
    try {
      this.attach()
    } catch (error) {
      this.detach()
      throw error
    }
  }

  private attach(): void {
    const { io = 'output', method = 'forward' } = this.options
    const scripts = new Set<ScriptModule>()
    for (const [path, place] of Array.from(
      new Set(this.paths),
      path => [path, find(this.hooked, path)] as const,
    )) {
      if (place.script) scripts.add(place.script)
      const observer = this.observer(path)
      this.restore.push(
        place.script
          ? place.script.addTap(method, place.rest, io, observer)
          : hookForward(place.module, io, place.steps, observer),
      )
    }
    for (const script of scripts) script.prepareTaps(method)
  }

  /** @throws AlambicError `ERR_UNKNOWN_LAYER` when the forward did not call one of the layers */
  forward(input: Tensor | readonly unknown[]): Captured<Output, Options> {
    const inputs = inputList(input)
    return this.collecting(() => {
      const { method = 'forward' } = this.options
      if (method !== 'forward')
        return (this.model as unknown as ScriptModule).call(method, ...inputs) as Output
      return this.model.forward(...inputs)
    })
  }

  /**
   * {@link forward} in another thread, for a TorchScript model.
   *
   * @throws AlambicError `ERR_ARGUMENT` for other models, and together with `replace`
   */
  async forwardAsync(input: Tensor | readonly unknown[]): Promise<Captured<Output, Options>> {
    const { model } = this
    if (!(model instanceof ScriptModule)) throw argumentError('forwardAsync', 'a TorchScript model', model)
    if (this.options.replace)
      throw new AlambicError('ERR_ARGUMENT', 'forwardAsync: replace runs in this thread; use forward()')
    const { method = 'forward' } = this.options
    const inputs = inputList(input)
    const { output, show } = await model.runAsync(method, [...inputs], true)
    return this.collecting(() => {
      show()
      this.seeModelItself(inputs, output)
      return output as Output
    })
  }

  /** The empty path is watched where `forward` is called, which this way it is not. */
  private seeModelItself(inputs: readonly unknown[], output: unknown): void {
    for (const path of new Set(this.paths)) {
      const { layer, steps } = parseFeaturePath(path)
      if (layer !== '') continue
      const isInput = this.options.io === 'input'
      this.record(path, isInput ? inputs : output, isInput ? stepsOfInput(steps, inputs) : steps)
    }
  }

  /** Takes the hooks off again. */
  detach(): void {
    for (const undo of this.restore.splice(0).reverse()) undo()
  }

  [Symbol.dispose](): void {
    this.detach()
  }

  /** Runs a forward of the model's and collects what the layers show meanwhile. @internal */
  collecting(run: () => Output): Captured<Output, Options> {
    const calls = new Map<string, Tensor[]>()
    this.calls = calls
    this.scope = currentScope()
    try {
      const output = run()
      return { output, features: this.collect(calls) }
    } finally {
      this.calls = null
      this.scope = null
    }
  }

  private observer(path: string): Observer {
    const { steps } = parseFeaturePath(path)
    const inScript = find(this.hooked, path).script !== null
    const { io = 'output' } = this.options
    return {
      replaces: this.options.replace !== undefined,
      isActive: () => this.calls !== null,
      see: (value, at) =>
        this.record(path, value, at ?? (inScript && io === 'input' ? steps.slice(1) : steps)),
    }
  }

  /** Returns the value with which the model goes on. */
  private record(path: string, value: unknown, steps: readonly string[]): unknown {
    const feature = valueAt(value, steps)
    if (!(feature instanceof Tensor))
      throw new AlambicError(
        'ERR_ARGUMENT',
        `captureFeatures: expected the ${this.options.io ?? 'output'} of ${JSON.stringify(path)} to be a tensor, ` +
          `got ${show(feature)}; name a layer inside of it, or a tensor such as ${path}[0] or ${path}[key]`,
      )
    const list = this.calls!.get(path) ?? []
    this.calls!.set(path, list)
    const replacement = this.replacement(feature, { path, call: list.length })
    const captured = replacement ?? feature
    moveToScope(captured, this.scope)
    list.push(captured)
    return replacement === undefined ? value : withValueAt(value, steps, replacement)
  }

  /** What the callback makes the model compute is not recorded. */
  private replacement(feature: Tensor, site: FeatureSite): Tensor | undefined {
    const { calls } = this
    this.calls = null
    try {
      const replacement: unknown = this.options.replace?.(feature, site)
      if (replacement === undefined || replacement instanceof Tensor) return replacement
      throw argumentError('replace', 'a function that returns a tensor or nothing', replacement)
    } finally {
      this.calls = calls
    }
  }

  private collect(calls: Map<string, Tensor[]>): Features<Options> {
    const features: Record<string, Tensor | Tensor[]> = {}
    for (const path of this.paths) {
      const list = calls.get(path)
      if (!list)
        throw new AlambicError(
          'ERR_UNKNOWN_LAYER',
          `captureFeatures: the ${this.options.method ?? 'forward'} of ${nameOf(this.hooked)} did not call the layer ` +
            JSON.stringify(path),
        )
      features[path] = this.options.calls === 'all' ? list : list.at(-1)!
    }
    return features as Features<Options>
  }
}

/** More than a JavaScript function can be given would overflow its stack. */
const mostInputs = 1000

/** @throws AlambicError `ERR_ARGUMENT` for what is neither, before the model runs */
function inputList(input: Tensor | readonly unknown[]): readonly unknown[] {
  if (input instanceof Tensor) return [input]
  if (Array.isArray(input) && input.length <= mostInputs) return input as readonly unknown[]
  throw argumentError('captureFeatures: input', "a tensor, or an array of the model's inputs", input)
}

function nameOf(model: Module): string {
  return model instanceof ScriptModule ? model.typeName : model.constructor.name
}

const pathList = listOf(text, 'an array of paths of layers')

const captureOptions: Kinds<CaptureOptions> = {
  io: oneOf('output', 'input'),
  calls: oneOf('last', 'all'),
  replace: callback,
  method: text,
}

function checkArguments(model: Module, paths: readonly string[], options: CaptureOptions): void {
  if (model instanceof Module) checkFields(model)
  requireKind('captureFeatures: model', moduleKind, model)
  requireKind('captureFeatures: paths', pathList, paths)
  const { method } = readOptions('captureFeatures', options, captureOptions)
  if (method !== undefined && method !== 'forward' && !(model instanceof ScriptModule))
    throw argumentError('method', "'forward' for a model that is not TorchScript", method)
}

// ---- Where a path leads ----------------------------------------------------------------------------------------------

/** A module whose forward JavaScript calls, or a path inside a TorchScript module. */
type Place = { script: null; module: Module; steps: string[] } | { script: ScriptModule; rest: string }

function find(model: Module, path: string): Place {
  checkFields(model)
  const { layer, steps } = parseFeaturePath(path)
  const names = layer === '' ? [] : layer.split('.')
  // The model itself may be TorchScript, or a part of it on the way.
  let module: Module | undefined = model
  for (const [i, name] of names.entries()) {
    if (module instanceof ScriptModule)
      return {
        script: module as ScriptModule,
        rest: path.slice(names.slice(0, i).join('.').length + (i > 0 ? 1 : 0)),
      }
    module = new Map(module.namedChildren()).get(name)
    if (module === undefined) break
  }
  return { script: null, module: model.getSubmodule(layer), steps }
}

// ---- Modules in TypeScript ---------------------------------------------------------------------------------------------

interface Observer {
  isActive(): boolean
  readonly replaces: boolean
  /** `steps` to the tensor that is meant, where they are not the path's own. */
  see(value: unknown, steps?: readonly string[]): unknown
}

interface Hook {
  io: 'output' | 'input'
  steps: readonly string[]
  observer: Observer
}

const hooks = new WeakMap<Module, { set: Set<Hook>; takeOff: () => void }>()

/** Whether someone captures what the module is given or gives: then it must not be overwritten. */
export function isObserved(module: Module): boolean {
  return hooks.has(module) || observedBesides.has(module)
}

const observedBesides = new Set<Module>()

/** Runs `body` while these modules count as observed: for a file in which any layer may be captured later. */
export function asObserved<T>(modules: readonly Module[], body: () => T): T {
  for (const module of modules) observedBesides.add(module)
  try {
    return body()
  } finally {
    for (const module of modules) observedBesides.delete(module)
  }
}

/** Shows every call of a module's forward to `observer`, until the returned function is called. */
function hookForward(
  module: Module,
  io: Hook['io'],
  steps: readonly string[],
  observer: Observer,
): () => void {
  const hook = { io, steps, observer }
  let watched = hooks.get(module)
  if (!watched) hooks.set(module, (watched = watchForward(module)))
  const { set, takeOff } = watched
  set.add(hook)
  return () => {
    set.delete(hook)
    if (set.size > 0 || hooks.get(module)?.set !== set) return
    hooks.delete(module)
    takeOff()
  }
}

function watchForward(module: Module): { set: Set<Hook>; takeOff: () => void } {
  if (hasOwnForward(module))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `captureFeatures: expected forward to be a method of ${module.constructor.name}, got a field of the object`,
    )
  const set = new Set<Hook>()
  const takeOff = aroundForward(module, (forward, given) => {
    const inputs = showAll(set, 'input', given) as unknown[]
    return showAll(set, 'output', forward(...inputs))
  })
  return { set, takeOff }
}

/** Returns the value with which the model goes on. */
function showAll(set: Set<Hook>, io: Hook['io'], value: unknown): unknown {
  for (const hook of [...set])
    if (hook.io === io && hook.observer.isActive())
      value = hook.observer.see(
        value,
        io === 'input' ? stepsOfInput(hook.steps, value as unknown[]) : hook.steps,
      )
  return value
}

/** Without brackets an input is the first tensor. */
function stepsOfInput(steps: readonly string[], inputs: readonly unknown[]): readonly string[] {
  if (steps.length > 0) return steps
  return [String(inputs.findIndex(each => each instanceof Tensor))]
}
