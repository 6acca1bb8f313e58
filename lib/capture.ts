/** Intermediate features of a model, by the dotted path of the layer that makes them. */
import { AlambicError, argumentError, show } from './errors.js'
import { Module } from './nn/module.js'
import { Tensor } from './tensor.js'

export interface CaptureOptions {
  /** A layer's output (default), or the first tensor it is given. */
  io?: 'output' | 'input'
  /** For a layer that runs several times in a forward: its last call (default), or a list with one tensor per call. */
  calls?: 'last' | 'all'
}

/** A feature per path: a tensor, or with `calls: 'all'` one tensor per call. */
export type Features<Options extends CaptureOptions = CaptureOptions> = Record<
  string,
  Options['calls'] extends 'all' ? Tensor[] : Tensor
>

export interface Captured<Output, Options extends CaptureOptions = CaptureOptions> {
  output: Output
  features: Features<Options>
}

/**
 * Runs a forward and returns with its output the features at the given paths, gradients included.
 *
 * @param paths of layers, such as `layer1` or `layer2.0.conv1`
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
 * The persistent form of {@link captureFeatures}: attaches once, captures at each `forward`, keeps nothing between.
 *
 * @example using probe = attachFeatures(model, ['layer1'], { io: 'input' }); probe.forward(x)
 */
export function attachFeatures<Output, const Options extends CaptureOptions = CaptureOptions>(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  model: Module<any, Output>,
  paths: readonly string[],
  options?: Options,
): FeatureProbe<Output, Options> {
  return new FeatureProbe(model, paths, options ?? ({} as Options))
}

/** Made by {@link attachFeatures}. */
export class FeatureProbe<Output, Options extends CaptureOptions = CaptureOptions> {
  /** Of the forward that is running: what others make the model compute is not recorded. */
  private calls: Map<string, Tensor[]> | null = null
  private readonly restore: (() => void)[] = []

  /** @internal */
  constructor(
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    private readonly model: Module<any, Output>,
    readonly paths: readonly string[],
    private readonly options: Options,
  ) {
    const { io = 'output', calls = 'last' } = options
    if (io !== 'output' && io !== 'input') throw argumentError('io', "'output' or 'input'", io)
    if (calls !== 'last' && calls !== 'all') throw argumentError('calls', "'last' or 'all'", calls)
    // All are known before one is hooked.
    const targets = Array.from(new Set(paths), path => [path, model.getSubmodule(path)] as const)
    for (const [path, module] of targets)
      this.restore.push(hookForward(module, (inputs, output) => this.record(path, inputs, output)))
  }

  /** @throws AlambicError `ERR_UNKNOWN_LAYER` when the forward did not call one of the layers */
  forward(input: Tensor | readonly unknown[]): Captured<Output, Options> {
    const calls = new Map<string, Tensor[]>()
    this.calls = calls
    try {
      const inputs = input instanceof Tensor ? [input] : input
      const output = this.model.forward(...inputs)
      return { output, features: this.collect(calls) }
    } finally {
      this.calls = null
    }
  }

  /** Takes the hooks off again. */
  detach(): void {
    for (const undo of this.restore.splice(0).reverse()) undo()
  }

  [Symbol.dispose](): void {
    this.detach()
  }

  private record(path: string, inputs: unknown[], output: unknown): void {
    if (this.calls === null) return
    const value = this.options.io === 'input' ? inputs.find(each => each instanceof Tensor) : output
    if (!(value instanceof Tensor))
      throw new AlambicError(
        'ERR_ARGUMENT',
        `captureFeatures: expected the ${this.options.io ?? 'output'} of ${JSON.stringify(path)} to be a tensor, ` +
          `got ${show(value)}; name a layer inside of it`,
      )
    const list = this.calls.get(path)
    if (list) list.push(value)
    else this.calls.set(path, [value])
  }

  private collect(calls: Map<string, Tensor[]>): Features<Options> {
    const features: Record<string, Tensor | Tensor[]> = {}
    for (const path of this.paths) {
      const list = calls.get(path)
      if (!list)
        throw new AlambicError(
          'ERR_UNKNOWN_LAYER',
          `captureFeatures: the forward of ${this.model.constructor.name} did not call the layer ${JSON.stringify(path)}`,
        )
      features[path] = this.options.calls === 'all' ? list : list.at(-1)!
    }
    return features as Features<Options>
  }
}

type Observer = (inputs: unknown[], output: unknown) => void

const observers = new WeakMap<Module, Set<Observer>>()

/** Whether someone captures what the module is given or gives: then it must not be overwritten. */
export function isObserved(module: Module): boolean {
  return observers.has(module)
}

/** Shows every call of a module's forward to `observer`, until the returned function is called. */
function hookForward(module: Module, observer: Observer): () => void {
  let set = observers.get(module)
  if (!set) observers.set(module, (set = watchForward(module)))
  set.add(observer)
  return () => {
    set.delete(observer)
    if (set.size > 0 || observers.get(module) !== set) return
    observers.delete(module)
    delete (module as { forward?: unknown }).forward
  }
}

/** Puts a forward that tells its observers before the class's own. */
function watchForward(module: Module): Set<Observer> {
  const set = new Set<Observer>()
  const prototype = Object.getPrototypeOf(module) as Module
  const own = Object.getOwnPropertyDescriptor(module, 'forward')
  if (own)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `captureFeatures: expected forward to be a method of ${module.constructor.name}, got a field of the object`,
    )
  Object.defineProperty(module, 'forward', {
    configurable: true,
    enumerable: false,
    value: (...inputs: unknown[]): unknown => {
      const output: unknown = prototype.forward.apply(module, inputs)
      for (const observer of set) observer(inputs, output)
      return output
    },
  })
  return set
}
