/** All that can be found wrong with a recipe before anything is read or trained. */
import { requireFiles } from '../../io/files.js'
import { registry as dataRegistry, type DataFacts } from '../../data/registry.js'
import type { Draft } from './draft.js'
import { contextOf, filledOptions } from './facts.js'
import { checkStructure } from './issues.js'
import { checkNamed, namedParts, optionsOf, type Named } from './named.js'
import { reasonOf, type Path, type Problems } from './problems.js'
import { rehearse } from './rehearsal.js'
import { Rules } from './rules.js'
import type { ResolvedRecipe } from './schema.js'
import { layerSites, modelsIn, namedSites, termSites } from './sites.js'

export interface CheckedRecipe {
  recipe: ResolvedRecipe
  facts: DataFacts
}

/**
 * Names, options, structure, and whether parts fit each other; files where they are looked at.
 *
 * @returns undefined where something is wrong
 */
export async function checkRecipe(
  draft: Draft,
  problems: Problems,
  warnings: Problems,
  checkFiles: boolean,
): Promise<CheckedRecipe | undefined> {
  const recipe = checkStructure(draft, problems)
  const named = namedSites(draft).map(({ part, path }) => {
    const options = checkNamed(part, path, draft, problems)
    return { part, path, options }
  })
  if (recipe === undefined || !problems.isEmpty) return undefined
  for (const { part, path, options } of named) putOptions(recipe, part, path, options!)
  resolvePaths(recipe, draft)
  const facts = factsOf(recipe, draft, problems)
  fillModels(recipe, facts)
  new Rules(recipe, facts, draft, problems, warnings).check()
  if (checkFiles) await checkDataFiles(recipe, draft, problems)
  if (checkFiles) await checkWeightFiles(recipe, draft, problems)
  if (problems.isEmpty) await rehearseRecipe(recipe, facts, draft, problems, checkFiles)
  return problems.isEmpty ? { recipe, facts } : undefined
}

export function rehearseRecipe(
  recipe: ResolvedRecipe,
  facts: DataFacts,
  draft: Draft,
  problems: Problems,
  checkFiles: boolean,
): Promise<void> {
  return rehearse({
    recipe,
    facts,
    draft,
    problems,
    checkFiles,
    terms: termSites(recipe),
    layers: layerSites(recipe),
  })
}

// ---- Making it whole -----------------------------------------------------------------------------------------------------

function at(recipe: ResolvedRecipe, path: Path): Record<string, unknown> {
  return path.reduce<unknown>(
    (value, key) => (value as Record<string | number, unknown>)[key],
    recipe,
  ) as Record<string, unknown>
}

function putOptions(recipe: ResolvedRecipe, part: Named, path: Path, options: Record<string, unknown>): void {
  const section = at(recipe, path)
  if (namedParts[part].own !== undefined) Object.assign(section, options)
  else if (section['model'] !== undefined) {
    // Beside the name, wherever it was written.
    const { model, options: _given, ...rest } = section
    for (const key of Object.keys(section)) delete section[key]
    Object.assign(section, { model, options, ...rest })
  }
}

/** Paths of files become absolute. */
function resolvePaths(recipe: ResolvedRecipe, draft: Draft): void {
  for (const { path, teacher } of modelsIn(recipe)) {
    const { weights, torchscript } = teacher
    if (typeof weights === 'string') teacher.weights = draft.absolute([...path, 'weights'], weights)
    else if (weights !== undefined) weights.file = draft.absolute([...path, 'weights', 'file'], weights.file)
    if (torchscript !== undefined) teacher.torchscript = draft.absolute([...path, 'torchscript'], torchscript)
    const { cache } = teacher
    if (typeof cache === 'object' && cache.folder !== undefined)
      cache.folder = draft.absolute([...path, 'cache', 'folder'], cache.folder)
  }
}

function factsOf({ data }: ResolvedRecipe, draft: Draft, problems: Problems): DataFacts {
  try {
    return dataRegistry.get(data.name).facts?.(optionsOf('data', data)) ?? {}
  } catch (error) {
    problems.add(draft.place(['data']), ['data'], reasonOf(error))
    return {}
  }
}

function fillModels(recipe: ResolvedRecipe, facts: DataFacts): void {
  for (const { teacher } of modelsIn(recipe))
    if (teacher.model !== undefined) {
      const { channels } = teacher.input?.to ?? {}
      const context = contextOf(facts)
      const inputShape = channels === undefined ? context.inputShape : [channels]
      teacher.options = filledOptions(teacher.model, teacher.options ?? {}, {
        ...context,
        ...(inputShape && { inputShape }),
      })
    }
}

// ---- Files ---------------------------------------------------------------------------------------------------------------

async function checkDataFiles({ data }: ResolvedRecipe, draft: Draft, problems: Problems): Promise<void> {
  const { checkFiles } = dataRegistry.get(data.name)
  if (checkFiles === undefined) return
  const path = draft.at(['data', 'dir']) === undefined ? ['data'] : ['data', 'dir']
  for (const split of ['train', 'test'] as const)
    try {
      await checkFiles(optionsOf('data', data), { split })
    } catch (error) {
      problems.add(draft.place(path), path, reasonOf(error), { value: draft.at(path) })
    }
}

async function checkWeightFiles(recipe: ResolvedRecipe, draft: Draft, problems: Problems): Promise<void> {
  for (const { path, teacher } of modelsIn(recipe)) {
    const { weights, torchscript } = teacher
    if (typeof weights === 'string') await mustExist([...path, 'weights'], weights, draft, problems)
    else if (weights !== undefined)
      await mustExist([...path, 'weights', 'file'], weights.file, draft, problems)
    if (torchscript !== undefined) await mustExist([...path, 'torchscript'], torchscript, draft, problems)
  }
}

async function mustExist(path: Path, file: string, draft: Draft, problems: Problems): Promise<void> {
  try {
    await requireFiles([file])
  } catch {
    problems.add(draft.place(path), path, `expected a file that can be read, got none at ${file}`, {
      value: draft.at(path),
    })
  }
}
