/** Runs: trainings that are kept, go on where they were interrupted, and tell what came of them. */
import { callback, oneOf, readOptions, requireKind, signal as aSignal, text } from '../checks/options.js'
import { Unaugmented, type Dataset } from '../data/dataset.js'
import { DataLoader } from '../data/loader.js'
import { evaluate } from '../distill/evaluate.js'
import type { EpochReport, StepProgress } from '../distill/fit.js'
import type { TrainingState } from '../distill/keeper.js'
import { Term } from '../distill/term.js'
import { trainObjective, type Classifier, type ObjectiveOptions } from '../distill/train.js'
import { AlambicError, show } from '../errors.js'
import { loadStateDict } from '../io/load.js'
import { copyCheckpoint, copyStateDict } from '../io/save.js'
import { collectTensors, scope } from '../memory/memory.js'
import { Module, type StateDict } from '../nn/module.js'
import type { Optimizer } from '../optim/index.js'
import { manualSeed } from '../random/index.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'
import { currentEnvironment, differences, type Environment } from './environment.js'
import { dividedData } from './data.js'
import { differencesOfRecipes } from './recipe-differences.js'
import { MetricsFile, RunFolder, WriteQueue } from './folder.js'
import { loadRecipe } from './load-recipe.js'
import { checkOptions, stagesOf, type Stage } from './check-options.js'
import type { DistillerOptions } from './options.js'
import { TaughtData } from './teacher-cache.js'
import { accuracyOf, meanOfLastTen, type BestEpoch, type RunEpoch, type RunResult } from './results.js'

/** A step of a run. */
export interface RunStep extends StepProgress {
  stage: string
  /** From 1, over all stages. */
  runStep: number
}

/** What a {@link Distiller} tells. Listeners may be asynchronous: the run waits for them. */
export interface DistillerEvents {
  /** A stage begins, or goes on. */
  stage: { name: string; number: number; stages: number; epochs: number }
  step: RunStep
  epoch: RunEpoch
  /** A checkpoint was written. */
  checkpoint: { path: string; step: number }
  /** Something could not be written; the run goes on. */
  problem: { message: string; error: unknown }
}

type Listener<Name extends keyof DistillerEvents> = (event: DistillerEvents[Name]) => unknown

const eventName = oneOf('stage', 'step', 'epoch', 'checkpoint', 'problem')

/** What a checkpoint holds. */
interface RunState {
  format: 'alambic run'
  version: 1
  /** From 0. */
  stage: number
  /** Updates of all stages before this one. */
  stepsBefore: number
  epochs: RunEpoch[]
  best: BestEpoch | null
  epochsSinceBest: number
  endedEarly: boolean
  milliseconds: number
  metrics: number
  recipe: string | null
  environment: Environment
  changes: string[]
  training: TrainingState
}

const stepsPerMetric = 50

/**
 * A run: one or several stages of training by objectives, with validation, checkpoints and a result. With a `folder` it
 * keeps there what it needs to go on: after an interruption, {@link Distiller.resume} continues at the step of the last
 * checkpoint, and on the CPU ends with the same weights, bit for bit, as if nothing had happened.
 *
 * @example
 * const run = new Distiller({ teacher, student, train, validation: 5000, test, objective, epochs: 20, folder: 'runs/a' })
 * run.on('epoch', ({ runEpoch, accuracy }) => console.log(runEpoch, accuracy))
 * const { testAccuracy } = await run.start()
 */
export class Distiller {
  readonly options: DistillerOptions
  private readonly stages: readonly Stage[]
  private readonly listeners = new Map<string, Set<Listener<never>>>()
  private readonly folder: RunFolder | null
  private isRunning = false
  private isResumed = false
  /** The recipe that the run was made from, as it is kept. */
  private recipe: string | null = null

  /** @throws AlambicError `ERR_ARGUMENT` for options that are unknown, of another kind, or do not fit together */
  constructor(options: DistillerOptions) {
    checkOptions(options)
    this.options = options
    this.stages = stagesOf(options)
    this.folder = options.folder === undefined ? null : new RunFolder(options.folder)
  }

  /**
   * A run that goes on from the newest checkpoint in its folder.
   *
   * @param options what the run was made of. Default: what the recipe in the folder makes.
   * @throws AlambicError `ERR_FILE_NOT_FOUND` for a folder without a run; `ERR_RECIPE`
   */
  static async resume(folder: string, options?: Omit<DistillerOptions, 'folder'>): Promise<Distiller> {
    requireKind('Distiller.resume: folder', text, folder)
    if (options === undefined) {
      const recipe = await loadRecipe(new RunFolder(folder).recipe)
      return (await Distiller.resume(folder, await recipe.build())).withRecipe(recipe.toYaml())
    }
    const run = new Distiller({ ...options, folder })
    if ((await run.folder!.listCheckpoints()).length === 0)
      throw new AlambicError(
        'ERR_FILE_NOT_FOUND',
        `${folder}: expected the folder of a run with a checkpoint, found none`,
      )
    run.isResumed = true
    return run
  }

  /** The recipe that the run was made from: it is kept in the folder. @internal */
  withRecipe(text: string): this {
    this.recipe = text
    return this
  }

  on<Name extends keyof DistillerEvents>(name: Name, listener: Listener<Name>): this {
    requireKind('Distiller.on: event', eventName, name)
    requireKind('Distiller.on: listener', callback, listener)
    if (!this.listeners.has(name)) this.listeners.set(name, new Set())
    this.listeners.get(name)!.add(listener)
    return this
  }

  off<Name extends keyof DistillerEvents>(name: Name, listener: Listener<Name>): this {
    this.listeners.get(name)?.delete(listener)
    return this
  }

  private async emit<Name extends keyof DistillerEvents>(
    name: Name,
    event: DistillerEvents[Name],
  ): Promise<void> {
    for (const listener of this.listeners.get(name) ?? []) await (listener as Listener<Name>)(event)
  }

  /**
   * Trains to the end, or until `signal` says stop; then a checkpoint of the last step is written.
   *
   * @throws AlambicError `ERR_BUSY` when it runs already, or another process is at work in the folder; `ERR_ARGUMENT`
   *   when the folder has a run that is not resumed; `ERR_NAN_LOSS`, with the terms that are not finite; the errors of
   *   the terms
   */
  async start(options: { signal?: AbortSignal } = {}): Promise<RunResult> {
    const { signal } = readOptions('start', options, { signal: aSignal })
    if (this.isRunning) throw new AlambicError('ERR_BUSY', 'Distiller: the run is under way')
    this.isRunning = true
    try {
      if (this.folder === null) return await this.run(undefined, signal)
      await this.folder.make()
      const unlock = await this.folder.lock()
      try {
        const state = await this.stateToResume()
        this.isResumed = true // what is begun goes on when it is started again
        try {
          return await this.run(state, signal)
        } finally {
          collectTensors(state, tensor => {
            tensor.dispose()
          })
        }
      } finally {
        await unlock()
      }
    } finally {
      this.isRunning = false
    }
  }

  private async stateToResume(): Promise<RunState | undefined> {
    const folder = this.folder!
    if (!this.isResumed) {
      if ((await folder.listCheckpoints()).length > 0)
        throw new AlambicError(
          'ERR_ARGUMENT',
          `folder: ${folder.path} has a run already; Distiller.resume() goes on with it, and another folder starts anew`,
        )
      return undefined
    }
    const damaged: string[] = []
    const { state, path } = await folder.newestCheckpoint<RunState>(message => damaged.push(message))
    for (const message of damaged) await this.emit('problem', { message, error: null })
    if ((state as Partial<RunState> | null)?.format !== 'alambic run')
      throw new AlambicError('ERR_FILE_FORMAT', `${path}: expected a checkpoint of a run, got ${show(state)}`)
    if (state.stage >= this.stages.length)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${path}: the run was in stage ${state.stage + 1}, and these options have ${this.stages.length}`,
      )
    return state
  }

  private async run(resumed: RunState | undefined, signal: AbortSignal | undefined): Promise<RunResult> {
    const { options, stages, folder, recipe } = this
    const changes = resumed === undefined ? [] : await changesSince(resumed, recipe)
    const emit: Emit = (name, event) => this.emit(name, event)
    return new RunUnderWay({ options, stages, folder, recipe, emit, resumed, changes, signal }).run()
  }
}

/** What is not as it was at the checkpoint, and what was changed before. */
async function changesSince(
  { changes, recipe, environment, stepsBefore, training }: RunState,
  now: string | null,
): Promise<string[]> {
  const when = `from step ${stepsBefore + training.updates} on`
  const options = recipe === null || now === null ? [] : await differencesOfRecipes(recipe, now)
  const found = [...differences(environment, currentEnvironment()), ...options]
  return [...changes, ...found.map(each => `${each} (${when})`)]
}

type Emit = <Name extends keyof DistillerEvents>(name: Name, event: DistillerEvents[Name]) => Promise<void>

/** What one start of a run has. */
interface MadeOf {
  readonly options: DistillerOptions
  readonly stages: readonly Stage[]
  readonly folder: RunFolder | null
  readonly recipe: string | null
  readonly emit: Emit
  readonly resumed: RunState | undefined
  readonly changes: readonly string[]
  readonly signal: AbortSignal | undefined
}

/** One start of a run, up to its end or its interruption. */
class RunUnderWay {
  private readonly epochs: RunEpoch[]
  private readonly queue: WriteQueue
  private readonly metrics: MetricsFile | null
  private readonly environment = currentEnvironment()
  private readonly comparedBy: RunResult['comparedBy']
  private readonly comparing: DataLoader | null
  private readonly testing: DataLoader | null
  private readonly training: DataLoader
  private readonly taught: TaughtData
  /** Ends a stage whose patience is over. */
  private readonly enough = new AbortController()
  private best: BestEpoch | null
  /** Its weights, on the CPU, and whether the folder has them. */
  private bestWeights: StateDict | null = null
  private isBestKept = false
  /** The moving average at the end of a stage. */
  private average: StateDict | null = null
  private epochsSinceBest: number
  private endedEarly: boolean
  private stage: number
  private stepsBefore: number
  private stepsOfStage = 0
  private failure: { error: unknown } | undefined
  private optimizer: Optimizer | undefined
  private readonly startedAt = performance.now()
  private readonly earlierMilliseconds: number
  private lastCheckpoint = { step: -1, epochs: 0, time: performance.now() }
  private metric = { steps: 0, sums: {} as Record<string, number>, images: 0, since: performance.now() }
  /** Best epochs that checkpoints in the folder refer to, the newest last. */
  private referred: number[] = []

  constructor(private readonly made: MadeOf) {
    const { resumed, folder, options, stages } = made
    this.epochs = resumed?.epochs ?? []
    this.best = resumed?.best ?? null
    this.epochsSinceBest = resumed?.epochsSinceBest ?? 0
    this.endedEarly = resumed?.endedEarly ?? false
    this.stage = resumed?.stage ?? 0
    this.stepsBefore = resumed?.stepsBefore ?? 0
    this.earlierMilliseconds = resumed?.milliseconds ?? 0
    if (this.best !== null) this.referred.push(this.best.epoch)
    this.queue = new WriteQueue((what, error) => {
      this.couldNotWrite(what, error)
    })
    this.metrics = folder === null ? null : new MetricsFile(folder.metrics)
    const { seed = 0, test = null, testEachEpoch = false } = options
    const [train, validation] = dividedData(options)
    this.taught = new TaughtData(options, stages, train)
    this.training = new DataLoader(this.taught.dataset, {
      batchSize: options.batchSize ?? 64,
      shuffle: true,
      seed,
      dropLast: options.dropLast ?? false,
      indices: stages.some(({ objective }) => objective.terms.values().some(needsIndices)),
      transform: options.transform,
    })
    const forEvaluation = (dataset: Dataset | null) =>
      dataset === null
        ? null
        : new DataLoader(new Unaugmented(dataset), { batchSize: options.evaluationBatchSize ?? 256 })
    this.testing = forEvaluation(test)
    this.comparing = forEvaluation(validation) ?? (testEachEpoch ? this.testing : null)
    this.comparedBy = validation !== null ? 'validation' : testEachEpoch && test !== null ? 'test' : null
  }

  async run(): Promise<RunResult> {
    const { seed = 0, device } = this.options
    if (device !== undefined) this.moveTo(device)
    if (this.made.resumed === undefined) manualSeed(seed)
    await this.begin()
    await this.taught.open(this.made.signal)
    let stopped = false
    try {
      for (; this.stage < this.made.stages.length; this.stage++) {
        stopped = await this.runStage(this.made.stages[this.stage]!)
        if (stopped || this.endedEarly) break
        this.stepsBefore += this.stepsOfStage
        this.stepsOfStage = 0
      }
      await this.queue.finished()
      this.refuseFailure()
      return await this.finish(stopped)
    } finally {
      this.taught.close()
      await this.queue.finished()
      for (const weights of [this.bestWeights, this.average])
        for (const each of Object.values(weights ?? {})) each.dispose()
    }
  }

  private moveTo(device: string): void {
    const { student, teacher } = this.options
    const teachers: Classifier[] = teacher instanceof Module ? [teacher] : Object.values(teacher ?? {})
    for (const each of [student, ...teachers]) each.to(device)
  }

  private async begin(): Promise<void> {
    const { folder } = this.made
    if (folder === null) return
    await folder.writeText(folder.environment, `${JSON.stringify(this.environment, null, 2)}\n`)
    if (this.made.recipe !== null) await folder.writeText(folder.recipe, this.made.recipe)
    await this.metrics!.begin(this.made.resumed?.metrics ?? 0)
    if (this.made.resumed === undefined) return
    const { training } = this.made.resumed
    this.metrics!.add({ type: 'resumed', step: this.steps + training.updates, changes: this.made.changes })
    if (this.best === null) return
    this.bestWeights = await loadStateDict(folder.best(this.best.epoch), { mmap: false })
    this.isBestKept = true
  }

  private get options(): DistillerOptions {
    return this.made.options
  }

  private get steps(): number {
    return this.stepsBefore + this.stepsOfStage
  }

  // ---- Stages ------------------------------------------------------------------------------------------------------------

  /** Returns whether the signal stopped it. */
  private async runStage(stage: Stage): Promise<boolean> {
    const { options, resumed, signal } = this.made
    const { name, optimizer, ...rest } = stage
    const resume = resumed?.stage === this.stage ? resumed.training : undefined
    this.stepsOfStage = resume?.updates ?? 0
    const { epochs } = stage
    this.taught.begin(stage.objective)
    const stages = this.made.stages.length
    if (resume === undefined) this.epochsSinceBest = 0
    await this.made.emit('stage', { name, number: this.stage + 1, stages, epochs })
    const signals = [this.enough.signal, ...(signal === undefined ? [] : [signal])]
    const result = await trainObjective(
      'Distiller',
      options.teacher ?? null,
      options.student,
      this.training,
      this.comparing,
      {
        ...rest,
        // A run whose patience is over has nothing left to train.
        epochs: this.endedEarly && resume !== undefined ? resume.epoch - 1 : epochs,
        optimizer: parameters => (this.optimizer = optimizer(parameters)),
        ...passedOn(options),
        signal: AbortSignal.any(signals),
        log: options.log === undefined || options.log === null ? null : this.lineWriter(options.log),
        logEvery: Number.MAX_SAFE_INTEGER,
        onStep: progress => this.afterStep(name, progress),
      },
      { resume, save: (moment, state) => this.save(moment, state, stage) },
    )
    for (const each of Object.values(this.average ?? {})) each.dispose()
    this.average = result.ema ?? null
    return result.stopped && !this.enough.signal.aborted
  }

  /** The loop's own lines for epochs are left to the events. */
  private lineWriter(log: (line: string) => unknown): (line: string) => unknown {
    return line => (line.startsWith('Epoch ') ? undefined : log(line))
  }

  private async afterStep(stage: string, progress: StepProgress): Promise<void> {
    this.stepsOfStage++
    this.addMetric(stage, progress)
    await this.made.emit('step', { ...progress, stage, runStep: this.steps })
  }

  private addMetric(stage: string, { epoch, step, images, loss, parts }: StepProgress): void {
    const { metric } = this
    metric.steps++
    metric.images += images
    for (const [name, value] of Object.entries({ loss, ...parts }))
      metric.sums[name] = (metric.sums[name] ?? 0) + value
    if (metric.steps < stepsPerMetric) return
    const now = performance.now()
    const means = Object.fromEntries(
      Object.entries(metric.sums).map(([name, sum]) => [name, sum / metric.steps]),
    )
    const imagesPerSecond = Math.round((1000 * metric.images) / (now - metric.since))
    this.metrics?.add({
      type: 'step',
      step: this.steps,
      stage,
      epoch,
      stepOfEpoch: step,
      ...means,
      imagesPerSecond,
    })
    this.metric = { steps: 0, sums: {}, images: 0, since: now }
  }

  // ---- Between steps -----------------------------------------------------------------------------------------------------

  private async save(moment: 'step' | 'epoch', makeState: () => TrainingState, stage: Stage): Promise<void> {
    const isStopped = () => this.made.signal?.aborted ?? false
    if (moment === 'epoch') {
      const { history, trained, average, epoch } = scope(() => withoutCopies(makeState()))
      await this.endEpoch(history.at(-1)!, { trained, average }, stage)
      this.saveIfDue(makeState, epoch > stage.epochs || this.endedEarly || isStopped(), true)
    } else this.saveIfDue(makeState, isStopped(), false)
    if (isStopped()) await this.queue.finished()
    this.refuseFailure()
  }

  private async endEpoch(report: EpochReport, weights: Weights, stage: Stage): Promise<void> {
    const { testing, options } = this
    const epoch: RunEpoch = {
      ...report,
      runEpoch: this.epochs.length + 1,
      stage: stage.name,
      ...(options.testEachEpoch === true &&
        testing !== null && {
          testAccuracy:
            this.comparing === testing ? report.accuracy : await evaluate(options.student, testing),
        }),
      lr: this.optimizer!.paramGroups.map(({ lr }) => lr),
    }
    this.epochs.push(epoch)
    this.compare(epoch, weights)
    const { parts, ...numbers } = epoch
    this.metrics?.add({ type: 'epoch', ...numbers, ...parts })
    if (
      this.stage === this.made.stages.length - 1 &&
      this.epochsSinceBest >= (options.patience ?? Infinity)
    ) {
      this.endedEarly = true
      this.enough.abort()
    }
    await this.made.emit('epoch', epoch)
  }

  private compare(epoch: RunEpoch, { trained, average }: Weights): void {
    const now = accuracyOf(epoch)
    if (now === null) return
    if (this.best !== null && now.accuracy <= this.best.accuracy) {
      this.epochsSinceBest++
      return
    }
    this.best = { epoch: epoch.runEpoch, ...now }
    this.epochsSinceBest = 0
    const own = trained[0]!
    const weights = now.isAverage ? this.withAverages(own, average!) : own
    for (const each of Object.values(this.bestWeights ?? {})) each.dispose()
    this.bestWeights = noGrad(() => mapped(weights, copyOnCpu))
    this.isBestKept = false
  }

  private withAverages(own: StateDict, averages: readonly Tensor[]): StateDict {
    const names = this.options.student.namedParameters().map(([name]) => name)
    return { ...own, ...Object.fromEntries(names.map((name, i) => [name, averages[i]!])) }
  }

  // ---- Checkpoints -------------------------------------------------------------------------------------------------------

  private saveIfDue(makeState: () => TrainingState, isForced: boolean, isEpoch: boolean): void {
    if (this.made.folder === null) return
    const { everyEpochs = 1, everySteps = Infinity, everySeconds = 600 } = this.options.checkpoint ?? {}
    const { lastCheckpoint: last, steps, queue } = this
    const isDue =
      this.epochs.length - last.epochs >= everyEpochs ||
      steps - last.step >= everySteps ||
      performance.now() - last.time >= everySeconds * 1000
    // Behind an epoch the state is another than before its evaluation.
    const isNew = steps !== last.step || isEpoch
    if (!isForced && !(isDue && isNew && !queue.isBusy)) return
    this.lastCheckpoint = { step: steps, epochs: this.epochs.length, time: performance.now() }
    this.write(makeState)
  }

  private write(makeState: () => TrainingState): void {
    const folder = this.made.folder!
    const { steps, metrics, best, bestWeights, isBestKept } = this
    const copiedBest = best === null || isBestKept ? null : scope(() => copyStateDict(bestWeights!))
    const copied = scope(() => copyCheckpoint(this.stateWith(makeState())))
    const path = folder.checkpoint(steps)
    void this.queue.add('the checkpoint', async () => {
      await folder.make()
      await metrics!.flush()
      if (copiedBest !== null) {
        await copiedBest(folder.best(best!.epoch))
        this.isBestKept ||= best === this.best
      }
      await copied(path)
      const { keep = 2 } = this.options.checkpoint ?? {}
      this.referred = [...this.referred, ...(best === null ? [] : [best.epoch])].slice(-keep)
      await folder.thin(keep, new Set([...this.referred, this.best?.epoch ?? 0]))
      this.tell('checkpoint', { path, step: steps })
    })
  }

  private stateWith(training: TrainingState): RunState {
    return {
      format: 'alambic run',
      version: 1,
      stage: this.stage,
      stepsBefore: this.stepsBefore,
      epochs: this.epochs,
      best: this.best,
      epochsSinceBest: this.epochsSinceBest,
      endedEarly: this.endedEarly,
      milliseconds: this.milliseconds,
      metrics: this.metrics!.position,
      recipe: this.made.recipe,
      environment: this.environment,
      changes: [...this.made.changes],
      training,
    }
  }

  private get milliseconds(): number {
    return this.earlierMilliseconds + performance.now() - this.startedAt
  }

  private couldNotWrite(what: string, error: unknown): void {
    if (this.options.checkpoint?.onError === 'stop') {
      this.failure ??= { error }
      return
    }
    const message = `${what} could not be written: ${error instanceof Error ? error.message : show(error)}; the run goes on`
    this.options.log?.(message)
    this.tell('problem', { message, error })
  }

  /** Nobody waits for what is told from the background; an error of a listener ends the run at the next step. */
  private tell<Name extends keyof DistillerEvents>(name: Name, event: DistillerEvents[Name]): void {
    this.made.emit(name, event).catch((error: unknown) => {
      this.failure ??= { error }
    })
  }

  /** With `onError: 'stop'` the run ends where something could not be written. */
  private refuseFailure(): void {
    if (this.failure !== undefined) throw this.failure.error
  }

  // ---- The end -----------------------------------------------------------------------------------------------------------

  private async finish(stopped: boolean): Promise<RunResult> {
    const chosen = stopped ? 'last' : this.choose()
    const { testing } = this
    const { options, folder, changes } = this.made
    const testAccuracy = stopped || testing === null ? null : await evaluate(options.student, testing)
    const result: RunResult = {
      epochs: this.epochs,
      last: this.epochs.at(-1)?.accuracy ?? null,
      best: this.best,
      meanOfLastTen: meanOfLastTen(this.epochs),
      comparedBy: this.comparedBy,
      chosen,
      testAccuracy,
      stopped,
      endedEarly: this.endedEarly,
      seconds: this.milliseconds / 1000,
      parameters: options.student.parameterCount(),
      changes: [...changes],
      folder: folder?.path ?? null,
    }
    if (folder === null || stopped) return result
    await this.writeStudent(result)
    this.metrics!.add({ type: 'end', step: this.steps, testAccuracy, chosen })
    await this.metrics!.flush()
    const { epochs: _, ...summary } = result
    await folder.writeText(folder.result, `${JSON.stringify(summary, null, 2)}\n`)
    return result
  }

  /** Gives the student the weights that the run is for. */
  private choose(): RunResult['chosen'] {
    const { choose = this.comparing === null ? 'last' : 'best' } = this.options
    const { average, bestWeights } = this
    if (choose === 'ema' && average !== null) return this.take(average, 'ema')
    return choose === 'best' && bestWeights !== null ? this.take(bestWeights, 'best') : 'last'
  }

  private take(weights: StateDict, chosen: RunResult['chosen']): RunResult['chosen'] {
    this.options.student.loadStateDict(weights)
    return chosen
  }

  private async writeStudent(result: RunResult): Promise<void> {
    const { student, about = {} } = this.options
    const { folder } = this.made
    const metadata = {
      format: 'pt',
      alambic: JSON.stringify({
        ...about,
        chosen: result.chosen,
        epoch: result.chosen === 'best' ? result.best!.epoch : this.epochs.length,
        testAccuracy: result.testAccuracy,
      }),
    }
    await scope(() => ({ write: copyStateDict(student.stateDict(), metadata) })).write(folder!.student)
  }
}

function copyOnCpu(tensor: Tensor): Tensor {
  return tensor.detach().to({ device: 'cpu', copy: true })
}

function mapped(dict: StateDict, change: (tensor: Tensor) => Tensor): StateDict {
  return Object.fromEntries(Object.entries(dict).map(([name, each]) => [name, change(each)]))
}

type Weights = Pick<TrainingState, 'trained' | 'average'>

/** Without what was made for the state. */
function withoutCopies({ history, trained, average, epoch }: TrainingState) {
  return { history, trained, average, epoch }
}

/** The options that a training takes as they are. */
function passedOn({ teacherInput, ema, speed, compile, precision }: DistillerOptions) {
  const options = { teacherInput, ema, speed, compile, precision }
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as Partial<ObjectiveOptions>
}

function needsIndices(term: Module): boolean {
  return term instanceof Term && term.needsIndices
}
