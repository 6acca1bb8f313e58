/** The training loop that every method shares: epochs, steps, progress, and stopping for the right reasons. */
import type { Batch } from '../data/dataset.js'
import { AlambicError, argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import type { Module } from '../nn/module.js'
import { Adam, type Optimizer } from '../optim/index.js'
import {
  anything,
  boolean,
  callback,
  device,
  integer,
  notNegative,
  oneOf,
  orNull,
  requireKind,
  signal,
  type Kind,
  type Kinds,
} from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import { batchesOf, prefetch, type Batches } from './batches.js'
import { CompiledSteps, type CompilationReport } from './compiled.js'
import { evaluate } from './evaluate.js'
import type { TeacherInTraining } from './teacher.js'
import { ScheduleOfTraining, type Schedule } from './schedule.js'
import { chooseSpeed, describePlan, inPrecision, withPlan, type Plan, type Speed } from './speed.js'
import { completed, trainInParts, type DividedContext, type InParts, type LossValues } from './step.js'
import { chooseByTrial } from './trials.js'
import { Turns } from './turns.js'

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
  optimizer: callback,
  scheduler: callback,
  schedulerInterval: oneOf('epoch', 'step'),
  schedulerMetric: callback,
  clipGradNorm: {
    expected: 'a number of at least 0',
    fits: value => (value as number) >= 0 && typeof value === 'number',
  },
  device,
  log: orNull(callback),
  logEvery: integer(1),
  onStep: callback,
  onEpoch: callback,
  signal,
  speed: anything, // chooseSpeed() looks at it
  compile: boolean,
}

/** What the training functions return. */
export interface TrainingResult {
  history: EpochReport[]
  /** Whether the signal stopped the training before the end of the last epoch. */
  stopped: boolean
  /** Only if steps were to be compiled. */
  compilation?: CompilationReport
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
 * @throws AlambicError `ERR_NAN_LOSS` when the loss is no longer finite, or the norm of gradients that are clipped,
 *   before that step changes any weight; `ERR_ARGUMENT` when the loader yields nothing
 */
export async function fit(
  method: Method,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions,
  plan: Plan = planOf(method.student, options),
): Promise<TrainingResult> {
  return withPlan(plan, method.student, () => run(method, trainLoader, valLoader, options, plan))
}

/** How the training of a model is made fast, by the option `speed`. */
export function planOf(
  model: Module,
  { speed, compile, device = model.parameters()[0]?.device }: FitOptions,
): Plan {
  return chooseSpeed(speed, model, device ?? 'cpu', compile)
}

async function run(
  { student, prepare, begin: beginStep, loss, modules, teachers, key, variant, againstRecording }: Method,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions,
  plan: Plan,
): Promise<TrainingResult> {
  const { epochs = 50, lr = 1e-3, clipGradNorm } = options
  const { signal, onStep, onEpoch, logEvery = 10 } = options
  const lines = new Lines(options.log === undefined ? console.log : options.log)
  const log = (line: string) => lines.add(line)
  const turns = new Turns()
  const device = options.device ?? student.parameters()[0]?.device
  const makeOptimizer = options.optimizer ?? (parameters => new Adam(parameters, { lr }))

  let context: DividedContext | undefined
  let begin!: () => void
  const begun = new Promise<void>(resolve => (begin = resolve))
  let schedule: ScheduleOfTraining | undefined
  let compiled: CompiledSteps | undefined
  const history: EpochReport[] = []
  const result = (stopped: boolean, reports = history): TrainingResult =>
    compiled === undefined
      ? { history: reports, stopped }
      : { history: reports, stopped, compilation: compiled.report }

  const prepareSteps = async (batch: Batch): Promise<DividedContext> => {
    const parameters = scope(() => prepare(batch))
    const optimizer = checkOptimizer(await makeOptimizer(parameters), parameters)
    schedule = new ScheduleOfTraining(await options.scheduler?.(optimizer), options, valLoader !== null)
    const made = {
      loss: (each: Batch) => inPrecision(plan, () => completed(loss(each))),
      lossInParts: (each: Batch) => partsInPrecision(plan, loss(each)),
      parameters,
      optimizer,
      clipGradNorm,
    }
    await chooseByTrial(plan, { ...made, student, modules, teachers, batch, signal, key })
    if (plan.isChosen)
      log(
        describePlan(
          plan,
          teachers.map(({ description }) => description),
        ),
      )
    if (plan.way.compile)
      compiled = new CompiledSteps({ ...made, ...modules, variant, againstRecording, log })
    return made
  }
  let stepsDone = 0
  const step = async (batch: Batch, epoch: number, where: string): Promise<LossValues> => {
    beginStep?.(epoch, ++stepsDone)
    const ready = (context ??= await withMoved(batch, device, prepareSteps))
    begin()
    const isCompiled = compiled?.takes(batch)
    const { values } = isCompiled
      ? scope(() => ({ values: compiled!.start(moveBatch(batch, device), where) }))
      : { values: trainInParts(ready, () => moveBatch(batch, device), where, turns) }
    const done = await values
    schedule?.afterStep()
    return done
  }

  student.train()
  try {
    for (let epoch = 1; epoch <= epochs && !signal?.aborted; epoch++) {
      if (plan.open.has('compile')) compiled?.recheck()
      const sums = new Means()
      let steps = 0
      let images = 0
      let busy = 0
      let last = performance.now()
      turns.guard([...modules.trained, ...modules.used].flatMap(module => module.modules()))
      turns.leave()
      const batches = batchesOf('trainLoader', trainLoader)
      for await (const batch of plan.way.compile || plan.prefetch ? prefetch(batches, begun) : batches) {
        turns.comeBack()
        const size = batch.labels.size(0)
        const values = await step(batch, epoch, `epoch ${epoch}, step ${steps + 1}`)
        batch.data.dispose()
        batch.labels.dispose()
        batch.indices?.dispose()
        steps++
        images += size
        sums.add(values)
        const { total, ...parts } = values as { total: number }
        await lines.write()
        await onStep?.({
          epoch,
          epochs,
          step: steps,
          steps: trainLoader.length,
          images: size,
          loss: total,
          parts,
        })
        await turns.give()
        turns.leave()
        busy += performance.now() - last
        last = performance.now()
        if (signal?.aborted) break
      }
      turns.comeBack()
      if (steps === 0) throw noBatches(epoch)

      const accuracy =
        valLoader && !signal?.aborted ? await evaluate(student, valLoader, { device, signal }) : undefined
      const { total: meanLoss, ...parts } = sums.means() as { total: number }
      const report = { epoch, loss: meanLoss, parts, accuracy, seconds: busy / 1000, images }
      if (signal?.aborted) return result(true, accuracy === undefined ? history : [...history, report])
      history.push(report)
      await schedule?.afterEpoch(report)
      await onEpoch?.(report)
      if ((epoch - 1) % logEvery === 0 || epoch === epochs || signal?.aborted) log(formatEpoch(report))
      await lines.write()
    }
    return result(signal?.aborted ?? false)
  } finally {
    compiled?.release()
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

function moveBatch({ data, labels, indices }: Batch, device: Device | undefined): Batch {
  if (device === undefined) return { data, labels, indices }
  return { data: data.to(device), labels: labels.to(device), indices: indices?.to(device) }
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
    if (moved.data !== batch.data) moved.data.dispose()
    if (moved.labels !== batch.labels) moved.labels.dispose()
    if (moved.indices !== batch.indices) moved.indices?.dispose()
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
  const trained = new Set(parameters)
  if (held !== undefined && !held.some(each => trained.has(each)))
    throw new AlambicError(
      'ERR_ARGUMENT',
      `optimizer: expected one of the ${parameters.length} parameters that the function is given, or of some of them; ` +
        `got one of ${held.length} others, with which nothing would be trained`,
    )
  return made
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
  private readonly sums: Record<string, number> = {}
  private count = 0

  add(values: Record<string, number>): void {
    this.count++
    for (const [name, value] of Object.entries(values)) this.sums[name] = (this.sums[name] ?? 0) + value
  }

  means(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.sums).map(([name, sum]) => [name, sum / this.count]))
  }
}
