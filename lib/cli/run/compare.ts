/** Recipes beside each other: the same seeds, and so the same initial weights and order of the data. */
import { join } from 'node:path'
import { AlambicError } from '../../errors.js'
import type { LoadedRecipe } from '../../run/index.js'
import { stopOnSignal, stoppedCode } from '../stop.js'
import { renderComparison, type ComparedRuns } from './results.js'
import { folderOf, readRecipe, runOf } from './train.js'

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
  const folder = folderOf(join(parent, recipe.recipe.name!), recipe.seeds, seed)
  const result = await runOf(recipe, seed, folder, output, signal)
  if (result.stopped) return
  row.parameters = result.parameters
  row.results.push(result)
}

function refuseEqualNames(recipes: readonly LoadedRecipe[]): void {
  const names = recipes.map(({ recipe }) => recipe.name!)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined)
    throw new AlambicError('ERR_ARGUMENT', `compare: expected recipes of different names, got ${twice} twice`)
}
