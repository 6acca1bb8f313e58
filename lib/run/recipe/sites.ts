/** Where a recipe has what is checked. */
import { isPlainObject } from '../../checks/realms.js'
import type { Draft } from './draft.js'
import type { Named } from './named.js'
import type { Path } from './problems.js'
import type { ResolvedRecipe, ResolvedStage, ResolvedTeacher, ResolvedTerm } from './schema.js'

/** A term, and where the recipe has it. */
export interface TermSite {
  path: Path
  term: ResolvedTerm
  /** Batches that make one step, where the term is used. */
  accumulate: number
}

/** A path of a layer of the student, and where the recipe has it. */
export interface LayerSite {
  path: Path
  layer: string
}

/** The parts of a draft that have a name, and where. */
export function namedSites({ value }: Draft): { part: Named; path: Path }[] {
  if (!isPlainObject(value)) return []
  const sites: { part: Named; path: Path }[] = []
  const add = (part: Named, path: Path, section: unknown) => {
    if (isPlainObject(section)) sites.push({ part, path })
  }
  const addTraining = (path: Path, section: unknown) => {
    if (!isPlainObject(section)) return
    add('optimizer', [...path, 'optimizer'], section['optimizer'])
    add('schedule', [...path, 'schedule'], section['schedule'])
    const { objective } = section
    if (Array.isArray(objective))
      objective.forEach((term, i) => {
        add('term', [...path, 'objective', i], term)
      })
  }
  add('data', ['data'], value['data'])
  add('student', ['student'], value['student'])
  add('teacher', ['teacher'], value['teacher'])
  if (isPlainObject(value['teachers']))
    for (const [name, teacher] of Object.entries(value['teachers']))
      add('teacher', ['teachers', name], teacher)
  addTraining([], value)
  if (Array.isArray(value['stages']))
    value['stages'].forEach((stage, i) => {
      addTraining(['stages', i], stage)
    })
  return sites
}

export function teachersIn({
  teacher,
  teachers,
}: ResolvedRecipe): { path: Path; teacher: ResolvedTeacher }[] {
  const several = Object.entries(teachers ?? {}).map(([name, each]) => ({
    path: ['teachers', name],
    teacher: each,
  }))
  return teacher === undefined ? several : [{ path: ['teacher'], teacher }, ...several]
}

/** All networks; a student is made as a teacher is. */
export function modelsIn(recipe: ResolvedRecipe): { path: Path; teacher: ResolvedTeacher }[] {
  return [...teachersIn(recipe), { path: ['student'], teacher: recipe.student as ResolvedTeacher }]
}

export function termSites(recipe: ResolvedRecipe): TermSite[] {
  const stages = recipe.stages ?? []
  const inheriting = stages.filter(({ objective }) => objective === undefined)
  const ownAccumulate =
    recipe.stages === undefined
      ? [recipe.accumulate]
      : inheriting.map(each => each.accumulate ?? recipe.accumulate)
  const own = (recipe.objective ?? []).map((term, i) => ({
    path: ['objective', i],
    term,
    accumulate: Math.max(1, ...ownAccumulate),
  }))
  const ofStages = stages.flatMap(({ objective = [], accumulate = recipe.accumulate }, s) =>
    objective.map((term, i) => ({ path: ['stages', s, 'objective', i], term, accumulate })),
  )
  return [...own, ...ofStages]
}

export function layerSites(recipe: ResolvedRecipe): LayerSite[] {
  const of = (path: Path, { trained = [], frozen = [] }: Pick<ResolvedStage, 'trained' | 'frozen'>) => [
    ...trained.map((layer, i) => ({ path: [...path, 'trained', i], layer })),
    ...frozen.map((layer, i) => ({ path: [...path, 'frozen', i], layer })),
  ]
  return [...of([], recipe), ...(recipe.stages ?? []).flatMap((stage, i) => of(['stages', i], stage))]
}
