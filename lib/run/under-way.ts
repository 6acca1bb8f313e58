/** A run under way: its stages, what is kept between its steps, and its end. */
import { existsSync } from 'node:fs'
import { Unaugmented, type Dataset } from '../data/dataset.js'
import { DataLoader } from '../data/loader.js'
import { evaluate } from '../distill/evaluate.js'
import type { EpochReport, StepProgress } from '../distill/fit.js'
import type { TrainingState } from '../distill/keeper.js'
import { Term } from '../distill/term.js'
import { teachersByName, trainObjective, type ObjectiveOptions } from '../distill/train.js'
import { show } from '../errors.js'
import { loadStateDict } from '../io/load.js'
import { copyCheckpoint, copyStateDict } from '../io/save.js'
import { scope } from '../memory/memory.js'
import type { Module, StateDict } from '../nn/module.js'
import type { Optimizer } from '../optim/index.js'
import { manualSeed } from '../random/index.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Stage } from './check-options.js'
import { dividedData } from './data.js'
import { currentEnvironment } from './environment.js'
import type { DistillerEvents, Emit } from './events.js'
import { MetricsFile, WriteQueue, type RunFolder } from './folder.js'
import type { DistillerOptions } from './options.js'
import { accuracyOf, meanOfLastTen, type BestEpoch, type RunEpoch, type RunResult } from './results.js'
import { plainOptions, type MetricState, type RunState } from './state.js'
import { TaughtData } from './teacher-cache.js'

const stepsPerMetric = 50

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
export class RunUnderWay {
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
  /** Of the steps since the last line of metrics. */
  private metric: MetricState
  private metricSince = performance.now()
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
    this.metric = resumed?.metric ?? noSteps()
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
    const teachers = teachersByName('Distiller', teacher ?? null)
    for (const each of [student, ...Object.values(teachers)]) each.to(device)
  }

  private async begin(): Promise<void> {
    const { folder } = this.made
    if (folder === null) return
    await this.describe(folder)
    await this.metrics!.begin(this.made.resumed?.metrics ?? 0)
    if (this.made.resumed === undefined) return
    const { training } = this.made.resumed
    this.metrics!.add({ type: 'resumed', step: this.steps + training.updates, changes: this.made.changes })
    if (this.best === null) return
    this.bestWeights = await loadStateDict(folder.best(this.best.epoch), { mmap: false })
    this.isBestKept = true
  }

  private async describe(folder: RunFolder): Promise<void> {
    await folder.writeText(folder.environment, `${JSON.stringify(this.environment, null, 2)}\n`)
    if (this.made.recipe !== null) await folder.writeText(folder.recipe, this.made.recipe)
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
    if (resume === undefined) {
      this.epochsSinceBest = 0
      this.metric = noSteps()
    }
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
        optimizer: async parameters => (this.optimizer = await optimizer(parameters)),
        ...passedOn(options),
        signal: AbortSignal.any(signals),
        log: options.log ?? null,
        onStep: progress => this.afterStep(name, progress),
      },
      { resume, save: (moment, state) => this.save(moment, state, stage) },
    )
    for (const each of Object.values(this.average ?? {})) each.dispose()
    this.average = result.ema ?? null
    return result.stopped && !this.enough.signal.aborted
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
    for (const [name, value] of Object.entries({ loss, ...parts })) {
      const [sum, count] = metric.sums[name] ?? [0, 0]
      metric.sums[name] = [sum + value, count + 1] // a term may have no weight in some steps
    }
    if (metric.steps < stepsPerMetric) return
    const now = performance.now()
    const means = Object.fromEntries(
      Object.entries(metric.sums).map(([name, [sum, count]]) => [name, sum / count]),
    )
    const imagesPerSecond = Math.round((1000 * metric.images) / (now - this.metricSince))
    this.metrics?.add({
      type: 'step',
      step: this.steps,
      stage,
      epoch,
      stepOfEpoch: step,
      ...means,
      imagesPerSecond,
    })
    this.metric = noSteps()
    this.metricSince = now
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
    const { steps, metrics, best, bestWeights } = this
    const isBestKept = best === null || (this.isBestKept && existsSync(folder.best(best.epoch)))
    const copiedBest = isBestKept ? null : scope(() => copyStateDict(bestWeights!))
    const copied = scope(() => copyCheckpoint(this.stateWith(makeState())))
    const path = folder.checkpoint(steps)
    void this.queue.add('the checkpoint', async () => {
      await folder.make()
      if (!existsSync(folder.environment)) await this.describe(folder) // somebody removed it
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
      metric: this.metric,
      options: plainOptions(this.options, this.made.stages),
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

function noSteps(): MetricState {
  return { steps: 0, images: 0, sums: {} }
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
