/** All that can be found wrong with a recipe before anything is read or trained. */
import { access } from 'node:fs/promises'
import { isPlainObject } from '../../checks/realms.js'
import type { DataFacts } from '../../data/registry.js'
import { registry as dataRegistry } from '../../data/registry.js'
import { weightByEpoch } from '../../distill/weight.js'
import { AlambicError, show } from '../../errors.js'
import { nearest } from '../../checks/names.js'
import { create as createOptimizer } from '../../optim/registry.js'
import { create as createSchedule } from '../../optim/lrScheduler/registry.js'
import { Parameter } from '../../nn/parameter.js'
import { zeros } from '../../tensors/factories.js'
import type { Draft } from './draft.js'
import { contextOf, filledOptions } from './facts.js'
import { checkStructure } from './issues.js'
import { checkNamed, namedParts, optionsOf, type Named } from './named.js'
import { pathText, type Path, type Problems } from './problems.js'
import type { LayerSite, TermSite } from './rehearsal.js'
import { rehearse } from './rehearsal.js'
import type { ResolvedRecipe, ResolvedStage, ResolvedTeacher } from './schema.js'

/** The parts of a draft that have a name, and where. */
function namedSites({ value }: Draft): { part: Named; path: Path }[] {
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
  const facts = factsOf(recipe)
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

function teachersIn({ teacher, teachers }: ResolvedRecipe): { path: Path; teacher: ResolvedTeacher }[] {
  const several = Object.entries(teachers ?? {}).map(([name, each]) => ({
    path: ['teachers', name],
    teacher: each,
  }))
  return teacher === undefined ? several : [{ path: ['teacher'], teacher }, ...several]
}

/** Paths of files become absolute. */
function resolvePaths(recipe: ResolvedRecipe, draft: Draft): void {
  const { student } = recipe
  for (const { path, teacher } of [
    ...teachersIn(recipe),
    { path: ['student'], teacher: student as ResolvedTeacher },
  ]) {
    const { weights, torchscript } = teacher
    if (typeof weights === 'string') teacher.weights = draft.absolute([...path, 'weights'], weights)
    else if (weights !== undefined) weights.file = draft.absolute([...path, 'weights', 'file'], weights.file)
    if (torchscript !== undefined) teacher.torchscript = draft.absolute([...path, 'torchscript'], torchscript)
  }
}

function factsOf({ data }: ResolvedRecipe): DataFacts {
  return dataRegistry.get(data.name).facts?.(optionsOf('data', data)) ?? {}
}

function fillModels(recipe: ResolvedRecipe, facts: DataFacts): void {
  for (const { teacher } of [...teachersIn(recipe), { teacher: recipe.student as ResolvedTeacher }])
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

function termSites(recipe: ResolvedRecipe): TermSite[] {
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

function layerSites(recipe: ResolvedRecipe): LayerSite[] {
  const of = (path: Path, { trained = [], frozen = [] }: Pick<ResolvedStage, 'trained' | 'frozen'>) => [
    ...trained.map((layer, i) => ({ path: [...path, 'trained', i], layer })),
    ...frozen.map((layer, i) => ({ path: [...path, 'frozen', i], layer })),
  ]
  return [...of([], recipe), ...(recipe.stages ?? []).flatMap((stage, i) => of(['stages', i], stage))]
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
      if (!(error instanceof AlambicError)) throw error
      problems.add(draft.place(path), path, error.message, { value: draft.at(path) })
    }
}

async function checkWeightFiles(recipe: ResolvedRecipe, draft: Draft, problems: Problems): Promise<void> {
  for (const { path, teacher } of [
    ...teachersIn(recipe),
    { path: ['student'], teacher: recipe.student as ResolvedTeacher },
  ]) {
    const { weights, torchscript } = teacher
    if (typeof weights === 'string') await mustExist([...path, 'weights'], weights, draft, problems)
    else if (weights !== undefined)
      await mustExist([...path, 'weights', 'file'], weights.file, draft, problems)
    if (torchscript !== undefined) await mustExist([...path, 'torchscript'], torchscript, draft, problems)
  }
}

async function mustExist(path: Path, file: string, draft: Draft, problems: Problems): Promise<void> {
  try {
    await access(file)
  } catch {
    problems.add(draft.place(path), path, `expected a file that can be read, got none at ${file}`, {
      value: draft.at(path),
    })
  }
}

// ---- Rules over several keys ---------------------------------------------------------------------------------------------

class Rules {
  constructor(
    private readonly recipe: ResolvedRecipe,
    private readonly facts: DataFacts,
    private readonly draft: Draft,
    private readonly problems: Problems,
    private readonly warnings: Problems,
  ) {}

  check(): void {
    this.checkData()
    this.checkTeachers()
    this.checkChoosing()
    this.checkDevice()
    this.checkTraining([], this.recipe)
    this.recipe.stages?.forEach((stage, i) => {
      this.checkTraining(['stages', i], stage)
    })
    if (this.recipe.stages === undefined)
      this.checkWeights(['objective'], this.recipe.objective, this.recipe.epochs)
    this.recipe.stages?.forEach(({ objective, epochs = this.recipe.epochs }, i) => {
      if (objective !== undefined) this.checkWeights(['stages', i, 'objective'], objective, epochs)
      else this.checkWeights(['objective'], this.recipe.objective, epochs)
    })
  }

  private say(path: Path, message: string, suggestion?: string): void {
    this.problems.add(this.draft.place(path), path, message, { value: this.draft.at(path), suggestion })
  }

  /** At the option of the section that the message is about. */
  private sayOf(section: Path, message: string): void {
    this.say(this.draft.optionIn(message, [section]) ?? section, message)
  }

  private checkData(): void {
    const { validation, mixUp, cutMix } = this.recipe.data
    const { length } = this.facts
    if (validation !== undefined && length !== undefined && validation >= length)
      this.say(
        ['data', 'validation'],
        `expected less than the ${length} samples for training, got ${validation}`,
      )
    if (mixUp !== undefined && cutMix !== undefined)
      this.say(['data', 'cutMix'], 'expected mixUp or cutMix, got both')
  }

  private checkTeachers(): void {
    const { teacher, teachers } = this.recipe
    if (teacher !== undefined && teachers !== undefined)
      this.say(['teachers'], 'expected one teacher, or several under teachers, got both')
    for (const { path, teacher } of teachersIn(this.recipe)) {
      const { model, torchscript, weights } = teacher
      if ((model === undefined) === (torchscript === undefined))
        this.say(
          path,
          `expected a model or a torchscript file, got ${model === undefined ? 'neither' : 'both'}`,
        )
      else if (torchscript !== undefined && weights !== undefined)
        this.say([...path, 'weights'], 'expected no weights: a TorchScript file has its own')
      else if (model !== undefined && weights === undefined)
        this.warnings.add(this.draft.keyPlace(path), path, 'has no weights: this teacher has learned nothing')
    }
  }

  /** What goes by the accuracy on data that there is not. */
  private checkChoosing(): void {
    const { data, patience, choose, testEachEpoch, ema } = this.recipe
    const hasChoice = data.validation !== undefined || testEachEpoch
    if (patience !== undefined && !hasChoice)
      this.say(['patience'], 'expected data to compare epochs by: data.validation, or testEachEpoch')
    if (choose === 'best' && !hasChoice)
      this.say(['choose'], 'expected data to compare epochs by: data.validation, or testEachEpoch')
    if (choose === 'ema' && ema === undefined)
      this.say(['choose'], 'expected ema, the decay of the moving average')
  }

  private checkDevice(): void {
    const { device } = this.recipe
    if (device === undefined) return
    try {
      zeros([1], { device }).dispose()
    } catch (error) {
      if (!(error instanceof AlambicError)) throw error
      this.say(['device'], error.message.replace(/^zeros: device: /, ''))
    }
  }

  /** Each a path, or `{ student, teacher }`. */
  private checkLayers(path: Path, layers: unknown): void {
    if (!Array.isArray(layers)) return
    for (const [i, layer] of (layers as unknown[]).entries()) {
      const here = [...path, i]
      const known = ['student', 'teacher']
      if (typeof layer === 'string') continue
      const foreign = isPlainObject(layer) ? Object.keys(layer).find(key => !known.includes(key)) : undefined
      if (foreign !== undefined) {
        const suggestion = nearest(foreign, known, 1)[0]
        this.problems.add(
          this.draft.keyPlace([...here, foreign]),
          [...here, foreign],
          `there is no key ${show(foreign)}; ${suggestion === undefined ? 'there are: student, teacher' : `did you mean ${show(suggestion)}?`}`,
          { value: foreign, suggestion },
        )
      } else if (!isPlainObject(layer) || known.some(key => typeof layer[key] !== 'string'))
        this.say(
          here,
          `expected the path of a layer, or { student, teacher } with one each, got ${show(layer)}`,
        )
    }
  }

  private checkTraining(
    path: Path,
    { objective, optimizer, schedule, epochs }: Partial<ResolvedStage>,
  ): void {
    const names = teachersIn(this.recipe).map(({ path }) => String(path.at(-1)))
    objective?.forEach((term, i) => {
      const { teacher, name } = term
      const here = [...path, 'objective', i]
      if (teacher !== undefined && !names.includes(teacher))
        this.say(
          [...here, 'teacher'],
          names.length === 0
            ? 'there is no teacher'
            : `expected ${names.map(each => show(each)).join(' or ')}, got ${show(teacher)}`,
          nearest(teacher, names, 1)[0],
        )
      this.checkLayers([...here, 'layers'], term['layers'])
      const others = objective.slice(0, i).map(each => each.name)
      if (name === 'total' || (name !== undefined && others.includes(name)))
        this.say([...here, 'name'], `expected a name that no other part of the loss has, got ${show(name)}`)
    })
    this.tryOptimizer(path, optimizer, schedule, epochs ?? this.recipe.epochs)
  }

  private tryOptimizer(
    path: Path,
    optimizer: ResolvedStage['optimizer'],
    schedule: ResolvedStage['schedule'],
    epochs: number,
  ): void {
    const chosen = optimizer ?? this.recipe.optimizer ?? { name: 'adam' }
    const weight = new Parameter(zeros([1]))
    try {
      const made = createOptimizer(chosen.name, [weight], optionsOf('optimizer', chosen))
      if (schedule !== undefined) this.trySchedule([...path, 'schedule'], schedule, made, epochs)
    } catch (error) {
      if (!(error instanceof AlambicError)) throw error
      this.sayOf([...path, 'optimizer'], error.message)
    } finally {
      weight.dispose()
    }
  }

  private trySchedule(
    path: Path,
    schedule: NonNullable<ResolvedStage['schedule']>,
    optimizer: ReturnType<typeof createOptimizer>,
    epochs: number,
  ): void {
    const { name, warmUp } = schedule
    const options = optionsOf('schedule', schedule)
    if (warmUp >= epochs && warmUp > 0) {
      this.say([...path, 'warmUp'], `expected less than the ${epochs} epochs, got ${warmUp}`)
      return
    }
    const { mode } = options
    if (
      name === 'plateau' &&
      mode === 'max' &&
      this.recipe.data.validation === undefined &&
      !this.recipe.testEachEpoch
    )
      this.say([...path, 'mode'], "expected data for the accuracy that mode 'max' goes by: data.validation")
    const late = Array.isArray(options['milestones'])
      ? (options['milestones'] as unknown[]).filter(each => Number(each) >= epochs)
      : []
    if (late.length > 0 && schedule.interval !== 'step')
      this.warnings.add(
        this.draft.place([...path, 'milestones']),
        [...path, 'milestones'],
        `${late.join(' and ')} will not be reached: there are ${epochs} epochs`,
        { value: options['milestones'] },
      )
    try {
      createSchedule(name, optimizer, options, { length: epochs, warmUp })
    } catch (error) {
      if (!(error instanceof AlambicError)) throw error
      this.sayOf(path, error.message)
    }
  }

  /** An objective whose weights are all 0 in an epoch has nothing to minimise. */
  private checkWeights(path: Path, objective: ResolvedRecipe['objective'], epochs: number): void {
    if (objective === undefined) {
      if (teachersIn(this.recipe).length > 0)
        this.problems.add(this.draft.place([]), path, 'expected terms, as there is a teacher, got nothing')
      return
    }
    const weights = objective.flatMap(({ weight }, i) => this.weightOf([...path, i, 'weight'], weight))
    if (weights.length < objective.length) return
    for (let epoch = 1; epoch <= epochs; epoch++)
      if (weights.every(each => each(epoch) === 0)) {
        this.say(path, `expected a weight above 0 in every epoch, all are 0 in epoch ${epoch}`)
        return
      }
  }

  private weightOf(path: Path, weight: NonNullable<ResolvedRecipe['objective']>[number]['weight']) {
    try {
      return [weightByEpoch(pathText(path), weight)]
    } catch (error) {
      if (!(error instanceof AlambicError)) throw error
      this.say(path, error.message.slice(pathText(path).length + 2))
      return []
    }
  }
}
