/** Recipes beside each other: the same seeds, and so the same initial weights and order of the data. */
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AlambicError } from '../../errors.js'
import { RunFolder } from '../../run/folder.js'
import { readMetrics } from '../../run/folder.js'
import type { LoadedRecipe, RunEpoch, RunResult } from '../../run/index.js'
import { stopOnSignal, stoppedCode } from '../stop.js'
import { renderComparison, type ComparedRuns } from './results.js'
import { folderOf, make, readRecipe, runOne } from './train.js'

export interface CompareFlags {
  set: string[]
  import: string[]
  seeds?: number[]
  folder?: string
  json?: boolean
}

export async function compareRecipes(paths: readonly string[], flags: CompareFlags): Promise<void> {
  const recipes: LoadedRecipe[] = []
  // All are looked at before the first is trained.
  for (const path of paths) recipes.push(await readRecipe(path, flags, flags.seeds))
  refuseEqualNames(recipes)
  const output = flags.json ? process.stderr : process.stdout
  const stop = stopOnSignal(output)
  const rows: ComparedRuns[] = recipes.map(({ recipe }) => ({
    name: recipe.name!,
    parameters: 0,
    results: [],
  }))
  try {
    for (const [i, recipe] of recipes.entries())
      for (const seed of recipe.seeds) {
        if (stop.signal.aborted) break
        await compareOne(recipe, seed, rows[i]!, flags.folder ?? 'runs', output, stop.signal)
      }
  } finally {
    stop.release()
  }
  const done = rows.filter(({ results }) => results.length > 0)
  if (flags.json) process.stdout.write(`${JSON.stringify(done, null, 2)}\n`)
  if (done.length > 0) output.write(`\n${renderComparison(done, output.isTTY)}\n`)
  if (!stop.signal.aborted) return
  output.write('stopped; the same command goes on\n')
  process.exitCode = stoppedCode
}

async function compareOne(
  recipe: LoadedRecipe,
  seed: number,
  row: ComparedRuns,
  parent: string,
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<void> {
  const { name } = recipe.recipe
  const folder = folderOf(join(parent, name!), recipe.seeds, seed)
  const earlier = await earlierResult(folder, recipe.toYaml(seed))
  if (earlier !== null) output.write(`${name!}, seed ${seed}: done before, ${folder}\n`)
  const title = recipe.seeds.length === 1 ? name! : `${name!}, seed ${seed}`
  const result =
    earlier ?? (await runOne({ title, folder, make: () => make(recipe, seed, folder) }, output, signal))
  if (result.stopped) return
  row.parameters ||= (await recipe.build(seed)).student.parameterCount()
  row.results.push(result)
}

/** Of a run that is over, if it was of the same recipe. */
async function earlierResult(path: string, recipe: string): Promise<RunResult | null> {
  const folder = new RunFolder(path)
  if (!existsSync(folder.result) || readFileSync(folder.recipe, 'utf8') !== recipe) return null
  const result = JSON.parse(await readFile(folder.result, 'utf8')) as Omit<RunResult, 'epochs'>
  const epochs: RunEpoch[] = []
  for await (const line of readMetrics(folder.metrics))
    if (line['type'] === 'epoch') epochs.push(line as unknown as RunEpoch)
  return { ...result, epochs }
}

function refuseEqualNames(recipes: readonly LoadedRecipe[]): void {
  const names = recipes.map(({ recipe }) => recipe.name!)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw new AlambicError('ERR_ARGUMENT', `compare: expected recipes of different names, got ${twice} twice`)
}
