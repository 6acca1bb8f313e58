/** Runs recipes. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { AlambicError } from '../../errors.js'
import { readMetrics, RunFolder } from '../../run/folder.js'
import { Distiller, loadRecipe, type LoadedRecipe, type RunEpoch, type RunResult } from '../../run/index.js'
import { differencesOfRecipes } from '../../run/recipe-differences.js'
import { problemText } from '../../run/recipe/problems.js'
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
  make: (log: (line: string) => void) => Promise<Distiller>
}

export async function train(path: string, flags: TrainFlags): Promise<void> {
  const recipe = await readRecipe(path, flags, flags.seed)
  if (flags.check) {
    process.stdout.write(flags.json ? '{ "problems": [] }\n' : `${path}: no mistakes\n`)
    return
  }
  const folder = flags.folder ?? join('runs', recipe.recipe.name!)
  await runAll(
    recipe.seeds.map(seed => {
      const own = folderOf(folder, recipe.seeds, seed)
      return { folder: own, run: (output, signal) => runOf(recipe, seed, own, output, signal) }
    }),
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
      folder,
      run: async (output, signal) => {
        const recipe = await readRecipe(new RunFolder(folder).recipe, flags)
        return runOne(
          { title: folder, folder, make: log => make(recipe, recipe.seeds[0]!, folder, log) },
          output,
          signal,
        )
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
  for (const warning of recipe.warnings) process.stderr.write(`${problemText(warning)}\n`)
  return recipe
}

export function folderOf(folder: string, seeds: readonly number[], seed: number): string {
  return seeds.length === 1 ? folder : join(folder, `seed-${seed}`)
}

/** The folder itself, or those of several seeds in it. */
export function runsIn(path: string): string[] {
  const isRun = (folder: string) => existsSync(new RunFolder(folder).recipe)
  if (isRun(path)) return [path]
  if (!existsSync(path) || !statSync(path).isDirectory()) return []
  return readdirSync(path)
    .filter(name => /^seed-\d+$/.test(name))
    .sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)))
    .map(name => join(path, name))
    .filter(isRun)
}

/** A run that goes on where there is a checkpoint of it. */
async function make(
  recipe: LoadedRecipe,
  seed: number,
  folder: string,
  log: (line: string) => void,
): Promise<Distiller> {
  const options = { ...(await recipe.build(seed)), log }
  const isThere = (await new RunFolder(folder).listCheckpoints()).length > 0
  const run = isThere ? await Distiller.resume(folder, options) : new Distiller({ ...options, folder })
  return run.withRecipe(recipe.toYaml(seed))
}

/** @throws AlambicError `ERR_ARGUMENT` for a folder with a run of another recipe */
async function refuseAnother(recipe: LoadedRecipe, seed: number, path: string): Promise<void> {
  const folder = new RunFolder(path)
  if (!existsSync(folder.recipe) || (await folder.listCheckpoints()).length === 0) return
  const changes = await differencesOfRecipes(readFileSync(folder.recipe, 'utf8'), recipe.toYaml(seed))
  if (changes.length > 0)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${path} has a run of another recipe (${changes.join('; ')}); another --folder trains anew, and ` +
        `\`alambic resume ${path} --set …\` goes on with changes`,
    )
}

/** Of a run that is over. */
async function earlierResult(path: string): Promise<RunResult | null> {
  const folder = new RunFolder(path)
  if (!existsSync(folder.result)) return null
  const result = JSON.parse(readFileSync(folder.result, 'utf8')) as Omit<RunResult, 'epochs'>
  const epochs: RunEpoch[] = []
  for await (const line of readMetrics(folder.metrics))
    if (line['type'] === 'epoch') epochs.push(line as unknown as RunEpoch)
  return { ...result, epochs }
}

/**
 * The run of a recipe and a seed: as it was, where it is over; else from where it was interrupted, or from the beginning.
 */
export async function runOf(
  recipe: LoadedRecipe,
  seed: number,
  folder: string,
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<RunResult> {
  const { name } = recipe.recipe
  const title = recipe.seeds.length === 1 ? name! : `${name!}, seed ${seed}`
  await refuseAnother(recipe, seed, folder)
  const earlier = await earlierResult(folder)
  if (earlier === null)
    return runOne({ title, folder, make: log => make(recipe, seed, folder, log) }, output, signal)
  output.write(`${title}: done before\n`)
  return earlier
}

/** A run that is yet to begin. */
interface Planned {
  folder: string
  run: (output: NodeJS.WriteStream, signal: AbortSignal) => Promise<RunResult>
}

async function runAll(runs: readonly Planned[], { json }: ResumeFlags): Promise<void> {
  const output = json ? process.stderr : process.stdout
  const stop = stopOnSignal(output)
  const results: RunResult[] = []
  try {
    for (const { folder, run } of runs) {
      const result = await run(output, stop.signal)
      results.push(result)
      if (!json) output.write(`${renderResult(result)}\n`)
      if (result.stopped) {
        output.write(`stopped; \`alambic resume ${folder}\` goes on\n`)
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
async function runOne(
  { title, folder, make }: Prepared,
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<RunResult> {
  let say = (line: string): unknown => output.write(`${line}\n`)
  const run = await make(line => void say(line))
  const progress = showProgress(run, title, output)
  say = line => {
    progress.say(line)
  }
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
