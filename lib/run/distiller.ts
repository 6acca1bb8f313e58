/** Runs: trainings that are kept, go on where they were interrupted, and tell what came of them. */
import { callback, oneOf, readOptions, requireKind, signal as aSignal, text } from '../checks/options.js'
import { AlambicError, show } from '../errors.js'
import { collectTensors } from '../memory/memory.js'
import { checkOptions, stagesOf, type Stage } from './check-options.js'
import { currentEnvironment, differences } from './environment.js'
import type { DistillerEvents, Emit } from './events.js'
import { RunFolder } from './folder.js'
import { loadRecipe } from './load-recipe.js'
import type { DistillerOptions } from './options.js'
import { differencesOfRecipes } from './recipe-differences.js'
import type { RunResult } from './results.js'
import { plainOptions, type RunState } from './state.js'
import { RunUnderWay } from './under-way.js'

type Listener<Name extends keyof DistillerEvents> = (event: DistillerEvents[Name]) => unknown

const eventName = oneOf('stage', 'step', 'epoch', 'checkpoint', 'problem')

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
    const changes =
      resumed === undefined ? [] : await changesSince(resumed, recipe, plainOptions(options, stages))
    const emit: Emit = (name, event) => this.emit(name, event)
    return new RunUnderWay({ options, stages, folder, recipe, emit, resumed, changes, signal }).run()
  }
}

/** What is not as it was at the checkpoint, and what was changed before. */
async function changesSince(
  { changes, recipe, environment, options: before, stepsBefore, training }: RunState,
  now: string | null,
  optionsNow: Record<string, unknown>,
): Promise<string[]> {
  const when = `from step ${stepsBefore + training.updates} on`
  const options =
    recipe === null || now === null
      ? differences(before, optionsNow)
      : await differencesOfRecipes(recipe, now)
  const found = [...differences(environment, currentEnvironment()), ...options]
  return [...changes, ...found.map(each => `${each} (${when})`)]
}
