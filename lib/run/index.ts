/** Runs, and recipes for them. */
import { boolean, listOf, readOptions, text, type Kinds } from '../checks/options.js'
import { registry } from '../methods/registry.js'
import type { LoadedRecipe } from './recipe/loaded.js'
import type { Recipe } from './recipe/schema.js'

export type { CheckpointOptions, DistillerOptions, StageOptions, StudentDescription } from './options.js'
export type { OptionsSchema, RegisterOptions } from '../checks/registry.js'
export type { LoadedRecipe } from './recipe/loaded.js'
export type { RecipeError, RecipeProblem } from './recipe/problems.js'
export type { Recipe, ResolvedRecipe } from './recipe/schema.js'

export interface LoadRecipeOptions {
  /** Changes, such as `optimizer.lr=0.1` or `objective[1].weight=2`; values are YAML, and null removes a key. */
  set?: readonly string[]
  /** Modules that register methods, networks, data sets … of your own, from the working directory. */
  imports?: readonly string[]
  /** What paths in a recipe that is given as an object are relative to. Default: the working directory. */
  folder?: string
  /** Whether files of data and weights have to be there. Default: true. */
  checkFiles?: boolean
}

const loadRecipeOptions: Kinds<LoadRecipeOptions> = {
  set: listOf(text, 'an array of strings such as "optimizer.lr=0.1"'),
  imports: listOf(text, 'an array of paths'),
  folder: text,
  checkFiles: boolean,
}

/**
 * Reads a recipe and finds all its mistakes, before any data is read or anything is trained: keys, values, names, layer
 * paths, shapes and classes that do not meet, weights that do not fit, missing files. See `docs/recipes.md`.
 *
 * @param recipe the path of a YAML or JSON file, or the same as an object
 * @throws AlambicError `ERR_RECIPE` with all mistakes, each with its place, as {@link RecipeError}; `ERR_FILE_NOT_FOUND`
 *   without a file; `ERR_ARGUMENT`
 * @example
 * const loaded = await loadRecipe('r20.yaml', { set: ['epochs=3'] })
 * for (const seed of loaded.seeds) console.log(await loaded.build(seed))
 */
export async function loadRecipe(
  recipe: string | URL | Recipe,
  options: LoadRecipeOptions = {},
): Promise<LoadedRecipe> {
  const read = readOptions('loadRecipe', options, loadRecipeOptions)
  // zod and yaml are loaded with the first recipe.
  const { load } = await import('./recipe/load.js')
  return load(recipe, read, registry)
}

/**
 * The schema of recipes as JSON Schema (draft 7), with the options of all that is registered by now. Without registrations
 * of one's own it is the package's file `recipe.schema.json`.
 */
export async function recipeSchema(): Promise<Readonly<Record<string, unknown>>> {
  const { makeJsonSchema } = await import('./recipe/json-schema.js')
  return makeJsonSchema()
}
