/** The compiled step: what a step does is recorded, and then done again natively, off the main thread. */
import { tensorsOfBatch, type Batch } from '../data/dataset.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Handle, NativeCompiledStep, NativeRecording, StepRunnerName } from '../native/contract.js'
import { native } from '../native/loader.js'
import type { Module } from '../nn/module.js'
import { Optimizer } from '../optim/index.js'
import { getRngState, setRngState } from '../random/index.js'
import type { Tensor } from '../tensors/tensor.js'
import { isError } from '../checks/realms.js'
import { describeRead, ReadLog } from '../trace/reads.js'
import { withScopes } from '../trace/scopes.js'
import type { LossParts } from './fit.js'
import {
  learnFrom,
  refuseNonFinite,
  refuseNonFiniteNorm,
  trainStep,
  type LossValues,
  type StepContext,
} from './step.js'

/** What `compile: true` did. */
export interface CompilationReport {
  /** Steps that ran compiled. */
  steps: number
  /** Steps that ran as usual while they were recorded: one per shape of a batch, and one more to compare. */
  recordings: number
  /** Why steps were not compiled; undefined if they were. */
  reason?: string
  /** Only on a GPU. */
  graph?: GraphReport
}

/** How steps ran as CUDA graphs. */
export interface GraphReport {
  /** How often a step was captured. */
  captures: number
  /** Steps that replayed a captured graph. */
  replays: number
  /** Why other steps did not use a graph. */
  reason?: string
  /**
   * Whether the teacher has a stream of its own, beside the student, and the milliseconds of a step with and without.
   */
  teacherStream?: { used: boolean; beside: number; inLine: number }
}

/** What a compiled step works with. */
export interface CompiledContext extends StepContext {
  /** Whose weights the steps change. */
  trained: readonly Module[]
  /** What else the loss uses: the teacher, a loss with parameters. */
  used: readonly Module[]
  /** What a step depends on besides its batch and the modules; when it changes, steps are recorded anew. */
  variant?: (() => string) | undefined
  /** Why no step can be compiled. */
  againstCompiling?: string | undefined
  /** Why a step that was recorded must not be used again. */
  againstRecording?: (() => string | undefined) | undefined
  log: ((line: string) => void) | null
  /** Default: `'auto'`. */
  runner?: StepRunnerName
}

/** More shapes than these are trained as ever: recordings take memory, and with ever new shapes there is no end. */
const mostRecordings = 8

interface State {
  recording: NativeRecording
  /** Of the loss's parts. */
  names: string[]
  /** Whether it may run: another recording was equal. */
  isConfirmed: boolean
}

/**
 * Steps that are recorded once per shape of the batch and mode of the modules. The first two recordings must be equal:
 * a loss that does not do the same at every call cannot be compiled.
 */
export class CompiledSteps {
  readonly report: CompilationReport = { steps: 0, recordings: 0 }

  private readonly states = new Map<string, State>()
  private variant = ''
  private readonly modules: readonly Module[]
  private readonly captured: Handle[]
  private readonly native: NativeCompiledStep | undefined
  private readonly hasGraphs: boolean

  constructor(private readonly context: CompiledContext) {
    const { trained, used, parameters, optimizer, clipGradNorm, againstCompiling, runner = 'auto' } = context
    this.modules = [...trained, ...used].flatMap(module => module.modules())
    const changing = tensorsOf(trained)
    this.captured = handlesOf(new Set([...changing, ...parameters, ...tensorsOf(used)]))
    const reason = againstCompiling ?? reasonAgainst(optimizer)
    if (reason !== undefined) this.giveUp(reason)
    else
      this.native = new native.CompiledStep(
        optimizer.prepareStep(),
        handlesOf(parameters),
        handlesOf(new Set([...changing, ...parameters])),
        clipGradNorm,
        runner,
      )
    this.hasGraphs = runner !== 'operators' && parameters.some(({ device }) => device.startsWith('cuda'))
  }

  /** Gives back what the steps held on a GPU. */
  release(): void {
    this.native?.release()
  }

  /** Whether it takes a step with this batch, or leaves it to the loop. */
  takes(batch: Batch): boolean {
    if (this.report.reason !== undefined) return false
    this.followVariant()
    return this.states.size < mostRecordings || this.states.has(this.keyOf(batch))
  }

  /** What was recorded of another variant is not used again. */
  private followVariant(): void {
    const variant = this.context.variant?.() ?? ''
    if (variant !== this.variant) this.states.clear()
    this.variant = variant
  }

  /**
   * Records anew at the next step of each shape: if it is not what it was, steps run as ever from then on. For steps
   * that nobody asked to be compiled: a callback may have changed a number that the loss takes from a field.
   */
  recheck(): void {
    for (const state of this.states.values()) state.isConfirmed = false
  }

  /**
   * Takes one step, where {@link takes} says that it does. Every tensor that it makes here belongs to the scope around;
   * the batch may be disposed of when this
   * returns, which is before the step is done.
   *
   * @throws AlambicError `ERR_NAN_LOSS` before any weight has changed; what the loss throws
   */
  start(batch: Batch, where: string): LossValues | Promise<LossValues> {
    const key = this.keyOf(batch)
    const state = this.states.get(key)
    if (state?.isConfirmed) return this.run(state, batch, where)
    return this.record(key, state, batch, where)
  }

  /** What a recording holds for good. */
  private keyOf(batch: Batch): string {
    const modes = this.modules.map(({ training }) => (training ? 't' : 'e')).join('')
    return (
      tensorsOfBatch(batch)
        .map(({ shape, dtype }) => `${dtype}(${shape.join()})`)
        .join() + modes
    )
  }

  private async run({ recording, names }: State, batch: Batch, where: string): Promise<LossValues> {
    this.context.optimizer.prepareStep()
    const numbers = await this.native!.run(
      recording,
      tensorsOfBatch(batch).map(({ handle }) => handle),
    )
    if (this.hasGraphs) this.reportGraph()
    const values = Object.fromEntries(names.map((name, i) => [name, numbers[i]!]))
    refuseNonFinite(values, where, this.context.optimizer)
    const norm = numbers[names.length] // where gradients are clipped
    if (norm !== undefined) refuseNonFiniteNorm(norm, values, where, this.context.optimizer)
    this.report.steps++
    return values
  }

  /** A step as ever, while what its loss does is recorded. */
  private record(key: string, before: State | undefined, batch: Batch, where: string): LossValues {
    const { context } = this
    context.optimizer.zeroGrad()
    const restore = remember(context)
    let made: Recorded
    try {
      made = this.recordLoss(batch)
    } catch (error) {
      // Either the loss cannot be recorded, or it fails anyhow: then it fails again.
      restore()
      const values = trainStep(context, batch, where)
      this.giveUp(isError(error) ? error.message : String(error))
      return values
    }
    this.report.recordings++
    const reason = this.context.againstRecording?.() ?? reasonAgainstRecording(made, before)
    if (reason !== undefined) this.giveUp(reason)
    else {
      const twin = before ?? Array.from(this.states.values()).find(each => isSame(each, made))
      if (twin) twin.isConfirmed = true
      const isConfirmed = Array.from(this.states.values()).some(each => each.isConfirmed)
      this.states.set(key, { recording: made.recording, names: made.names, isConfirmed })
    }
    return learnFrom(context, made.parts, where, batch.labels.size(0))
  }

  private recordLoss(batch: Batch): Recorded {
    const layers: string[] = []
    const reads = new ReadLog(() => layers.at(-1) ?? '')
    const listener = { enter: (path: string) => layers.push(path), leave: () => layers.pop() }
    let parts: LossParts | undefined
    const body = () => {
      parts = this.context.loss(batch)
      return Object.values(parts).map(part => (part as Tensor).handle)
    }
    const handles = tensorsOfBatch(batch).map(({ handle }) => handle)
    const recording = withScopes(
      this.context.trained[0]!,
      listener,
      () => new native.Recording(this.captured, handles, body, reads.note),
    )
    return { recording, reads, parts: parts!, names: Object.keys(parts!) }
  }

  private reportGraph(): void {
    const before = this.report.graph
    const { sideStream, ...graph } = this.native!.report()
    this.report.graph = sideStream === undefined ? graph : { ...graph, teacherStream: sideStream }
    if (graph.reason !== undefined && before?.reason === undefined)
      this.context.log?.(`compile: steps run without a CUDA graph, ${graph.reason}`)
    if (sideStream !== undefined && before?.teacherStream === undefined)
      this.context.log?.(`compile: ${describeStream(sideStream)}`)
  }

  private giveUp(reason: string): void {
    this.report.reason = reason
    this.states.clear()
    this.context.log?.(`compile: training goes on without, ${reason}`)
  }
}

interface Recorded {
  recording: NativeRecording
  reads: ReadLog
  parts: LossParts
  names: string[]
}

/** Where the teacher runs, for people. */
export function describeStream({ used, beside, inLine }: NonNullable<GraphReport['teacherStream']>): string {
  const times = `${beside.toFixed(2)} ms a step with a stream of its own, ${inLine.toFixed(2)} ms without`
  return `the teacher runs ${used ? 'beside' : 'before'} the student (${times})`
}

/** Why steps of an optimizer cannot be compiled. */
export function reasonAgainst(optimizer: Optimizer): string | undefined {
  /* eslint-disable @typescript-eslint/unbound-method -- compared only */
  const { step, zeroGrad } = optimizer
  const isOwn =
    optimizer instanceof Optimizer &&
    step === Optimizer.prototype.step &&
    zeroGrad === Optimizer.prototype.zeroGrad
  /* eslint-enable @typescript-eslint/unbound-method */
  return isOwn ? undefined : `the optimizer ${(optimizer as object).constructor.name} is not one of optim`
}

function reasonAgainstRecording(recorded: Recorded, before: State | undefined): string | undefined {
  const [read] = recorded.reads.values
  if (read !== undefined) return `the loss depends on a value that is read: ${describeRead(read)}`
  if (before !== undefined && !isSame(before, recorded)) return 'the loss does not do the same at every step'
  return undefined
}

/** Shapes are no part of a recording: that of another batch may be the same. */
function isSame(a: Pick<Recorded, 'names' | 'recording'>, b: Pick<Recorded, 'names' | 'recording'>): boolean {
  return String(a.names) === String(b.names) && a.recording.text() === b.recording.text()
}

/** For a step that fails while it is recorded. Returns what takes back its traces in buffers and random numbers. */
function remember({ trained, parameters }: CompiledContext): () => void {
  const buffers = trained.flatMap(module => module.buffers())
  const values = noGrad(() => buffers.map(buffer => buffer.clone()))
  const devices = new Set(['cpu', ...parameters.map(({ device }) => device)])
  const states = Array.from(devices, device => [device, getRngState(device)] as const)
  return () => {
    noGrad(() => buffers.forEach((buffer, i) => buffer.copy_(values[i]!)))
    for (const [device, state] of states) setRngState(state, device)
  }
}

function tensorsOf(modules: readonly Module[]): Tensor[] {
  return modules.flatMap(module => [...module.parameters(), ...module.buffers()])
}

function handlesOf(tensors: Iterable<Tensor>): Handle[] {
  return Array.from(tensors, ({ handle }) => handle)
}
