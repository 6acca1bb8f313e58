/**
 * Trials: the steps of a training are taken in several ways with its first batch, and the fastest is kept. What they
 * find is remembered for this machine and these models. They leave no trace in the training.
 */
import type { Batch } from '../data/dataset.js'
import { scope } from '../memory/memory.js'
import type { Module } from '../nn/module.js'
import { SGD } from '../optim/index.js'
import { zeros } from '../tensors/factories.js'
import { nextTurn } from './batches.js'
import { CompiledSteps, reasonAgainst } from './compiled.js'
import { keyOf, recall, rememberTrials } from './remembered.js'
import { RandomStates, Snapshot } from './snapshot.js'
import { countThreads, putInForce, type Choices, type Plan, type Way } from './speed.js'
import { trainStep, type LossValues, type StepContext } from './step.js'

/** A way is kept where it takes less than this share of the time without it. */
const margin = 0.95

/** Steps of each way that count, at most; one before them does not. */
const rounds = 5

/** Ways that are slower than the fastest by this factor after three rounds are not tried further. */
const hopeless = 1.5

/** Where the median of the steps is longer than the fastest by this factor, others were at work on the machine. */
const disturbed = 1.3

/** Trials end after so many milliseconds with what they know, when each way has made a step that counts. */
const patience = 60_000

/** A compiled step is recorded twice; on a GPU it becomes a graph some steps later. */
const compiledWarmUps = { cpu: 3, gpu: 12 }

/** What trials are made with: a training whose first step is yet to come. */
export interface Subject extends StepContext {
  /** Whose memory format is tried. */
  student: Module
  modules: { trained: readonly Module[]; used: readonly Module[] }
  teachers: readonly { adopt(): void; settle(): void }[]
  /** On the device, and in nobody else's hands while the trials last. */
  batch: Batch
  signal: AbortSignal | undefined
  /** What else the time of a step depends on, such as the layers of features. */
  key: string
  /** Why no step can be compiled. */
  againstCompiling?: string | undefined
}

/** What trials found. */
export interface Findings {
  way: Way
  choices: Choices
  /** False where other work on the machine disturbed the times, or there was not enough of it to try everything. */
  isSure: boolean
}

/**
 * Chooses what is open in the plan, by what is remembered or by trials, and puts it in force.
 */
export async function chooseByTrial(plan: Plan, subject: Subject): Promise<void> {
  const { student, teachers } = subject
  if (plan.open.size === 0) return
  const adopt = (way: Way) => {
    putInForce(plan, student, way)
    for (const teacher of teachers) teacher.adopt()
  }
  const key = keyOf(plan, subject)
  const remembered = recall(key)
  if (remembered) {
    adopt(remembered.way)
    Object.assign(plan.choices, remembered.choices)
    plan.trials = `tried on ${remembered.day}`
  } else {
    const trials = new Trials(plan, subject, adopt)
    const { findings, seconds, isComplete } = await trials.run()
    adopt(findings.way)
    Object.assign(plan.choices, findings.choices)
    plan.trials = `tried in ${seconds.toFixed(1)} s${findings.isSure ? '' : ', again another day'}`
    if (isComplete) rememberTrials(key, findings)
  }
  for (const teacher of teachers) teacher.settle()
}

/** Milliseconds of the fastest step, which other work on the machine disturbed least; or why there is none. */
type Outcome = number | string

class Trials {
  private readonly start = performance.now()
  private readonly snapshot: Snapshot
  private readonly context: StepContext
  private way: Way
  /** False when no way could be taken to its end, or the training was stopped. */
  private isComplete = true
  /** Whether other work on the machine made the times uncertain. */
  private isDisturbed = false
  private readonly choices: Choices = {}

  constructor(
    private readonly plan: Plan,
    private readonly subject: Subject,
    private readonly adopt: (way: Way) => void,
  ) {
    const { modules, parameters, loss, clipGradNorm } = subject
    this.way = plan.way
    this.snapshot = new Snapshot(modules.trained, modules.used, parameters)
    // An optimizer of its own: the training's shall not have made a step.
    this.context = { loss, parameters, clipGradNorm, optimizer: new SGD([...parameters], { lr: 1 }) }
  }

  async run(): Promise<{ findings: Findings; seconds: number; isComplete: boolean }> {
    try {
      await this.chooseArithmetic()
      if (this.isOpen('prepareTeacher') && this.subject.teachers.length > 0) await this.chooseTeacher()
      if (this.isOpen('threads')) await this.chooseThreads()
      if (this.isOpen('compile')) await this.chooseCompile()
    } finally {
      this.snapshot.end()
    }
    const seconds = (performance.now() - this.start) / 1000
    const isSure = !this.isDisturbed && this.hasTime()
    const findings = { way: this.way, choices: this.choices, isSure }
    return { findings, seconds, isComplete: this.isComplete }
  }

  // ---- What is chosen, one after the other -----------------------------------------------------------------------------

  /** Precision and memory format, together: what suits one may not suit the other. */
  private async chooseArithmetic(): Promise<void> {
    const precisions = this.isOpen('precision') ? (['float32', 'bfloat16'] as const) : [this.way.precision]
    const formats = this.isOpen('memoryFormat')
      ? (['contiguous', 'channelsLast'] as const)
      : [this.way.memoryFormat]
    if (precisions.length * formats.length === 1) return
    const ways = precisions.flatMap(precision =>
      formats.map(memoryFormat => ({ ...this.way, precision, memoryFormat })),
    )
    const outcomes = await this.compare(ways)
    const outcomeOf = (way: Way) => outcomes[ways.findIndex(each => sameArithmetic(each, way))]!
    const timeOf = (way: Way) => timeIn(outcomeOf(way))
    const bestFormats = precisions.map(precision =>
      kept(
        ways.filter(way => way.precision === precision),
        timeOf,
      ),
    )
    this.way = kept(bestFormats, timeOf)
    if (precisions.length > 1) {
      const other = bestFormats.find(({ precision }) => precision !== this.way.precision)!
      this.choices.precision = choice(
        this.way.precision,
        outcomeOf(this.way),
        other.precision,
        outcomeOf(other),
      )
    }
    if (formats.length > 1) {
      const other = ways.find(
        way => way.precision === this.way.precision && way.memoryFormat !== this.way.memoryFormat,
      )!
      const nameOf = ({ memoryFormat }: Way) =>
        memoryFormat === 'channelsLast' ? 'channels-last' : 'contiguous'
      this.choices.memoryFormat = choice(
        nameOf(this.way),
        outcomeOf(this.way),
        nameOf(other),
        outcomeOf(other),
      )
    }
  }

  private async chooseTeacher(): Promise<void> {
    const ways = [false, true].map(prepareTeacher => ({ ...this.way, prepareTeacher }))
    const outcomes = await this.compare(ways)
    const best = keptAt(outcomes)
    this.way = ways[best]!
    const names = ['as it is', 'prepared']
    const { why } = choice('', outcomes[best]!, names[1 - best]!, outcomes[1 - best]!)
    this.choices.prepareTeacher = { what: '', why } // the teacher says what was done
  }

  /** Half as many, as long as that is faster. */
  private async chooseThreads(): Promise<void> {
    while (this.way.threads > 1) {
      const ways = [this.way, { ...this.way, threads: Math.floor(this.way.threads / 2) }]
      const outcomes = await this.compare(ways)
      const best = keptAt(outcomes)
      this.way = ways[best]!
      const other = ways[1 - best]!
      this.choices.threads = choice(
        countThreads(this.way.threads),
        outcomes[best]!,
        countThreads(other.threads),
        outcomes[1 - best]!,
      )
      if (best === 0) return
    }
  }

  private async chooseCompile(): Promise<void> {
    const { againstCompiling, optimizer } = this.subject
    const reason = againstCompiling ?? reasonAgainst(optimizer) ?? (await this.compareCompiled())
    if (typeof reason === 'string') this.choices.compile = { what: 'not compiled', why: reason }
  }

  // ---- Steps -----------------------------------------------------------------------------------------------------------

  private isOpen(part: keyof Way): boolean {
    return this.plan.open.has(part) && this.canGoOn()
  }

  private canGoOn(): boolean {
    if (this.subject.signal?.aborted) this.isComplete = false
    return this.isComplete && this.hasTime()
  }

  private hasTime(): boolean {
    return performance.now() - this.start < patience
  }

  /** In turn, so that what else happens on the machine meets all of them. */
  private async compare(ways: readonly Way[]): Promise<Outcome[]> {
    return this.race(
      ways.map(way => () => {
        this.adopt(way)
        return this.time(() => trainStep(this.context, this.subject.batch, 'a trial'))
      }),
    )
  }

  /**
   * @param contestants take a step and give its milliseconds
   * @returns of each the fastest step, or the message of its error
   */
  private async race(contestants: readonly (() => Promise<number>)[]): Promise<Outcome[]> {
    const samples = contestants.map((): number[] => [])
    const errors = new Map<number, string>()
    let racing = contestants.map((_, i) => i)
    for (let round = 0; round <= rounds && racing.length > 0; round++) {
      for (const i of racing) {
        try {
          const milliseconds = await contestants[i]!()
          if (round > 0) samples[i]!.push(milliseconds)
        } catch (error) {
          // Whether it is the way's or the training's own: that shows itself in the first step.
          errors.set(i, error instanceof Error ? error.message : String(error))
        }
        await nextTurn()
        if (this.subject.signal?.aborted) break
      }
      racing = racing.filter(i => !errors.has(i))
      if (racing.length === 0) this.isComplete = false
      const hasSamples = racing.every(i => samples[i]!.length > 0)
      if (!this.canGoOn() && (hasSamples || !this.isComplete)) break
      if (round < 3) continue
      const best = Math.min(...racing.map(i => fastest(samples[i]!)))
      racing = racing.filter(i => fastest(samples[i]!) <= hopeless * best)
      if (racing.length === 1) break
    }
    const outcomes = samples.map(
      (times, i) => errors.get(i) ?? (times.length > 0 ? fastest(times) : 'not tried'),
    )
    const winner = samples[keptAt(outcomes)]!
    if (winner.length > 2 && median(winner) > disturbed * fastest(winner)) this.isDisturbed = true
    return outcomes
  }

  /** Milliseconds of a step, whose traces are then removed. */
  private async time(step: () => LossValues | Promise<LossValues>): Promise<number> {
    const random = new RandomStates(this.context.parameters)
    const start = performance.now()
    try {
      await scope(() => ({ done: step() })).done
      this.waitForDevice()
      return performance.now() - start
    } finally {
      this.snapshot.restore()
      random.restore()
    }
  }

  private waitForDevice(): void {
    const { device } = this.plan
    if (device !== 'cpu') scope(() => zeros([1], { device }).item())
  }

  /** Keeps the compiled step where it is faster and gives the same bits; else returns why not. */
  private async compareCompiled(): Promise<string | undefined> {
    const { subject, context, plan, way } = this
    this.adopt(way)
    const { trained, used } = subject.modules
    const compiled = new CompiledSteps({ ...context, trained, used, log: null })
    const plainly = () => trainStep(context, subject.batch, 'a trial')
    const natively = () => compiled.start(subject.batch, 'a trial')
    try {
      const warmUps = plan.device === 'cpu' ? compiledWarmUps.cpu : compiledWarmUps.gpu
      for (let i = 0; i < warmUps; i++) {
        await this.time(natively)
        await nextTurn()
        if (compiled.report.reason !== undefined) return compiled.report.reason
        if (!this.canGoOn()) return 'not tried'
      }
      if (!(await this.givesTheSame(plainly, natively))) return 'its results are not the same, bit for bit'
      const outcomes = await this.race([() => this.time(plainly), () => this.time(natively)])
      const best = keptAt(outcomes)
      this.way = { ...way, compile: best === 1 }
      const names = ['not compiled', 'compiled']
      this.choices.compile = choice(names[best]!, outcomes[best]!, names[1 - best]!, outcomes[1 - best]!)
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    } finally {
      compiled.release()
    }
  }

  /** Whether two steps lead to the same losses, weights and buffers. */
  private async givesTheSame(
    plainly: () => LossValues,
    natively: () => LossValues | Promise<LossValues>,
  ): Promise<boolean> {
    const { modules, parameters } = this.subject
    const random = new RandomStates(parameters)
    const expected = scope(plainly)
    const after = new Snapshot(modules.trained, modules.used, parameters)
    this.snapshot.restore()
    random.rewind()
    try {
      const values = await scope(() => ({ done: natively() })).done
      const names = Object.keys(expected)
      return names.every(name => expected[name] === values[name]) && after.isCurrent()
    } finally {
      this.snapshot.restore()
      random.restore()
      after.release()
    }
  }
}

/** The first, or a later one that is faster by the margin. */
function kept<T>(candidates: readonly T[], timeOf: (candidate: T) => number): T {
  return candidates.reduce((best, each) => (timeOf(each) < margin * timeOf(best) ? each : best))
}

function keptAt(outcomes: readonly Outcome[]): number {
  return kept(
    outcomes.map((_, i) => i),
    i => timeIn(outcomes[i]!),
  )
}

/** What failed takes for ever. */
function timeIn(outcome: Outcome): number {
  return typeof outcome === 'number' ? outcome : Infinity
}

function sameArithmetic(a: Way, b: Way): boolean {
  return a.precision === b.precision && a.memoryFormat === b.memoryFormat
}

/** `bfloat16 (98.2 ms a step, float32 141)` */
function choice(
  what: string,
  outcome: Outcome,
  other: string,
  otherOutcome: Outcome,
): { what: string; why: string } {
  return { what, why: `${figure(outcome)} a step, ${other} ${figure(otherOutcome)}` }
}

function figure(outcome: Outcome): string {
  if (typeof outcome === 'string') return `failed: ${outcome.split('\n')[0]!.slice(0, 100)}`
  return `${outcome >= 100 ? outcome.toFixed(0) : outcome.toPrecision(3)} ms`
}

function fastest(samples: readonly number[]): number {
  return Math.min(...samples)
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
