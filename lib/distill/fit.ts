/** The training loop that every method shares: epochs, steps, progress, and stopping for the right reasons. */
import type { Batch } from '../data/dataset.js'
import { AlambicError } from '../errors.js'
import { scope } from '../memory.js'
import type { Module } from '../nn/module.js'
import { Adam, clipGradNorm_, type Optimizer } from '../optim/index.js'
import type { Tensor } from '../tensor.js'
import type { Device } from '../types.js'
import { nextTurn, type Batches } from './batches.js'
import { evaluate } from './evaluate.js'
import {
  batchesOf,
  chooseSpeed,
  describePlan,
  inPrecision,
  withPlan,
  type Plan,
  type Speed,
} from './speed.js'

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
  /** Steps per epoch, where the loader knows. */
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

export interface FitOptions {
  /** Default: 50. */
  epochs?: number
  /** Learning rate of the default optimizer, Adam. Default: 1e-3. */
  lr?: number
  /** Makes another optimizer for the parameters that are trained. */
  optimizer?: (parameters: Tensor[]) => Optimizer
  /** Makes a learning rate schedule. */
  scheduler?: (optimizer: Optimizer) => { step(): void }
  /** When the schedule's `step()` is called. Default: `'epoch'`. */
  schedulerInterval?: 'epoch' | 'step'
  /** Clip the gradients to this L2 norm. Default: no clipping. */
  clipGradNorm?: number
  /** Where batches are moved. Default: the student's device. */
  device?: Device
  /** Takes the log lines. Default: `console.log`; null for silence. */
  log?: ((line: string) => void) | null
  /** A log line for the first and then every so many epochs. Default: 10. */
  logEvery?: number
  onStep?: (progress: StepProgress) => void
  onEpoch?: (report: EpochReport) => void
  /** Stops after the current step; the result then covers what was done. */
  signal?: AbortSignal
  /**
   * `'auto'` picks what makes training faster on this machine, and logs what it picked and why; an object makes some
   * of the choices by hand. Results then differ from those without it by rounding, or by the precision. Default: no
   * such thing.
   */
  speed?: Speed
}

export interface TrainingResult {
  history: EpochReport[]
  /** Whether the signal stopped it before the last epoch was done. */
  stopped: boolean
}

/** What a method adds to the loop. */
export interface Method {
  /** The model in training; evaluated after each epoch. */
  student: Module<[Tensor], Tensor>
  /** Called once with the first batch, before its step: what must see data to be made. Returns what is trained. */
  prepare: (batch: Batch) => Tensor[]
  loss: (batch: Batch) => LossParts
  /** After {@link prepare}: what was done to the teacher for speed, for the log. */
  describeTeacher?: () => string
}

/**
 * @throws AlambicError `ERR_NAN_LOSS` when the loss is no longer finite, before that step changes any weight;
 *   `ERR_ARGUMENT` when the loader yields nothing
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
export function planOf(model: Module, { speed, device = model.parameters()[0]?.device }: FitOptions): Plan {
  return chooseSpeed(speed, model, device ?? 'cpu')
}

async function run(
  { student, prepare, loss, describeTeacher }: Method,
  trainLoader: Batches,
  valLoader: Batches | null,
  options: FitOptions,
  plan: Plan,
): Promise<TrainingResult> {
  const { epochs = 50, lr = 1e-3, clipGradNorm, schedulerInterval = 'epoch' } = options
  const { signal, onStep, onEpoch, logEvery = 10 } = options
  const log = options.log === undefined ? console.log : options.log
  const device = options.device ?? student.parameters()[0]?.device
  const makeOptimizer = options.optimizer ?? (parameters => new Adam(parameters, { lr }))
  checkCount('epochs', epochs)
  checkCount('logEvery', logEvery)

  let parameters: Tensor[] = []
  let optimizer: Optimizer | undefined
  let scheduler: { step(): void } | undefined
  const history: EpochReport[] = []

  const step = (batch: Batch, where: string): Record<string, number> => {
    if (optimizer === undefined) {
      parameters = prepare(batch)
      optimizer = makeOptimizer(parameters)
      scheduler = options.scheduler?.(optimizer)
      if (plan.isChosen) log?.(describePlan(plan, describeTeacher?.()))
    }
    optimizer.zeroGrad()
    const parts = inPrecision(plan, () => loss(batch))
    const values = readParts(parts)
    refuseNonFinite(values, where, optimizer)
    parts.total.backward()
    if (clipGradNorm !== undefined) clipGradNorm_(parameters, clipGradNorm)
    optimizer.step()
    if (schedulerInterval === 'step') scheduler?.step()
    return values
  }

  student.train()
  for (let epoch = 1; epoch <= epochs && !signal?.aborted; epoch++) {
    const sums = new Means()
    let steps = 0
    let images = 0
    let busy = 0
    let last = performance.now()
    for await (const batch of batchesOf(plan, trainLoader)) {
      const size = batch.labels.size(0)
      const values = scope(() => {
        const moved = moveBatch(batch, device)
        return step(moved, `epoch ${epoch}, step ${steps + 1}`)
      })
      batch.data.dispose()
      batch.labels.dispose()
      steps++
      images += size
      sums.add(values)
      const { total, ...parts } = values as { total: number }
      onStep?.({ epoch, epochs, step: steps, steps: trainLoader.length, images: size, loss: total, parts })
      await nextTurn()
      busy += performance.now() - last
      last = performance.now()
      if (signal?.aborted) break
    }
    if (steps === 0)
      throw new AlambicError('ERR_ARGUMENT', 'trainLoader: expected at least one batch, the loader gave none')

    const accuracy =
      valLoader && !signal?.aborted ? await evaluate(student, valLoader, { device, signal }) : undefined
    const { total: meanLoss, ...parts } = sums.means() as { total: number }
    const report = { epoch, loss: meanLoss, parts, accuracy, seconds: busy / 1000, images }
    if (signal?.aborted)
      return { history: accuracy === undefined ? history : [...history, report], stopped: true }
    history.push(report)
    if (schedulerInterval === 'epoch') scheduler?.step()
    onEpoch?.(report)
    if ((epoch - 1) % logEvery === 0) log?.(formatEpoch(report))
  }
  return { history, stopped: signal?.aborted ?? false }
}

/** `Epoch 1: Loss=0.1234, Acc=56.78%` */
export function formatEpoch({ epoch, loss, accuracy }: EpochReport): string {
  const measured = accuracy === undefined ? '' : `, Acc=${accuracy.toFixed(2)}%`
  return `Epoch ${epoch}: Loss=${loss.toFixed(4)}${measured}`
}

function moveBatch({ data, labels }: Batch, device: Device | undefined): Batch {
  return device === undefined ? { data, labels } : { data: data.to(device), labels: labels.to(device) }
}

function readParts(parts: LossParts): Record<string, number> {
  return Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, (part as Tensor).item()]))
}

function refuseNonFinite(values: Record<string, number>, where: string, optimizer: Optimizer): void {
  if (Number.isFinite(values['total'])) return
  const parts = Object.entries(values).map(([name, value]) => `${name}=${value}`)
  const rates = optimizer.paramGroups.map(group => group.lr)
  throw new AlambicError(
    'ERR_NAN_LOSS',
    `the loss is no longer finite at ${where}: ${parts.join(', ')} (learning rate ${rates.join(', ')}); the weights ` +
      'are as the step before left them. A lower learning rate, clipGradNorm, or a look at the inputs may help',
  )
}

function checkCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new AlambicError('ERR_ARGUMENT', `${name}: expected an integer of at least 1, got ${value}`)
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
