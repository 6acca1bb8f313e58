/** From a file or an object to a recipe without mistakes. */
import { basename, extname, resolve } from 'node:path'
import { AlambicError, argumentError } from '../../errors.js'
import { registry } from '../../methods/registry.js'
import { requirePath, displayName } from '../../io/files.js'
import { isPlainObject, isURL } from '../../checks/realms.js'
import type { LoadRecipeOptions } from '../load-recipe.js'
import { checkRecipe } from './check.js'
import { Draft, draftOfObject } from './draft.js'
import { importModules, type WantedModule } from './imports.js'
import { LoadedRecipe } from './loaded.js'
import { Problems } from './problems.js'
import { extended, readRecipeFile, withOverrides } from './read.js'
import type { Recipe, ResolvedRecipe } from './schema.js'

/**
 * @param methods the registry of whoever calls: tools that turn ES modules into CommonJS load what is imported later a
 *   second time, where nothing is registered
 */
export async function load(
  given: string | URL | Recipe,
  { set = [], imports = [], folder = process.cwd(), checkFiles = true }: LoadRecipeOptions,
  methods: typeof registry,
): Promise<LoadedRecipe> {
  if (methods !== registry)
    throw new AlambicError(
      'ERR_ARGUMENT',
      'loadRecipe: expected Alambic as an ES module, got it turned into CommonJS; call the file .mts, or write ' +
        '"type": "module" into package.json',
    )
  const problems = new Problems()
  const path = pathOf(given)
  const written =
    path === undefined
      ? draftOfObject(given, resolve(folder), problems)
      : await readRecipeFile(path, problems)
  problems.throwIfAny()
  const draft = withOverrides(
    await extended(written, path === undefined ? [] : [path], problems),
    set,
    problems,
  )
  problems.throwIfAny()
  await importModules(wantedModules(draft, imports), problems)
  problems.throwIfAny()
  const warnings = new Problems()
  const checked = await checkRecipe(draft, problems, warnings, checkFiles)
  problems.throwIfAny()
  const recipe = finished(checked!.recipe, draft, path)
  return new LoadedRecipe({ recipe, path, facts: checked!.facts, draft, warnings: warnings.sorted() })
}

function pathOf(given: unknown): string | undefined {
  if (typeof given === 'string' || isURL(given)) {
    requirePath('loadRecipe: recipe', given)
    return resolve(displayName(given))
  }
  if (isPlainObject(given)) return undefined
  throw argumentError('loadRecipe: recipe', 'the path of a recipe, or one as an object', given)
}

function wantedModules(draft: Draft, more: readonly string[]): WantedModule[] {
  const own = draft.at(['import'])
  const listed: [unknown, (string | number)[]][] = Array.isArray(own)
    ? own.map((each: unknown, i) => [each, ['import', i]])
    : [[own, ['import']]]
  const fromRecipe = listed.flatMap(([file, path]) =>
    typeof file === 'string' && file !== ''
      ? [{ file: draft.absolute(path, file), path, place: draft.place(path) }]
      : [],
  )
  const fromOutside = more.map(file => ({ file: resolve(file), path: [], place: {} }))
  return [...fromRecipe, ...fromOutside]
}

/** What only says how the recipe is written is left out. */
function finished(
  { $schema: _schema, extends: _extends, import: own, name: given, ...recipe }: ResolvedRecipe,
  draft: Draft,
  path: string | undefined,
): ResolvedRecipe {
  const files = own === undefined ? [] : [own].flat()
  const absolute = files.map((file, i) =>
    draft.absolute(Array.isArray(own) ? ['import', i] : ['import'], file),
  )
  const name = given ?? (path === undefined ? 'recipe' : basename(path, extname(path)))
  return { name, ...recipe, ...(absolute.length > 0 && { import: absolute }) }
}
