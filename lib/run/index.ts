/** Runs: from a recipe to a trained student, kept in a folder. See `docs/runs.md` and `docs/recipes.md`. */
export type { TeacherCacheMode, TeacherCacheOptions } from '../cache/options.js'
export { Distiller, type DistillerEvents, type RunStep } from './distiller.js'
export { loadRecipe, recipeSchema, type LoadRecipeOptions } from './load-recipe.js'
export type { CheckpointOptions, DistillerOptions, StageOptions, StudentDescription } from './options.js'
export type { LoadedRecipe } from './recipe/loaded.js'
export type { RecipeError, RecipeProblem } from './recipe/problems.js'
export type { Recipe, ResolvedRecipe } from './recipe/schema.js'
export type { BestEpoch, RunEpoch, RunResult } from './results.js'
