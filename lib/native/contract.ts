/**
 * Everything that the native addon exports, and the only description of it: nothing but the modules under `lib/`
 * that wrap these functions may call them. Each group is implemented by the file of `native/` named in its comment.
 *
 * Every function raises an AlambicError (with a code of `docs/errors.md`) for input it can't take.
 */

/**
 * A tensor as it crosses the boundary: a number below 2^53 into the handle table of this thread. A handle carries a
 * generation: once released it names no tensor ever again. 0 stands for "no tensor".
 */
export type Handle = number

/** A planned operator call, see {@link NativeAddon.plan}. */
export type PlanId = number

/** What one value of a {@link NativeAddon.call} is, and the number that follows. */
export const Tag = {
  /** Any JavaScript value, passed besides; the number means nothing. */
  other: 0,
  /** A {@link Handle}. */
  tensor: 1,
  number: 2,
  /** 0 or 1. */
  boolean: 3,
  /** The number means nothing. */
  null: 4,
  /** A string that {@link NativeAddon.addWord} knows: what it returned. */
  word: 5,
  /** The length of a list of handles, 0 for null; they come next. */
  tensorList: 6,
  /** The length of a list of numbers, which come next. */
  numberList: 7,
  /** A {@link NativeGenerator}, passed besides; the number means nothing. */
  generator: 8,
} as const

/**
 * The result of a call: undefined where it is one tensor, which lies in the place of the plan: its handle, 0 for none,
 * or `-(index + 1)` when it is the call's value at `index` (in-place and `out` operators). Anything else is
 * `[tags, ...results]` with a letter per result: `t` a tensor, as above, `T` an array of tensors, `v` a plain value.
 */
export type CallResult = undefined | [tags: string, ...results: unknown[]]

/** Element types that typed arrays can hold, and how they are read back. */
export type NumberLike = number | bigint | boolean | { re: number; im: number }

export interface NativeGenerator {
  readonly __generator: unique symbol
}

/** A file mapped into memory, privately: writing to its tensors does not change it. */
export interface NativeMappedFile {
  /** A uint8 tensor of these bytes with a storage of its own, which keeps the file mapped. */
  storage(offset: number, bytes: number): Handle
}

export interface SystemInfo {
  torchVersion: string
  /** The file that libtorch_cpu was really loaded from. */
  libtorchPath: string
  c10Path: string
  openmp: boolean
  mkl: boolean
  onednn: boolean
  lapack: boolean
  /** The instruction set that libtorch's kernels use here: `AVX512`, `AVX2`, `DEFAULT` … */
  cpuCapability: string
  cuda: boolean
  cudaDevices: number
  /** Whether the current GPU convolves in bfloat16: compute capability 8.0 or newer. */
  cudaBFloat16: boolean
  /** libtorch's own description of its build. */
  config: string
}

export type LossParts = [total: Handle, distillation: Handle, classification: Handle]

/** Options that every optimizer reads from a group; all are given. */
export interface NativeOptimizerOptions {
  lr: number
  weightDecay: number
  maximize: boolean
  /** PyTorch's choice of kernels: true asks for one kind, false rules it out. */
  fused?: boolean | null
  foreach?: boolean | null
}

export interface NativeSgdOptions extends NativeOptimizerOptions {
  momentum: number
  dampening: number
  nesterov: boolean
}

export interface NativeAdamOptions extends NativeOptimizerOptions {
  betas: readonly [number, number]
  eps: number
  amsgrad: boolean
}

/** State tensors by PyTorch's names, such as `exp_avg`. */
export type NativeOptimizerState = Record<string, Handle>

/** Knows its parameters by their handles: one that was released is an error at the next step. */
export interface NativeOptimizer<Options extends NativeOptimizerOptions> {
  addGroup(parameters: readonly Handle[], options: Options): void
  /** With the options of each group, in order. */
  step(groups: readonly Options[]): void
  zeroGrad(setToNone: boolean): void
  /** Options for the step that a {@link NativeCompiledStep} takes next. */
  prepareStep(groups: readonly Options[]): void
  /** Of each parameter, in the order of the groups; empty before its first step. */
  state(): NativeOptimizerState[]
  /** Copies the state. Options are checked only: `ERR_STATE_DICT` for both, before anything has changed. */
  loadState(states: readonly NativeOptimizerState[], groups: readonly Options[]): void
}

/**
 * A layer of `native/layers/`: its options are checked once, by the constructor; each forward is one call with the
 * handles of the input and of the parameters, undefined for those that it has not.
 */
export interface NativeLayer<Arguments extends unknown[]> {
  forward(...args: Arguments): Handle
}

type NativeLayerClass<Options, Arguments extends unknown[]> = new (
  options: { /** What error messages call it. */ name: string } & Options,
) => NativeLayer<Arguments>

type OptionalHandle = Handle | undefined

/** Of `native/layers/batch_norm.h`. */
export enum Activation {
  none = 0,
  relu = 1,
  relu6 = 2,
}

export interface NativeLayers {
  /** Sizes are lists of `spatialDims` integers. `outputPadding` is zero unless transposed. */
  Convolution: NativeLayerClass<
    {
      spatialDims: number
      inChannels: number
      outChannels: number
      kernelSize: readonly number[]
      stride: readonly number[]
      padding: readonly number[] | string
      dilation: readonly number[]
      groups: number
      paddingMode: string
      transposed: boolean
      outputPadding: readonly number[]
    },
    [x: Handle, weight: Handle, bias: OptionalHandle]
  >
  Linear: NativeLayerClass<
    { inFeatures: number; outFeatures: number },
    [x: Handle, weight: Handle, bias: OptionalHandle]
  >
  /**
   * Counts the batch and updates the running statistics in place when training; then adds `added` and takes the
   * activation.
   */
  BatchNorm: NativeLayerClass<
    { numFeatures: number; spatialDims: number; eps: number; momentum: number | null },
    [
      training: boolean,
      x: Handle,
      weight: OptionalHandle,
      bias: OptionalHandle,
      runningMean: OptionalHandle,
      runningVar: OptionalHandle,
      numBatchesTracked: OptionalHandle,
      added?: OptionalHandle,
      activation?: Activation,
    ]
  >
  GroupNorm: NativeLayerClass<
    { numGroups: number; numChannels: number; eps: number },
    [x: Handle, weight: OptionalHandle, bias: OptionalHandle]
  >
  LayerNorm: NativeLayerClass<
    { normalizedShape: readonly number[]; eps: number },
    [x: Handle, weight: OptionalHandle, bias: OptionalHandle]
  >
  MaxPool2d: NativeLayerClass<
    {
      kernelSize: readonly number[]
      stride: readonly number[]
      padding: readonly number[]
      dilation: readonly number[]
      ceilMode: boolean
    },
    [x: Handle]
  >
  AvgPool2d: NativeLayerClass<
    {
      kernelSize: readonly number[]
      stride: readonly number[]
      padding: readonly number[]
      ceilMode: boolean
      countIncludePad: boolean
      divisorOverride: number | null
    },
    [x: Handle]
  >
  /** −1 in `outputSize`: as the input. */
  AdaptivePool2d: NativeLayerClass<{ maximum: boolean; outputSize: readonly number[] }, [x: Handle]>
  Dropout: NativeLayerClass<
    { p: number; wholeChannels: boolean; inplace: boolean },
    [training: boolean, x: Handle]
  >
  Embedding: NativeLayerClass<
    {
      numEmbeddings: number
      embeddingDim: number
      paddingIdx: number | null
      maxNorm: number | null
      normType: number
      scaleGradByFreq: boolean
      sparse: boolean
    },
    [indices: Handle, weight: Handle]
  >
}

/** A TorchScript module. */
export interface NativeScript {
  readonly __script: unique symbol
}

/** A method of a TorchScript module with taps inside. */
export interface NativeTappedMethod {
  readonly __tapped: unique symbol
}

/** A TorchScript value on its way: see `native/script/ivalues.h`. */
export type NativeValue =
  | undefined
  | null
  | boolean
  | number
  | bigint
  | string
  | NativeValue[]
  | { tensor: Handle }
  | { keys: NativeValue[]; values: NativeValue[]; isMap?: boolean }

/** Output, and tap and value in turn. */
export type NativeRunResult = [output: NativeValue, seen: NativeValue[]]

/** A value inside a method to be shown: see `Tap` in `native/script/taps.h`. */
export interface NativeTap {
  path: string
  input: boolean
  /** For inputs: which argument; −1 for the first tensor. */
  argument: number
  steps: readonly string[]
  /** Shows the value whether or not it is a tensor. */
  whole?: boolean
}

/** Modules and tensors, each once, the root first; names with indices into the lists. */
export interface NativeScriptTree {
  modules: {
    module: NativeScript
    typeName: string
    children: [name: string, module: number][]
    parameters: [name: string, tensor: number][]
    buffers: [name: string, tensor: number][]
  }[]
  tensors: Handle[]
}

export interface NativeScriptMethod {
  name: string
  arguments: { name: string; type: string; isOptional: boolean; acceptsObject: boolean }[]
  returns: string
}

export interface NativeScriptCall {
  path: string
  /** How often it stands in the code. */
  count: number
  /** The output's type. */
  output: string
  /** The tensors in it, as steps in brackets; `''` is the output itself. */
  outputs: string[]
  inputs: string[]
}

/** Tensors as a module returns them: one, an array (a tuple in TorchScript) or an object (a dict). */
export type TensorStructure = Handle | readonly TensorStructure[] | { readonly [key: string]: Handle }

/** One module of a tree; children are numbers into the list of all. */
export interface ModuleDescription {
  className: string
  training: boolean
  parameters: readonly { name: string; tensor: Handle }[]
  buffers: readonly { name: string; tensor: Handle; persistent: boolean }[]
  children: readonly { name: string; module: number }[]
}

/** Called when the recorded function reads out of a tensor what is a constant from then on. */
export type OnRead = (kind: 'value' | 'shape', what: string, tensor: string) => void

export interface NativeTracedModule {
  /** Makes parameters constants, and batch norms a part of the convolutions before them. */
  freeze(): void
  save(path: string): void
}

/** What a function did, to be run again without it. */
export interface NativeRecording {
  /** Two recordings of a function that does the same at every call have equal texts. */
  text(): string
  /** Undefined where no side part was marked; else why it has to run in line, or null. */
  sidePart(): string | null | undefined
  /** The side part runs as late as it may, as a GPU is free to do: for tests. */
  deferSidePart(): void
}

export interface NativeCompiledStep {
  /**
   * Losses, gradients and update in another thread, as the optimizer was prepared for. Resolves to the losses, and where
   * gradients are clipped the norm that they had; where that or the first loss is not finite no weight has changed.
   */
  run(recording: NativeRecording, batch: readonly Handle[]): Promise<number[]>
  report(): NativeRunnerReport
  /** Gives back CUDA graphs and their memory. Later steps run without. */
  release(): void
}

/** How steps went on a GPU. */
export interface NativeRunnerReport {
  /** CUDA graphs captured. */
  captures: number
  /** Steps that replayed one. */
  replays: number
  /** Why steps run operator by operator although there is a GPU. */
  reason?: string
  /** Whether the side part runs beside the rest, and the milliseconds of a step that said so; where both were tried. */
  sideStream?: { used: boolean; beside: number; inLine: number }
}

/**
 * How a step is carried out. `'auto'`: as a CUDA graph where that can be. `'operators'`: one operator after the other.
 * `'device'`: likewise, but as a graph would: the host decides nothing.
 */
export type StepRunnerName = 'auto' | 'operators' | 'device'

export interface NativeAddon extends NativeLayers {
  // ---- system.cc
  setErrorClass(constructor: new (code: never, message: string) => Error): void
  systemInfo(): SystemInfo
  numThreads(): number
  setNumThreads(threads: number): void
  useDeterministicAlgorithms(deterministic: boolean): void

  // ---- backends.cc
  backendFlag(name: string): boolean
  setBackendFlag(name: string, on: boolean): void
  backendsAvailable(): Record<'nnpack' | 'mkldnn' | 'mkl' | 'openmp' | 'cuda' | 'cudnn', boolean>
  float32MatmulPrecision(): string
  setFloat32MatmulPrecision(precision: string): void

  // ---- warnings.cc
  /** `wake` is called in a turn of the event loop after libtorch warned of something new. Once per thread. */
  onWarning(wake: () => void): void
  /** What libtorch warned of since the last call. */
  takeWarnings(): string[]
  /** What libtorch says once in a process, it says each time. */
  setWarnAlways(always: boolean): void
  warnsAlways(): boolean

  // ---- tensors.cc
  /** Copies the view's elements. */
  tensorFromData(
    data: NodeJS.TypedArray,
    dataDtype: string,
    shape: readonly number[],
    dtype: string,
    device: string,
  ): Handle
  /** A copy of the elements in row-major order. */
  tensorToData(tensor: Handle): ArrayBuffer
  item(tensor: Handle): NumberLike
  shape(tensor: Handle): number[]
  strides(tensor: Handle): number[]
  dtype(tensor: Handle): string
  device(tensor: Handle): string
  layout(tensor: Handle): string
  numel(tensor: Handle): number
  isContiguous(tensor: Handle, memoryFormat: string): boolean
  /** Bytes. */
  elementSize(tensor: Handle): number
  isNested(tensor: Handle): boolean
  /** Of a quantized tensor, its scheme by libtorch's number. */
  quantizationScheme(tensor: Handle): number
  /** Whether both handles name one tensor. */
  isSame(a: Handle, b: Handle): boolean
  /** A second handle for the same tensor. */
  alias(tensor: Handle): Handle
  /** One byte, not 0 while a scope is open: the engine then hears nothing of the memory that tensors take. */
  scopeFlag(): Uint8Array
  /** False when it was released before. */
  release: (tensor: Handle) => boolean
  memory(): { tensors: number; storages: number; bytes: number; idle: number }
  dtypes(): string[]

  // ---- cpu_memory.cc
  /**
   * Makes libtorch take CPU memory from blocks that are used again and again, and keep so many bytes of freed ones. Once
   * per process; leaves an allocator set by others alone. With 0, and without a limit where a tool watches memory,
   * libtorch keeps its own.
   */
  recycleCpuMemory(limit: number | undefined): void
  /** Whose takes the memory of CPU tensors now. */
  cpuAllocator(): 'alambic' | 'libtorch' | 'other'
  /** Of freed CPU memory, how much is kept for later tensors, in all threads. */
  limitIdleMemory(bytes: number): void
  releaseIdleMemory(): void
  // ---- storages.cc
  MappedFile: new (descriptor: number, size: number) => NativeMappedFile
  /** Another tensor on the storage of `tensor`; `strides` and `offset` count elements of the dtype. */
  viewStorage(
    tensor: Handle,
    dtype: string,
    shape: readonly number[],
    strides: readonly number[],
    offset: number,
  ): Handle
  /** Which storage (the same number for the same one), its size, and the index of the tensor's first element in it. */
  storageOf(tensor: Handle): { id: bigint; bytes: number; offset: number }

  // ---- autocast.cc
  /** The dtype of automatic casts on a device, null for none. Per thread. Returns what it was. */
  setAutocast(device: string, dtype: string | null): string | null

  // ---- autograd.cc
  backward(
    outputs: Handle[],
    gradients: (Handle | null)[] | undefined,
    retainGraph: boolean,
    createGraph: boolean,
  ): void
  /** 0 for inputs that the outputs do not depend on (with `allowUnused`). */
  grad(
    outputs: Handle[],
    inputs: Handle[],
    gradients: (Handle | null)[] | undefined,
    retainGraph: boolean,
    createGraph: boolean,
    allowUnused: boolean,
  ): Handle[]
  gradient(tensor: Handle): Handle
  setGradient(tensor: Handle, gradient: Handle | null): void
  requiresGrad(tensor: Handle): boolean
  setRequiresGrad(tensor: Handle, requiresGrad: boolean): void
  isLeaf(tensor: Handle): boolean
  gradFn(tensor: Handle): string | null
  /**
   * Gives a tensor other data, for all who hold it. To and from `meta` libtorch cannot: then the handle stands for
   * another tensor, and who else holds the old one keeps it.
   */
  setData(tensor: Handle, data: Handle): void
  /** x becomes activation(x + added). */
  activate(x: Handle, added: Handle | undefined, activation: Activation): void
  /** Returns what it was. */
  setGradEnabled(enabled: boolean): boolean
  isGradEnabled(): boolean

  // ---- tensor_hooks.cc
  /**
   * Has autograd call `run` with the hook's number and a gradient. `run` returns the gradient to go on with, 0 for the
   * same one, −1 where the hook failed. Returns the hook's position among those of the tensor.
   */
  registerHook(tensor: Handle, hook: number, run: (hook: number, gradient: Handle) => Handle): number
  removeHook(tensor: Handle, position: number): void
  /** Hooks whose tensors are gone, each told once. */
  forgottenHooks(): number[]

  // ---- dispatch.cc
  /**
   * Prepares calls of an operator in one form: so many positional arguments, these options in this order.
   * `overload` null leaves the choice of the overload to the arguments of each call. For messages: the positional
   * values, those that are to be shown, and whether the first of them stands before the dot.
   */
  plan(
    qualifiedName: string,
    overload: string | null,
    positional: number,
    options: readonly string[],
    values?: readonly unknown[],
    isMethod?: boolean,
  ): PlanId
  /**
   * Calls what lies in the {@link callBuffer}: the plan, then two numbers per value ({@link Tag}), behind a list its
   * elements. `others` are the values that are no numbers, in their order.
   */
  call: (...others: unknown[]) => CallResult
  /**
   * Nanoseconds of the operator that {@link call} would call, alone: a mean of 1,000 calls by C++ with the same
   * arguments. Null where it can only be called boxed. For benchmarks. @internal
   */
  timeCall: (...others: unknown[]) => number | null
  /** Triples: the name in JavaScript, the schema's name, whether the first argument is a tensor. */
  operatorNames(namespace: string): (string | boolean)[]
  operatorNamespaces(): string[]
  overloadNames(qualifiedName: string): string[]
  operatorSchemas(namespace: string): string[]
  operatorCounts(namespace: string): { names: number; overloads: number; reachable: number }

  // ---- call_buffer.cc
  /** Where calls and lists of handles are put. A new one, of that length, takes the place of the one before. */
  callBuffer(length: number): Float64Array<ArrayBuffer>
  /** Makes a string known to calls. Strings are kept for good: for names, not for any text. */
  addWord(text: string): number
  /** Releases the handles at the start of the call buffer. */
  releaseAll(count: number): void

  // ---- generator.cc
  Generator: new (seed: number | bigint, device: string) => NativeGenerator
  manualSeed(seed: number | bigint): void
  rngState(device: string): Handle
  setRngState(device: string, state: Handle): void

  // ---- labels.cc
  /** Throws unless `labels` are classes of `logits` (N, C, …) or `ignoreIndex`. `what` begins the message. */
  checkLabels(what: string, logits: Handle, labels: Handle, ignoreIndex: number): void

  // ---- losses/distillation.cc: each returns the total, its distillation part and its classification part
  featureDistillation(
    studentFeatures: Handle[],
    teacherFeatures: Handle[],
    logits: Handle,
    labels: Handle,
    alpha: number,
    criterion: 'mse' | 'cosine',
    weights: readonly number[] | undefined,
  ): LossParts
  attentionTransfer(
    studentFeatures: Handle[],
    teacherFeatures: Handle[],
    logits: Handle,
    labels: Handle,
    alpha: number,
    pool: boolean,
    weights: readonly number[] | undefined,
  ): LossParts
  /** The distillation parts alone. */
  featureDistance(
    studentFeatures: Handle[],
    teacherFeatures: Handle[],
    criterion: 'mse' | 'cosine',
    weights: readonly number[] | undefined,
  ): Handle
  attentionDistance(
    studentFeatures: Handle[],
    teacherFeatures: Handle[],
    pool: boolean,
    weights: readonly number[] | undefined,
  ): Handle
  softenedDivergence(studentLogits: Handle, teacherLogits: Handle, temperature: number): Handle
  attentionMap(features: Handle): Handle
  logitsDistillation(
    teacherLogits: Handle,
    temperature: number,
    logits: Handle,
    labels: Handle,
    alpha: number,
  ): LossParts

  // ---- optim/optimizers.cc
  Sgd: new () => NativeOptimizer<NativeSgdOptions>
  Adam: new () => NativeOptimizer<NativeAdamOptions>
  AdamW: new () => NativeOptimizer<NativeAdamOptions>
  /** Returns the norm before clipping. */
  clipGradNorm(
    parameters: readonly Handle[],
    maxNorm: number,
    normType: number,
    errorIfNonfinite: boolean,
  ): Handle
  clipGradValue(parameters: readonly Handle[], clipValue: number): void

  // ---- script/load.cc
  /**
   * Reads TorchScript off this thread. The bytes are not to change meanwhile. `device` undefined: where the file says,
   * the CPU where there is no GPU. `dtype` converts floating point parameters and buffers.
   */
  loadScript(
    bytes: Uint8Array,
    name: string,
    device: string | undefined,
    dtype: string | undefined,
  ): Promise<NativeScript>
  /** With taps in `forward`, under their numbers; `preserve` names other methods to keep. */
  freezeScript(
    script: NativeScript,
    taps: readonly NativeTap[],
    preserve: readonly string[],
    optimizeNumerics: boolean,
    forInference: boolean,
  ): Promise<NativeScript>
  saveScript(script: NativeScript, path: string): Promise<void>

  // ---- script/inspect.cc
  scriptTree(script: NativeScript): NativeScriptTree
  scriptMethods(script: NativeScript): NativeScriptMethod[]
  /** The source of one method, or of the class. */
  scriptCode(script: NativeScript, method: string | undefined): string
  /** The modules that a method calls, in order, each once. */
  scriptCalls(script: NativeScript, method: string): NativeScriptCall[]
  /** Undefined for a module that has no modes, such as a frozen one. */
  scriptTraining(script: NativeScript): boolean | undefined
  setScriptTraining(script: NativeScript, training: boolean): void

  // ---- script/run.cc
  /** A copy of a method with taps; a run tells of them by their index. */
  tapScript(script: NativeScript, method: string, taps: readonly NativeTap[]): NativeTappedMethod
  /**
   * Returns the output, and what the taps saw if this run `listens`: index and value in turn. With a callback each value
   * is shown to it instead, and replaced by what it returns unless that is undefined.
   */
  runScript(
    script: NativeScript,
    method: string,
    args: readonly NativeValue[],
    taps: NativeTappedMethod | undefined,
    listens: boolean,
    callback: ((tap: number, value: NativeValue) => NativeValue) | undefined,
  ): NativeRunResult
  runScriptAsync(
    script: NativeScript,
    method: string,
    args: readonly NativeValue[],
    taps: NativeTappedMethod | undefined,
    listens: boolean,
  ): Promise<NativeRunResult>

  // ---- trace/module_export.cc
  /** The first description is the root. `forward` is called once and returns what the module returns. */
  TracedModule: new (
    modules: readonly ModuleDescription[],
    inputs: readonly Handle[],
    forward: () => TensorStructure,
    onRead: OnRead,
  ) => NativeTracedModule
  /** What runs until {@link leaveScope} belongs to the submodule at the path. */
  enterScope(path: string): void
  leaveScope(): void
  /**
   * Loads a TorchScript file and runs its forward, without gradients. Unlike `loadScript` in the same turn: nobody can
   * change the module that was saved before the two are compared, and nothing of the file stays in memory.
   */
  runSavedModule(path: string, inputs: readonly Handle[]): TensorStructure

  // ---- trace/recording.cc
  /**
   * Runs `body` once. `captured` are tensors that keep their identity and may change their values, `batch` those that
   * are others at each run; what else the body uses is a constant.
   */
  Recording: new (
    captured: readonly Handle[],
    batch: readonly Handle[],
    body: () => Handle[],
    onRead: OnRead,
  ) => NativeRecording
  /** Marks where a part begins or ends that a GPU may do beside what follows. For nothing outside of recordings. */
  recordSidePart(begins: boolean): void

  // ---- cuda_library.cc
  /** Where the CUDA library is, which is opened when first needed. Once per process. */
  setCudaLibrary(path: string | undefined): void
  /** Opens it: only for where there is a GPU. `problem` says why there is none. */
  cudaLibrary(): { problem?: string; kernels: boolean }
  /** What libtorch's allocator counts on a GPU. ERR_DEVICE without that GPU, ERR_NOT_IMPLEMENTED without the library. */
  deviceMemory(device: string): {
    allocated: number
    reserved: number
    peakAllocated: number
    peakReserved: number
  }

  // ---- step/compiled_step.cc
  /** `locked` tensors are refused (ERR_BUSY) while a step runs. */
  CompiledStep: new (
    optimizer: NativeOptimizer<never>,
    trained: readonly Handle[],
    locked: readonly Handle[],
    clipGradNorm: number | undefined,
    runner: StepRunnerName,
  ) => NativeCompiledStep
}
