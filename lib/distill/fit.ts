/** The training loop that every method shares: epochs, steps, progress, and stopping for the right reasons. */
import { batchOn, releaseBatch, type Batch } from '../data/dataset.js'
import { DataLoader } from '../data/loader.js'
import { AlambicError, argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import type { Module, StateDict } from '../nn/module.js'
import { Adam, type Optimizer } from '../optim/index.js'
import {
  anything,
  boolean,
  callback,
  device,
  integer,
  listOf,
  notNegative,
  oneOf,
  orNull,
  properFraction,
  requireKind,
  signal,
  text,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import { getRngState, setRngState } from '../random/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import { Accumulation } from './accumulation.js'
import { batchesOf, prefetch, releaserOf, type Batches } from './batches.js'
import { CompiledSteps, type CompilationReport } from './compiled.js'
import { evaluate } from './evaluate.js'
import type { Keeper, TrainingState } from './keeper.js'
import { LossScale } from './loss-scale.js'
import type { TeacherInTraining } from './teacher.js'
import { ScheduleOfTraining, type Schedule } from './schedule.js'
import {
  asBefore,
  chooseSpeed,
  describePlan,
  inPrecision,
  withPlan,
  type Plan,
  type Precision,
  type Speed,
} from './speed.js'
import {
  completed,
  trainInParts,
  update,
  type DividedContext,
  type InParts,
  type LossValues,
} from './step.js'
import { chooseByTrial } from './trials.js'
import { Turns } from './turns.js'
import { WeightAverage } from './weight-average.js'

/** The loss to minimise under `total`, and its parts for the log. All scalars. */
export interface LossParts {
  total: Tensor
}

/** After a step. */
export interface StepProgress {
  /** From 1. */
  epoch: number
  epochs: number
  /** From 1, within the epoch. */
  step: number
  /** Steps per epoch, if the loader knows them. */
  steps: number | undefined
  /** Images of this step. */
  images: number
  loss: number
  /** The other parts of the loss by name. */
  parts: Record<string, number>
}

/** After an epoch. */
export interface EpochReport {
  /** From 1. */
  epoch: number
  /** Mean over the steps. */
  loss: number
  /** The other parts of the loss by name, mean over the steps. */
  parts: Record<string, number>
  /** Of the student on the validation data, in percent; undefined without such data. */
  accuracy: number | undefined
  /** The same of the moving average of the weights; only with the option `ema`. */
  emaAccuracy?: number | undefined
  /** Time of training, evaluation not included. */
  seconds: number
  images: number
}

/**
 * Callbacks may be asynchronous: the training waits for them. If one throws or rejects, the training ends with its
 * error.
 */
export interface FitOptions {
  /** Default: 50. */
  epochs?: number
  /** Learning rate of the default optimizer, Adam. Default: 1e-3. */
  lr?: number
  /** Makes another optimizer for the parameters that are trained. */
  optimizer?: (parameters: Tensor[]) => Optimizer | Promise<Optimizer>
  /**
   * Makes a learning rate schedule. A `ReduceLROnPlateau` is given the metric of each epoch: with mode `'max'` the
   * accuracy on the validation data, with mode `'min'` the mean loss of its steps; or {@link schedulerMetric}.
   */
  scheduler?: (optimizer: Optimizer) => Schedule | Promise<Schedule>
  /** What the schedule's `step` is given after an epoch, for example `({ accuracy }) => accuracy ?? 0`. */
  schedulerMetric?: (report: EpochReport) => number | Promise<number>
  /** When the schedule's `step()` is called. Default: `'epoch'`. */
  schedulerInterval?: 'epoch' | 'step'
  /**
   * Clip the gradients to this L2 norm. A norm that is infinite or NaN stops the training before any weight changes,
   * also with `Infinity`, which clips nothing. Default: no clipping, and the gradients are not checked.
   */
  clipGradNorm?: number
  /**
   * Parts of the student that stay as they are, by dotted path: their parameters are not trained, and they are in eval
   * mode, so that the statistics of batch norms do not change. Default: none.
   */
  frozen?: readonly string[]
  /** The parts of the student that are trained, by dotted path; all others are {@link frozen}. Default: the whole. */
  trained?: readonly string[]
  /**
   * How many batches make one step: their gradients are added up, and count by their samples, for one update. The
   * numbers of steps, the schedule's and those of `onStep`, are of updates. Such steps are not compiled. Default: 1.
   */
  accumulate?: number
  /**
   * Keeps a moving average of the weights beside them, with this decay, above 0 and below 1: 0.999 for example. It is
   * evaluated after each epoch too (`emaAccuracy`), and the result has it as `ema`. Default: none.
   */
  ema?: number
  /** Where batches are moved. Default: the student's device. */
  device?: Device
  /** Called with each log line. Default: `console.log`; null for no log. */
  log?: ((line: string) => unknown) | null
  /** A log line for the first epoch, then for every `logEvery` epochs, and for the last. Default: 10. */
  logEvery?: number
  /** Called after each step, when no step runs: models and optimizer may be read, saved and changed. */
  onStep?: (progress: StepProgress) => unknown
  /** Called after each epoch, likewise; for example to save the weights of the best one. */
  onEpoch?: (report: EpochReport) => unknown
  /** Stops after the current step; the result then covers what was done until then. */
  signal?: AbortSignal
  /**
   * `'auto'` tries some steps with the first batch in several ways (precision, memory format, prepared teacher,
   * threads, compiled or not), keeps a way that is faster by 5 %, stores it for this machine and these models, and logs
   * it with the times. `'exact'` is the same without bfloat16; an object sets some of the options itself, and does not
   * change {@link compile}. The trials do not change the training. Results differ from those without `speed` by
   * rounding, or by the precision. Default: nothing is tried or changed.
   */
  speed?: Speed
  /**
   * In what convolutions and matrix products are computed, whatever {@link speed} says; parameters stay as they are.
   * With `'float16'` the loss is scaled, so that small gradients are not lost, and a step whose gradients are infinite is
   * left out; as `torch.amp.GradScaler`. Such steps are not compiled. Default: what the tensors are.
   */
  precision?: Precision
  /**
   * Records the operators of a step and then runs them natively in another thread, while the next batch is loaded: the
   * event loop stays free. Results are the same, bit for bit. Other code must not use the modules in training meanwhile
   * (`ERR_BUSY`), except in `onStep` and `onEpoch`, between the steps. If a step cannot be compiled, the training goes
   * on without, and the log says why. Default: false; with `speed: 'auto'` and `'exact'`, if it is faster.
   */
  compile?: boolean
}

export const fitOptions: Kinds<FitOptions> = {
  epochs: integer(1),
  lr: notNegative,
  optimizer: {
    ...callback,
    expected:
      'a function that makes an optimizer, such as parameters => new optim.SGD(parameters, { lr: 0.1 })',
  },
  scheduler: {
    ...callback,
    expected:
      'a function that makes a schedule, such as optimizer => new optim.lrScheduler.StepLR(optimizer, 30)',
  },
  schedulerInterval: oneOf('epoch', 'step'),
  schedulerMetric: callback,
  clipGradNorm: {
    expected: 'a number of at least 0',
    fits: value => (value as number) >= 0 && typeof value === 'number',
  },
  frozen: listOf(text, 'an array of paths of parts'),
  trained: listOf(text, 'an array of paths of parts'),
  accumulate: integer(1),
  ema: properFraction,
  device,
  log: orNull(callback),
  logEvery: integer(1),
  onStep: callback,
  onEpoch: callback,
  signal,
  speed: anything, // chooseSpeed() looks at it
  precision: oneOf('float32', 'bfloat16', 'float16'),
  compile: boolean,
}

/** What the training functions return. */
export interface TrainingResult {
  history: EpochReport[]
  /** Whether the signal stopped the training before the end of the last epoch. */
  stopped: boolean
  /** Only if steps were to be compiled. */
  compilation?: CompilationReport
  /** The student's state dict with the average of the weights; only with the option `ema`. */
  ema?: StateDict
}

/** What a method adds to the loop. */
export interface Method {
  /** The model in training; evaluated after each epoch. */
  student: Module<[Tensor], Tensor>
  /** Called once with the first batch, before its step: what must see data to be made. Returns what is trained. */
  prepare: (batch: Batch) => Tensor[]
  /** In parts of which each takes its time, so that others have their turn between them. */
  loss: (batch: Batch) => InParts<LossParts>
  /** Called before each step, from epoch 1 and step 1. */
  begin?: (epoch: number, step: number) => void
  /** What a step depends on besides its batch and the modules: a recorded one is used again where it is the same. */
  variant?: (() => string) | undefined
  /** Why a step cannot be recorded, as far as this is known once it has run. */
  againstRecording?: (() => string | undefined) | undefined
  /** The teachers as they were made fast by {@link prepare}. */
  teachers: readonly TeacherInTraining[]
  /** What besides the modules says what a step computes, such as the layers of features. */
  key: string
  /** Modules whose weights change, and those that the loss uses besides. */
  modules: { trained: readonly Module[]; used: readonly Module[] }
}

/**
 * @param keeper saves the training between its steps, and says where it goes on; the loader is then a `DataLoader`
 * @throws AlambicError `ERR_NAN_LOSS` when the loss is no longer finite, or the norm of gradients that are clipped,
 *   before that step changes any weight; `ERR_ARGUMENT` when the loader yields nothing
 */
export async function fit(
  method: Method,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions,
  plan: Plan = planOf(method.student, options),
  keeper?: Keeper,
): Promise<TrainingResult> {
  return withPlan(plan, method.student, () =>
    new Training(method, trainLoader, valLoader, options, plan, keeper).run(),
  )
}

/** How the training of a model is made fast, by the option `speed`. */
export function planOf(
  model: Module,
  { speed, compile, precision, device = model.parameters()[0]?.device ?? 'cpu' }: FitOptions,
  resumed?: TrainingState,
): Plan {
  const plan = chooseSpeed(speed, model, device, compile, precision)
  const way = resumed?.way ?? null
  return way === null ? plan : asBefore(plan, way)
}

/** How far an epoch has come. */
interface Progress {
  readonly epoch: number
  /** Batches that were taken. */
  batches: number
  /** Steps that were done. */
  steps: number
  images: number
  /** Of training, without evaluation. */
  milliseconds: number
  readonly sums: Means
  /** Of the loader, from 0. */
  readonly loaderEpoch: number
}

/** A training under way. */
class Training {
  private readonly lines: Lines
  private readonly turns = new Turns()
  private readonly device: Device | undefined
  private readonly history: EpochReport[]
  private context: DividedContext | undefined
  private schedule: ScheduleOfTraining | undefined
  private compiled: CompiledSteps | undefined
  private average: WeightAverage | undefined
  private accumulation: Accumulation | undefined
  private lossScale: LossScale | undefined
  /** Of the loader, when the training began. */
  private readonly firstLoaderEpoch: number
  /** Parameters that are not trained. */
  private frozen: ReadonlySet<Tensor> = new Set()
  /** Updates of all epochs. */
  private updates: number
  /** Resolves when the first step begins: until then no second batch is asked for. */
  private readonly begun: Promise<void>
  private begin!: () => void

  constructor(
    private readonly method: Method,
    private readonly trainLoader: Batches,
    private readonly valLoader: Batches | null,
    private readonly options: FitOptions,
    private readonly plan: Plan,
    private readonly keeper: Keeper | undefined,
  ) {
    this.lines = new Lines(options.log === undefined ? console.log : options.log)
    this.device = options.device ?? method.student.parameters()[0]?.device
    this.begun = new Promise(resolve => (this.begin = resolve))
    this.history = [...(keeper?.resume?.history ?? [])]
    this.updates = keeper?.resume?.updates ?? 0
    this.firstLoaderEpoch = keeper?.resume?.firstLoaderEpoch ?? loaderEpochOf(trainLoader) ?? 0
  }

  async run(): Promise<TrainingResult> {
    const { student } = this.method
    const { epochs = 50, signal } = this.options
    const { parts, parameters } = frozenParts(student, this.options)
    this.frozen = parameters
    const thaw = freeze(parameters)
    student.train()
    for (const part of parts) part.eval()
    try {
      const resumed = this.keeper?.resume
      if (resumed !== undefined) await this.resume(resumed)
      for (let epoch = resumed?.epoch ?? 1; epoch <= epochs && !signal?.aborted; epoch++)
        if (!(await this.runEpoch(this.progressOf(epoch), epochs))) break
      return this.result(signal?.aborted ?? false)
    } finally {
      thaw()
      this.compiled?.release()
      this.accumulation?.clear()
      this.average?.dispose()
    }
  }

  private result(stopped: boolean): TrainingResult {
    return {
      history: this.history,
      stopped,
      ...(this.compiled !== undefined && { compilation: this.compiled.report }),
      ...(this.average !== undefined && { ema: this.average.stateDict() }),
    }
  }

  private progressOf(epoch: number): Progress {
    const resumed = this.keeper?.resume
    const loaderEpoch = loaderEpochOf(this.trainLoader) ?? epoch - 1
    if (resumed?.epoch !== epoch)
      return { epoch, batches: 0, steps: 0, images: 0, milliseconds: 0, sums: new Means(), loaderEpoch }
    const { batches, steps, images, milliseconds, sums } = resumed
    return { epoch, batches, steps, images, milliseconds, sums: new Means(sums), loaderEpoch }
  }

  /** Returns whether the training goes on. */
  private async runEpoch(progress: Progress, epochs: number): Promise<boolean> {
    const { epoch } = progress
    const { signal, onEpoch, logEvery = 10 } = this.options
    if (this.plan.open.has('compile')) this.compiled?.recheck()
    await this.trainEpoch(progress, epochs)
    if (progress.steps === 0) throw noBatches(epoch)

    const report = await this.evaluate(progress)
    if (signal?.aborted) {
      await this.keeper?.save('step', () => this.state(progress))
      if (report.accuracy !== undefined) this.history.push(report)
      return false
    }
    this.history.push(report)
    await this.schedule?.afterEpoch(report)
    await onEpoch?.(report)
    const isLogged = (epoch - 1) % logEvery === 0 || epoch === epochs || signal?.aborted
    // Whoever keeps a training tells of its epochs.
    if (isLogged && this.keeper === undefined) this.lines.add(formatEpoch(report))
    await this.lines.write()
    await this.keeper?.save('epoch', () => this.state(this.progressOf(epoch + 1)))
    return true
  }

  /** The steps of an epoch. */
  private async trainEpoch(progress: Progress, epochs: number): Promise<void> {
    const { plan, turns, trainLoader, method, options } = this
    const { signal, accumulate = 1 } = options
    const { epoch } = progress
    const steps = trainLoader.length === undefined ? undefined : Math.ceil(trainLoader.length / accumulate)
    /** Images of the step that is under way. */
    let pending = 0
    let last = performance.now()
    const finishStep = async (values: LossValues): Promise<void> => {
      progress.steps++
      progress.sums.add(values)
      const { total, ...parts } = values as { total: number }
      const size = pending
      pending = 0
      await this.lines.write()
      const step = progress.steps
      await options.onStep?.({ epoch, epochs, step, steps, images: size, loss: total, parts })
      await this.keeper?.save('step', () => this.state(progress))
    }
    const { trained, used } = method.modules
    turns.guard([...trained, ...used].flatMap(module => module.modules()))
    turns.leave()
    const release = releaserOf(trainLoader)
    const batches = batchesOf('trainLoader', trainLoader)
    const ahead = plan.way.compile || plan.prefetch
    for await (const batch of ahead ? prefetch(batches, this.begun, release) : batches) {
      turns.comeBack()
      const size = batch.labels.size(0)
      progress.images += size
      pending += size
      const values = await this.takeBatch(batch, epoch, `epoch ${epoch}, step ${progress.steps + 1}`)
      release(batch)
      progress.batches++
      if (values !== undefined) await finishStep(values)
      await turns.give()
      turns.leave()
      progress.milliseconds += performance.now() - last
      last = performance.now()
      if (signal?.aborted && pending === 0) break
    }
    turns.comeBack()
    if (pending > 0) await finishStep(this.finishUpdate(`epoch ${epoch}, step ${progress.steps + 1}`))
  }

  private async evaluate({ epoch, sums, milliseconds, images }: Progress): Promise<EpochReport> {
    const { device, average, valLoader, method } = this
    const { signal } = this.options
    const measure = async () =>
      valLoader && !signal?.aborted ? evaluate(method.student, valLoader, { device, signal }) : undefined
    const accuracy = await measure()
    const emaAccuracy = average && valLoader ? await average.inForce(measure) : undefined
    const { total: loss, ...parts } = sums.means() as { total: number }
    return {
      epoch,
      loss,
      parts,
      accuracy,
      ...(average !== undefined && { emaAccuracy }),
      seconds: milliseconds / 1000,
      images,
    }
  }

  // ---- Steps -----------------------------------------------------------------------------------------------------------

  /** With the first batch, before its step. */
  private async prepare(batch: Batch): Promise<DividedContext> {
    const { method, options, plan, valLoader } = this
    const { student, loss, modules, teachers, key, variant, againstRecording } = method
    const { lr = 1e-3, clipGradNorm, accumulate = 1, ema, signal } = options
    const makeOptimizer = options.optimizer ?? (all => new Adam(all, { lr }))
    const parameters = scope(() => method.prepare(batch)).filter(each => !this.frozen.has(each))
    if (parameters.length === 0 && this.frozen.size > 0)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${options.trained === undefined ? 'frozen' : 'trained'}: expected parts that leave a parameter to be trained, ` +
          `got ${options.trained === undefined ? 'all' : 'none that is not frozen'}`,
      )
    const optimizer = checkOptimizer(await makeOptimizer(parameters), parameters)
    this.schedule = new ScheduleOfTraining(
      await options.scheduler?.(optimizer),
      optimizer,
      options,
      valLoader !== null,
    )
    const made = {
      loss: (each: Batch) => inPrecision(plan, () => completed(loss(each))),
      lossInParts: (each: Batch) => partsInPrecision(plan, loss(each)),
      parameters,
      optimizer,
      clipGradNorm,
    }
    const againstCompiling =
      accumulate > 1
        ? 'gradients of several batches are added up'
        : plan.way.precision === 'float16'
          ? 'the loss is scaled'
          : undefined
    const log = (line: string) => this.lines.add(line)
    await chooseByTrial(plan, { ...made, student, modules, teachers, batch, signal, key, againstCompiling })
    const descriptions = teachers.map(({ description }) => description)
    if (plan.isChosen) log(describePlan(plan, descriptions))
    if (plan.way.compile)
      this.compiled = new CompiledSteps({
        ...made,
        ...modules,
        variant,
        againstRecording,
        againstCompiling,
        log,
      })
    if (ema !== undefined) this.average = new WeightAverage(student, ema)
    if (accumulate > 1) this.accumulation = new Accumulation(parameters, accumulate)
    if (plan.way.precision === 'float16') this.lossScale = new LossScale()
    return { ...made, accumulation: this.accumulation, lossScale: this.lossScale }
  }

  // ---- What is kept ------------------------------------------------------------------------------------------------------

  private state({ epoch, batches, steps, images, milliseconds, sums, loaderEpoch }: Progress): TrainingState {
    const { optimizer, parameters } = this.context!
    const { trained } = this.method.modules
    const devices = new Set<Device>(['cpu', ...parameters.map(({ device }) => device)])
    return {
      epoch,
      batches,
      steps,
      images,
      milliseconds,
      sums: sums.stateDict(),
      loaderEpoch,
      firstLoaderEpoch: this.firstLoaderEpoch,
      updates: this.updates,
      history: [...this.history],
      way: this.plan.isChosen ? this.plan.way : null,
      trained: trained.map(module => module.stateDict()),
      optimizer: optimizer.stateDict(),
      schedule: this.schedule?.stateDict() ?? null,
      average: this.average?.averages() ?? null,
      lossScale: this.lossScale?.stateDict() ?? null,
      random: Object.fromEntries(Array.from(devices, each => [each, getRngState(each)])),
    }
  }

  /**
   * Makes everything as for a first step, with the first batch of the training, and then puts the state in. Parts that
   * are made with that batch have their shapes by it.
   */
  private async resume(state: TrainingState): Promise<void> {
    const loader = this.trainLoader as DataLoader
    loader.epoch = state.firstLoaderEpoch
    for await (const batch of loader) {
      this.method.begin?.(state.epoch, state.updates + 1)
      this.context = await withMoved(batch, this.device, each => this.prepare(each))
      releaseBatch(batch)
      break
    }
    const { trained } = this.method.modules
    trained.forEach((module, i) => {
      module.loadStateDict(state.trained[i]!)
    })
    if (state.schedule !== null) this.schedule?.loadStateDict(state.schedule)
    this.context!.optimizer.loadStateDict(state.optimizer)
    if (state.average !== null) this.average?.load(state.average)
    if (state.lossScale !== null) this.lossScale?.loadStateDict(state.lossScale)
    loader.epoch = state.loaderEpoch
    loader.firstBatch = state.batches
    for (const [device, random] of Object.entries(state.random)) setRngState(random, device)
  }

  // ---- One step ----------------------------------------------------------------------------------------------------------

  /** Returns what the step gave; undefined where more batches belong to it. */
  private async takeBatch(batch: Batch, epoch: number, where: string): Promise<LossValues | undefined> {
    const { device, turns } = this
    this.method.begin?.(epoch, this.updates + 1)
    const ready = (this.context ??= await withMoved(batch, device, each => this.prepare(each)))
    this.begin()
    const { compiled } = this
    const stepped = compiled?.takes(batch)
      ? scope(() => {
          const values = compiled.start(moveBatch(batch, device), where)
          return () => values // in a function: with a promise in its result the scope would release nothing
        })
      : () => trainInParts(ready, () => moveBatch(batch, device), where, turns)
    const done = await stepped()
    if (this.accumulation !== undefined)
      return this.accumulation.isFull ? this.finishUpdate(where) : undefined
    this.afterUpdate()
    return done
  }

  /** The update by the gradients that were added up. */
  private finishUpdate(where: string): LossValues {
    const values = this.accumulation!.finish()
    update(this.context!, values, where)
    this.afterUpdate()
    return values
  }

  private afterUpdate(): void {
    this.updates++
    this.average?.update()
    this.schedule?.afterStep()
  }
}

function loaderEpochOf(loader: Batches): number | undefined {
  return loader instanceof DataLoader ? loader.epoch : undefined
}

/** The parts that stay as they are, and their parameters. */
function frozenParts(
  student: Module,
  { frozen = [], trained }: FitOptions,
): { parts: Module[]; parameters: ReadonlySet<Tensor> } {
  const still = frozen.map(path => student.getSubmodule(path))
  if (trained === undefined)
    return { parts: still, parameters: new Set(still.flatMap(part => part.parameters())) }
  const learning = trained.map(path => student.getSubmodule(path))
  const isTrained = new Set(learning.flatMap(part => part.modules()))
  const others = student.modules().filter(module => module !== student && !isTrained.has(module))
  // A part around one that is trained is no part that is still: only its own parameters are.
  const around = others.filter(module => module.modules().some(each => isTrained.has(each)))
  const parts = [...others.filter(module => !around.includes(module)), ...still]
  const parameters = new Set(student.parameters())
  for (const each of learning.flatMap(part => part.parameters())) parameters.delete(each)
  for (const each of still.flatMap(part => part.parameters())) parameters.add(each)
  return { parts, parameters }
}

/** Frozen parameters get no gradients while the training lasts. Returns what undoes it. */
function freeze(frozen: ReadonlySet<Tensor>): () => void {
  const changed = [...frozen].filter(({ requiresGrad }) => requiresGrad)
  for (const each of changed) each.requiresGrad = false
  return () => {
    for (const each of changed) each.requiresGrad = true
  }
}

const epochReport: Kind = {
  expected: 'the report of an epoch, with numbers for epoch, loss and accuracy',
  fits: value => {
    const { epoch, loss, accuracy } = value as Partial<EpochReport>
    return [epoch, loss, accuracy ?? 0].every(each => typeof each === 'number')
  },
}

/** `Epoch 1: Loss=0.1234, Acc=56.78%` */
export function formatEpoch(report: EpochReport): string {
  requireKind('formatEpoch: report', epochReport, report)
  const { epoch, loss, accuracy } = report
  const measured = accuracy === undefined ? '' : `, Acc=${accuracy.toFixed(2)}%`
  return `Epoch ${epoch}: Loss=${loss.toFixed(4)}${measured}`
}

function moveBatch(batch: Batch, device: Device | undefined): Batch {
  return device === undefined ? batch : batchOn(batch, device)
}

/** Runs `body` with a batch on the device, whose copy is released when that is over. */
async function withMoved<T>(
  batch: Batch,
  device: Device | undefined,
  body: (batch: Batch) => Promise<T>,
): Promise<T> {
  const moved = moveBatch(batch, device)
  try {
    return await body(moved)
  } finally {
    releaseBatch(moved, batch)
  }
}

/** Each part in the plan's precision, which is not on between them. */
function* partsInPrecision<T>(plan: Plan, parts: InParts<T>): InParts<T> {
  for (;;) {
    const next = inPrecision(plan, () => parts.next())
    if (next.done) return next.value
    yield
  }
}

/** `undefined` is what a forgotten `return` gives. */
function checkOptimizer(made: Optimizer, parameters: readonly Tensor[]): Optimizer {
  const { step, zeroGrad } = (made ?? {}) as { step?: unknown; zeroGrad?: unknown }
  if (typeof step !== 'function' || typeof zeroGrad !== 'function')
    throw argumentError('optimizer', 'a function that returns an optimizer', made)
  const held = groupsOf(made)?.flatMap(({ params }) => params)
  if (![...parameters, ...(held ?? [])].some(({ requiresGrad }) => requiresGrad))
    throw nothingTrainable(parameters.length)
  const trained = new Set(parameters)
  if (held !== undefined && !held.some(each => trained.has(each)))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `optimizer: expected one of the ${parameters.length} parameters that the function is given, or of some of them; ` +
        `got one of ${held.length} others, with which nothing would be trained`,
    )
  return made
}

function nothingTrainable(count: number): AlambicError {
  const got = count === 0 ? 'a model without any' : `${count}, of which requiresGrad is false`
  return new AlambicError(
    'ERR_AUTOGRAD',
    `expected parameters to train, got ${got}: nothing is trainable` +
      (count === 0 ? '' : '; model.requiresGrad(true) makes them so'),
  )
}

/** An optimizer of one's own may have none. */
function groupsOf(optimizer: Optimizer): Optimizer['paramGroups'] | undefined {
  const groups: unknown = optimizer.paramGroups
  const isList =
    Array.isArray(groups) &&
    groups.every(group => Array.isArray((group as { params?: unknown } | null)?.params))
  return isList ? (groups as Optimizer['paramGroups']) : undefined
}

function noBatches(epoch: number): AlambicError {
  return new AlambicError(
    'ERR_ARGUMENT',
    epoch === 1
      ? 'trainLoader: expected at least one batch, the loader gave none'
      : `trainLoader: expected batches in every epoch, the loader gave none in epoch ${epoch}; each epoch runs through ` +
          'it anew, which a generator bears once only',
  )
}

/** Lines for the log, which may be said anywhere and are written where the loop can wait for it. */
class Lines {
  private waiting: string[] = []

  constructor(private readonly log: ((line: string) => unknown) | null) {}

  add(line: string): void {
    this.waiting.push(line)
  }

  async write(): Promise<void> {
    for (const line of this.waiting.splice(0)) await this.log?.(line)
  }
}

class Means {
  private readonly sums: Record<string, number>
  private count: number

  constructor({ sums, count }: TrainingState['sums'] = { sums: {}, count: 0 }) {
    this.sums = { ...sums }
    this.count = count
  }

  stateDict(): TrainingState['sums'] {
    return { sums: { ...this.sums }, count: this.count }
  }

  add(values: Record<string, number>): void {
    this.count++
    for (const [name, value] of Object.entries(values)) this.sums[name] = (this.sums[name] ?? 0) + value
  }

  means(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.sums).map(([name, sum]) => [name, sum / this.count]))
  }
}
