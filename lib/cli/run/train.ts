/** Runs recipes. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { AlambicError } from '../../errors.js'
import { Distiller, loadRecipe, type LoadedRecipe, type RunResult } from '../../run/index.js'
import { RunFolder } from '../../run/folder.js'
import { stopOnSignal, stoppedCode } from '../stop.js'
import { showProgress } from './progress.js'
import { renderResult } from './results.js'

interface Overrides {
  set: string[]
  import: string[]
}

export interface ResumeFlags extends Overrides {
  json?: boolean
}

export interface TrainFlags extends ResumeFlags {
  folder?: string
  seed?: number[]
  check?: boolean
}

/** A run that is ready to be started. */
interface Prepared {
  title: string
  folder: string
  make: () => Promise<Distiller>
}

export async function train(path: string, flags: TrainFlags): Promise<void> {
  const recipe = await readRecipe(path, flags, flags.seed)
  if (flags.check) {
    process.stdout.write(`${path}: no mistakes\n`)
    return
  }
  const folder = flags.folder ?? join('runs', recipe.recipe.name!)
  await runAll(
    recipe.seeds.map(seed => prepared(recipe, seed, folderOf(folder, recipe.seeds, seed))),
    flags,
  )
}

export async function resume(path: string, flags: ResumeFlags): Promise<void> {
  const folders = runsIn(path)
  if (folders.length === 0)
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${path}: expected the folder of a run, with its recipe.yaml`,
    )
  await runAll(
    folders.map(folder => ({
      title: folder,
      folder,
      make: async () => {
        const recipe = await readRecipe(new RunFolder(folder).recipe, flags)
        return make(recipe, recipe.seeds[0]!, folder)
      },
    })),
    flags,
  )
}

/** Says what is no mistake, but may not be meant. */
export async function readRecipe(
  path: string,
  flags: Overrides,
  seeds?: readonly number[],
): Promise<LoadedRecipe> {
  const ofSeeds = seeds === undefined ? [] : [`seed=${seeds.length === 1 ? seeds[0]! : `[${seeds.join()}]`}`]
  const recipe = await loadRecipe(path, { set: [...flags.set, ...ofSeeds], imports: flags.import })
  for (const { message } of recipe.warnings) process.stderr.write(`${message}\n`)
  return recipe
}

export function folderOf(folder: string, seeds: readonly number[], seed: number): string {
  return seeds.length === 1 ? folder : join(folder, `seed-${seed}`)
}

/** The folder itself, or those of several seeds in it. */
export function runsIn(path: string): string[] {
  const isRun = (folder: string) => existsSync(new RunFolder(folder).recipe)
  if (isRun(path)) return [path]
  if (!existsSync(path)) return []
  return readdirSync(path)
    .filter(name => /^seed-\d+$/.test(name))
    .sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)))
    .map(name => join(path, name))
    .filter(isRun)
}

function prepared(recipe: LoadedRecipe, seed: number, folder: string): Prepared {
  const { name } = recipe.recipe
  const title = recipe.seeds.length === 1 ? name! : `${name!}, seed ${seed}`
  return { title, folder, make: () => make(recipe, seed, folder) }
}

/** A run that goes on where there is a checkpoint of it. */
export async function make(recipe: LoadedRecipe, seed: number, folder: string): Promise<Distiller> {
  const options = await recipe.build(seed)
  const isThere = (await new RunFolder(folder).listCheckpoints()).length > 0
  const run = isThere ? await Distiller.resume(folder, options) : new Distiller({ ...options, folder })
  return run.withRecipe(recipe.toYaml(seed))
}

async function runAll(runs: readonly Prepared[], { json }: ResumeFlags): Promise<void> {
  const output = json ? process.stderr : process.stdout
  const stop = stopOnSignal(output)
  const results: RunResult[] = []
  try {
    for (const run of runs) {
      const result = await runOne(run, output, stop.signal)
      results.push(result)
      if (!json) output.write(`${renderResult(result)}\n`)
      if (result.stopped) {
        output.write(`stopped; \`alambic resume ${run.folder}\` goes on\n`)
        break
      }
    }
  } finally {
    stop.release()
  }
  if (json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
  if (results.at(-1)?.stopped) process.exitCode = stoppedCode
}

/** Trains, with progress on `output`. */
export async function runOne(
  { title, folder, make }: Prepared,
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<RunResult> {
  const run = await make()
  const progress = showProgress(run, title, output)
  try {
    return await run.start({ signal })
  } catch (error) {
    progress.end()
    const hasCheckpoint = (await new RunFolder(folder).listCheckpoints()).length > 0
    if (hasCheckpoint) output.write(`the run is kept up to its last checkpoint in ${folder}\n`)
    throw error
  } finally {
    progress.end()
  }
}
