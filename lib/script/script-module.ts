import { isGradEnabled } from '../tensors/grad-mode.js'
import { AlambicError, argumentError } from '../errors.js'
import { parseFeaturePath } from '../nn/feature-path.js'
import { requireScriptPath } from '../io/other-kinds.js'
import { nearest } from '../checks/names.js'
import type {
  Handle,
  NativeRunResult,
  NativeScript,
  NativeScriptMethod,
  NativeTap,
  NativeTappedMethod,
  NativeValue,
} from '../native/contract.js'
import { native } from '../native/loader.js'
import { Module } from '../nn/module.js'
import { Parameter } from '../nn/parameter.js'
import { isMap, isPlainObject } from '../checks/realms.js'
import { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import { keyOf, Taps, type TapListener } from './taps.js'
import { listOf, oneOf, readOptions, requireKind, text, type Kind, type Kinds } from '../checks/options.js'
import { decode, encode } from './values.js'

/** A method of a {@link ScriptModule}, with types as Python writes them. */
export interface ScriptMethod {
  name: string
  arguments: { name: string; type: string; isOptional: boolean }[]
  returns: string
}

/** One line of {@link ScriptModule.summary}. */
export interface ModuleSummary {
  /** Dotted; `''` is the module itself. */
  path: string
  /** The class's name in Python. */
  type: string
  /** Elements of all parameters of the module and those below. */
  parameters: number
  /** How often the code of `forward` calls it; 0 for one that can't be captured. */
  calls: number
}

export interface FreezeOptions {
  /** Paths of layers to be captured in the result; other layers lose their names. Default: none. */
  features?: readonly string[]
  /** Whether the output or the input of these layers can be captured. Default: `'output'`. */
  io?: 'output' | 'input'
  /** Methods to keep beside `forward`. Default: none. */
  preserve?: readonly string[]
}

const freezeOptions: Kinds<FreezeOptions> = {
  features: listOf(text, 'paths of layers'),
  io: oneOf('output', 'input'),
  preserve: listOf(text, 'names of methods'),
}

/** What all views of one loaded file share. */
interface Shared {
  /** Resolves when the last asynchronous call is done: calls of one file run one after the other. */
  last: Promise<unknown>
  /** Asynchronous calls that are not done. */
  pending: number
}

interface Parts {
  script: NativeScript
  typeName: string
  path: string
  children: Map<string, ScriptModule>
  parameters: Map<string, Parameter>
  buffers: Map<string, Tensor>
  shared: Shared
  /** Taps that are part of the module's own forward. */
  frozenTaps: readonly NativeTap[] | null
}

/** The class is exported for `instanceof`; a module needs what its file gives it. */
const madeByLoading: Kind = {
  expected: 'to be made by loadTorchScript()',
  fits: parts => typeof parts === 'object' && parts !== null && isMap((parts as Parts).children),
}

/** More sets of taps than one uses in turn; each holds a compiled method. */
const mostTappedMethods = 8

/**
 * A TorchScript module, made by {@link loadTorchScript}: an `nn.Module` whose `forward` and other methods are those of
 * the file. Parameters and buffers are the file's own tensors, so it can be trained, moved and saved as any module. Its
 * parts are ScriptModules too.
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the file says what goes in and out
export class ScriptModule<Inputs extends any[] = any[], Output = any> extends Module<Inputs, Output> {
  /** The class's name in Python, such as `ResNet`. */
  readonly typeName: string
  /** The class's full name in Python, such as `torchvision.models.resnet.ResNet`. */
  readonly qualifiedName: string
  /** Dotted path from the module that was loaded; `''` for that module. */
  readonly path: string

  readonly #parts: Parts
  readonly #taps = new Map<string, Taps>()
  readonly #tapped = new Map<string, NativeTappedMethod>()
  #methods: Map<string, NativeScriptMethod> | undefined

  /** @internal */
  constructor(parts: Parts) {
    super()
    requireKind('ScriptModule', madeByLoading, parts)
    this.#parts = parts
    this.qualifiedName = readableName(parts.typeName)
    this.typeName = this.qualifiedName.slice(this.qualifiedName.lastIndexOf('.') + 1)
    this.path = parts.path
    this.#followMode()
  }

  /** Makes `training` the file's own flag. */
  #followMode(): void {
    const { script } = this.#parts
    let own = native.scriptTraining(script) ?? false
    Object.defineProperty(this, 'training', {
      enumerable: true,
      get: () => native.scriptTraining(script) ?? own,
      set: (training: boolean) => {
        if (training !== (native.scriptTraining(script) ?? own)) this.#checkIdle('training')
        own = training
        native.setScriptTraining(script, training)
      },
    })
  }

  /** Throws where an asynchronous call reads what `what` would change. */
  #checkIdle(what: string): void {
    if (this.#parts.shared.pending > 0)
      throw new AlambicError(
        'ERR_BUSY',
        `${what}: an asynchronous call of the TorchScript module ${this.typeName} is running: wait for it`,
      )
  }

  // ---- What belongs to the module ----------------------------------------------------------------------------------

  override namedChildren(): [string, ScriptModule][] {
    return [...this.#parts.children]
  }

  override children(): ScriptModule[] {
    return [...this.#parts.children.values()]
  }

  override namedModules(): [string, ScriptModule][] {
    return super.namedModules() as [string, ScriptModule][]
  }

  /** This module and all below it, each once; each knows its {@link path} and {@link typeName}. */
  override modules(): ScriptModule[] {
    return super.modules() as ScriptModule[]
  }

  override getSubmodule(path: string): ScriptModule {
    return super.getSubmodule(path) as ScriptModule
  }

  protected override child(name: string): ScriptModule | undefined {
    return this.#parts.children.get(name)
  }

  protected override ownParameters(): [string, Parameter][] {
    return [...this.#parts.parameters]
  }

  protected override ownBuffers(): [string, Tensor][] {
    return [...this.#parts.buffers]
  }

  /** libtorch keeps the file's own tensors, which meta would replace. */
  protected override checkMove(_name: string, tensor: Tensor, device: Device): void {
    this.#checkIdle('to')
    if ((tensor.device === 'meta') !== (device === 'meta'))
      throw new AlambicError(
        'ERR_NOT_IMPLEMENTED',
        `to: expected a device with data for the TorchScript module ${this.typeName}, got "${device}"`,
      )
  }

  // ---- Calling -------------------------------------------------------------------------------------------------------

  /**
   * @returns what the file's `forward` returns; see {@link call}
   * @throws AlambicError `ERR_SCRIPT` when its code raises or an operator in it fails, `ERR_ARGUMENT`
   */
  override forward(...inputs: Inputs): Output {
    return this.call('forward', ...inputs) as Output
  }

  /**
   * Calls a method by name. Arguments and results follow the method's schema: tensors, numbers, strings and booleans;
   * `null` for None; arrays for lists and tuples; objects for named tuples and dicts with string keys; Maps for other
   * dicts; names for enumerations and devices. Arguments by name go into one object at the end, under Python's names.
   *
   * @example script.call('detect', image, { threshold: 0.5 })
   */
  call(method: string, ...args: unknown[]): unknown {
    const { script } = this.#parts
    const encoded = this.#arguments(method, args)
    const taps = this.#taps.get(method)
    if (taps === undefined || !taps.isActive())
      return decode(native.runScript(script, method, encoded, undefined, false, undefined)[0])
    const tapped = this.#tappedMethod(method)
    if (!taps.replaces()) {
      const result = native.runScript(script, method, encoded, tapped, true, undefined)
      this.#show(method, result)
      return decode(result[0])
    }
    const list = this.#tapList(method)
    const callback = (index: number, value: NativeValue): NativeValue => {
      const decoded = decode(value)
      const replaced = taps.show(list[index]!, decoded)
      return replaced === decoded ? undefined : encode(replaced, 'replace')
    }
    return decode(native.runScript(script, method, encoded, tapped, false, callback)[0])
  }

  /** {@link forward} in another thread. */
  forwardAsync(...inputs: Inputs): Promise<Output> {
    return this.callAsync('forward', ...inputs) as Promise<Output>
  }

  /**
   * {@link call} in another thread, in the grad mode at the time of the call. Calls of one file run in the order in
   * which they were made. Do not change its tensors meanwhile; {@link to}, and a change of `training`, are refused until
   * all are done (`ERR_BUSY`).
   *
   * @throws AlambicError `ERR_SCRIPT`, `ERR_ARGUMENT`, as {@link call} does: the promise is rejected with it
   */
  async callAsync(method: string, ...args: unknown[]): Promise<unknown> {
    const { output } = await this.runAsync(method, args, false)
    return output
  }

  /** With `listens`, `show` tells the listeners what the taps saw. @internal */
  async runAsync(
    method: string,
    args: unknown[],
    listens: boolean,
  ): Promise<{ output: unknown; show: () => void }> {
    const held: Handle[] = [] // whoever disposes of an argument meanwhile does not take it away
    const hold = (tensor: Tensor) => {
      held.push(native.alias(tensor.handle))
      return held.at(-1)!
    }
    try {
      const encoded = this.#arguments(method, args, hold)
      const tapped = listens ? this.#tappedMethod(method) : undefined
      const result = await this.#inTurn(isGradEnabled(), () =>
        native.runScriptAsync(this.#parts.script, method, encoded, tapped, listens),
      )
      return { output: decode(result[0]), show: () => this.#show(method, result) }
    } finally {
      for (const handle of held) native.release(handle)
    }
  }

  #inTurn<T>(gradEnabled: boolean, start: () => Promise<T>): Promise<T> {
    const { shared } = this.#parts
    shared.pending++
    const turn = shared.last
      .then(() => {
        const before = native.setGradEnabled(gradEnabled)
        try {
          return start()
        } finally {
          native.setGradEnabled(before)
        }
      })
      .finally(() => shared.pending--)
    shared.last = turn.catch(() => undefined)
    return turn
  }

  /** The methods that {@link call} takes. */
  methods(): ScriptMethod[] {
    return Array.from(this.#schemas().values(), ({ name, arguments: all, returns }) => ({
      name,
      arguments: all.map(({ name, type, isOptional }) => ({ name, type, isOptional })),
      returns,
    }))
  }

  #schemas(): Map<string, NativeScriptMethod> {
    this.#methods ??= new Map(
      native.scriptMethods(this.#parts.script).map(method => [method.name, method] as const),
    )
    return this.#methods
  }

  #schema(name: string): NativeScriptMethod {
    const schemas = this.#schemas()
    const schema = schemas.get(name)
    if (schema) return schema
    const known = [...schemas.keys()]
    const near = nearest(name, known)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${this.typeName} has no method ${JSON.stringify(name)}; ` +
        (near.length > 0 ? `near names: ${near.join(', ')}` : `there are: ${known.join(', ') || 'none'}`),
    )
  }

  /** In the order of the schema, undefined where the default is meant. */
  #arguments(method: string, args: unknown[], hold?: (tensor: Tensor) => Handle): NativeValue[] {
    const { arguments: expected } = this.#schema(method)
    const last: unknown = args.at(-1)
    const isNamed = isPlainObject(last) && !(expected[args.length - 1]?.acceptsObject ?? false)
    const values: unknown[] = isNamed ? args.slice(0, -1) : [...args]
    if (values.length > expected.length)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${method}: expected ${expected.length === 0 ? 'no arguments' : `(${signature(expected)})`}, got ${values.length} values`,
      )
    if (isNamed) {
      for (const [name, value] of Object.entries(last)) {
        const index = expected.findIndex(argument => argument.name === name)
        if (index < 0)
          throw new AlambicError(
            'ERR_ARGUMENT',
            `${method}: unknown argument ${JSON.stringify(name)}; it takes (${signature(expected)})`,
          )
        if (index < args.length - 1)
          throw new AlambicError(
            'ERR_ARGUMENT',
            `${method}: ${name} was given twice, by position and by name`,
          )
        values[index] = value
      }
    }
    return Array.from(values, (value, i) => encode(value, `${method}: ${expected[i]!.name}`, hold))
  }

  // ---- Looking inside ------------------------------------------------------------------------------------------------

  /** The source of one method as TorchScript, or of all. */
  code(method?: string): string {
    if (method !== undefined) this.#schema(method)
    return native.scriptCode(this.#parts.script, method)
  }

  /** The tree of modules: path, type and number of parameters of each, and how often `forward` calls it. */
  summary(): ModuleSummary[] {
    const calls = new Map(this.calls().map(({ path, count }) => [path, count]))
    return this.namedModules().map(([path, module]) => ({
      path,
      type: module.typeName,
      parameters: module.parameterCount(),
      calls: calls.get(path) ?? 0,
    }))
  }

  /** The modules that a method calls and that can be captured, in order, with the types of inputs and output. */
  calls(
    method = 'forward',
  ): { path: string; count: number; inputs: string[]; output: string; outputs: string[] }[] {
    if (!this.#schemas().has(method)) return []
    return native.scriptCalls(this.#parts.script, method)
  }

  protected override get label(): string {
    return this.typeName
  }

  // ---- Freezing and saving -------------------------------------------------------------------------------------------

  /**
   * A copy for inference, as `torch.jit.freeze`: parameters become constants, calls of submodules are inlined,
   * batch norms are folded into convolutions. The layers in `features` can still be captured.
   *
   * @throws AlambicError `ERR_ARGUMENT` in training mode, `ERR_UNKNOWN_LAYER`
   */
  freeze(options: FreezeOptions = {}): Promise<ScriptModule<Inputs, Output>> {
    return this.#freeze(options, false)
  }

  /** {@link freeze}, and then the kernels that suit this machine, as `torch.jit.optimize_for_inference`. */
  optimizeForInference(options: FreezeOptions = {}): Promise<ScriptModule<Inputs, Output>> {
    return this.#freeze(options, true)
  }

  async #freeze(options: FreezeOptions, forInference: boolean): Promise<ScriptModule<Inputs, Output>> {
    const who = forInference ? 'optimizeForInference' : 'freeze'
    const { features = [], io = 'output', preserve = [] } = readOptions(who, options, freezeOptions)
    if (this.modules().some(module => module.training))
      throw new AlambicError('ERR_ARGUMENT', 'freeze: expected a module in eval mode; call eval() first')
    if (this.#parts.frozenTaps)
      throw new AlambicError('ERR_ARGUMENT', `freeze: this ${this.typeName} is frozen already`)
    this.#schema('forward')
    for (const name of preserve) this.#schema(name)
    const taps = features.map(path => this.#toTap(path, io))
    const frozen = await native.freezeScript(this.#parts.script, taps, preserve, true, forInference)
    return wrapScript(frozen, { frozenTaps: taps }) as ScriptModule<Inputs, Output>
  }

  /**
   * Writes the module as TorchScript, with the present values of the parameters, for `torch.jit.load`.
   *
   * @throws AlambicError `ERR_ARGUMENT` for a path with the ending of another kind of file, such as `.onnx`
   */
  async save(path: string): Promise<void> {
    if (this.#parts.frozenTaps?.length)
      throw new AlambicError(
        'ERR_ARGUMENT',
        'save: a module frozen with features is for this process only; save one frozen without',
      )
    if (typeof path !== 'string' || path === '') throw argumentError('save: path', 'a file name', path)
    requireScriptPath('save', path)
    await native.saveScript(this.#parts.script, path)
  }

  // ---- Taps: what captureFeatures goes through -------------------------------------------------------------------------

  /**
   * Shows the values at a path to a listener, until the returned function is called.
   *
   * @throws AlambicError `ERR_UNKNOWN_LAYER`
   * @internal
   */
  addTap(method: string, path: string, io: 'input' | 'output', listener: TapListener): () => void {
    this.#schema(method)
    const tap = this.#toTap(path, io)
    const taps = this.#taps.get(method) ?? new Taps()
    this.#taps.set(method, taps)
    return taps.add(tap, listener)
  }

  /** Shows what a layer gives, tensor or not. @internal */
  addWholeTap(method: string, path: string, listener: TapListener): () => void {
    const taps = this.#taps.get(method) ?? new Taps()
    this.#taps.set(method, taps)
    return taps.add({ path, input: false, argument: -1, steps: [], whole: true }, listener)
  }

  /** Puts the taps in place now rather than at the next call. @internal */
  prepareTaps(method: string): void {
    if (this.#parts.frozenTaps) this.#checkFrozen(method)
    else this.#tappedMethod(method)
  }

  #toTap(text: string, io: 'input' | 'output'): NativeTap {
    const { layer, steps } = parseFeaturePath(text)
    if (!this.#parts.frozenTaps) this.getSubmodule(layer)
    if (io === 'output') return { path: layer, input: false, argument: -1, steps }
    const [argument, ...rest] = steps
    return { path: layer, input: true, argument: argument === undefined ? -1 : Number(argument), steps: rest }
  }

  #tapList(method: string): readonly NativeTap[] {
    return this.#parts.frozenTaps ?? this.#taps.get(method)!.list()
  }

  #checkFrozen(method: string): void {
    const kept = new Set(this.#parts.frozenTaps!.map(keyOf))
    const lost = this.#taps
      .get(method)!
      .list()
      .find(tap => !kept.has(keyOf(tap)))
    if (lost === undefined && method === 'forward') return
    const names = this.#parts.frozenTaps!.map(tap => `${tap.path} (${tap.input ? 'input' : 'output'})`)
    throw new AlambicError(
      'ERR_UNKNOWN_LAYER',
      `captureFeatures: this ${this.typeName} was frozen without ${JSON.stringify(lost?.path ?? method)}; it kept ` +
        `${names.join(', ') || 'no layer'}: name it in freeze({ features })`,
    )
  }

  /** Undefined for a frozen module, whose own forward has the taps. */
  #tappedMethod(method: string): NativeTappedMethod | undefined {
    if (this.#parts.frozenTaps) return undefined
    const taps = this.#taps.get(method)!
    const key = `${method}\n${taps.key()}`
    const known = this.#tapped.get(key)
    if (known) return known
    const tapped = native.tapScript(this.#parts.script, method, taps.list())
    if (this.#tapped.size >= mostTappedMethods) this.#tapped.delete(this.#tapped.keys().next().value!)
    this.#tapped.set(key, tapped)
    return tapped
  }

  #show(method: string, [, seen]: NativeRunResult): void {
    const taps = this.#taps.get(method)
    const list = this.#tapList(method)
    for (let i = 0; i < seen.length; i += 2) {
      const value = decode(seen[i + 1])
      taps?.show(list[seen[i] as number]!, value)
    }
  }
}

function signature(expected: NativeScriptMethod['arguments']): string {
  return expected.map(({ name, type, isOptional }) => `${name}${isOptional ? '?' : ''}: ${type}`).join(', ')
}

/** Without the package of generated classes and the numbers that keep them apart. */
function readableName(qualifiedName: string): string {
  const parts = qualifiedName.split('.').filter(part => !/^(__torch__|___torch_mangle_\d+)$/.test(part))
  return parts.join('.') || 'ScriptModule'
}

/** The class around a native module and all below it. @internal */
export function wrapScript(
  script: NativeScript,
  { frozenTaps = null }: { frozenTaps?: readonly NativeTap[] | null } = {},
): ScriptModule {
  const { modules, tensors } = native.scriptTree(script)
  const isParameter = new Set(modules.flatMap(({ parameters }) => parameters.map(([, index]) => index)))
  const wrapped = tensors.map((handle, index) =>
    isParameter.has(index) ? Parameter.adopt(handle) : new Tensor(handle, false),
  )
  const shared: Shared = { last: Promise.resolve(), pending: 0 }
  const views = new Map<number, ScriptModule>()
  const view = (index: number, path: string): ScriptModule => {
    const known = views.get(index)
    if (known) return known
    const { module, typeName, children, parameters, buffers } = modules[index]!
    const made = new ScriptModule({
      script: module,
      typeName,
      path,
      children: new Map(
        children.map(([name, child]) => [name, view(child, path === '' ? name : `${path}.${name}`)]),
      ),
      parameters: new Map(parameters.map(([name, tensor]) => [name, wrapped[tensor] as Parameter])),
      buffers: new Map(buffers.map(([name, tensor]) => [name, wrapped[tensor]!])),
      shared,
      frozenTaps: path === '' ? frozenTaps : null,
    })
    views.set(index, made)
    return made
  }
  return view(0, '')
}
