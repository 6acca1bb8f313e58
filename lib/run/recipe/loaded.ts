/** A recipe that was checked, and what it makes. */
import { stringify } from 'yaml'
import { randomSplit, type Dataset } from '../../data/dataset.js'
import { cutMix, mixUp } from '../../data/mixing.js'
import { create as createData, type DataFacts } from '../../data/registry.js'
import type { ModelInput } from '../../distill/model-input.js'
import { Objective } from '../../distill/objective.js'
import type { Classifier } from '../../distill/train.js'
import { argumentError } from '../../errors.js'
import { create as createSchedule } from '../../optim/lrScheduler/registry.js'
import { create as createOptimizer, type Optimizer } from '../../optim/index.js'
import { manualSeed } from '../../random/index.js'
import type { Tensor } from '../../tensors/tensor.js'
import { integer, requireKind } from '../../checks/options.js'
import type { DistillerOptions, StageOptions, StudentDescription } from '../options.js'
import { rehearseRecipe } from './check.js'
import type { Draft } from './draft.js'
import { factsFrom } from './facts.js'
import { inputOf, loadWeights, makeModel, makeTerm } from './make.js'
import { optionsOf } from './named.js'
import { Problems, type RecipeProblem } from './problems.js'
import type { ResolvedRecipe, ResolvedStage, ResolvedTeacher, ResolvedTerm } from './schema.js'

/** What was read once for all seeds. */
interface ReadData {
  train: Dataset
  test: Dataset | null
  facts: DataFacts
}

export interface LoadedRecipeInit {
  recipe: ResolvedRecipe
  path: string | undefined
  facts: DataFacts
  draft: Draft
  warnings: readonly RecipeProblem[]
}

/** A recipe without mistakes, with all its defaults. {@link build} makes what a run is made of. */
export class LoadedRecipe {
  /** Plain data; paths of files are absolute. */
  readonly recipe: ResolvedRecipe
  /** One run is made of each. */
  readonly seeds: readonly number[]
  /** The file, absolute; undefined where an object was given. */
  readonly path: string | undefined
  /** What is no mistake, but may not be meant. */
  readonly warnings: readonly RecipeProblem[]
  private readonly facts: DataFacts
  private readonly draft: Draft
  private data: Promise<ReadData> | undefined

  /** @internal */
  constructor({ recipe, path, facts, draft, warnings }: LoadedRecipeInit) {
    this.recipe = recipe
    this.seeds = typeof recipe.seed === 'number' ? [recipe.seed] : recipe.seed
    this.path = path
    this.facts = facts
    this.draft = draft
    this.warnings = warnings
  }

  /**
   * The recipe with all its defaults, as YAML that loads to the same.
   *
   * @param seed Default: all {@link seeds}.
   */
  toYaml(seed?: number): string {
    const recipe = seed === undefined ? this.recipe : { ...this.recipe, seed }
    return stringify(recipe, { aliasDuplicateObjects: false })
  }

  /**
   * Reads the data, once for all seeds, and makes networks and terms anew. The student's weights depend on the seed
   * alone, not on the teacher.
   *
   * @param seed Default: the first of {@link seeds}.
   * @throws AlambicError `ERR_RECIPE` for what only the data itself could show; the errors of whoever reads files
   */
  async build(seed: number = this.seeds[0]!): Promise<DistillerOptions> {
    requireKind('build: seed', integer(0, Number.MAX_SAFE_INTEGER), seed)
    const { train, test, facts } = await this.readData()
    const { recipe } = this
    manualSeed(seed)
    const student = await makeModel(recipe.student, facts)
    await loadWeights(student, recipe.student.weights)
    const { data } = recipe
    return {
      student,
      ...(await this.teachers(facts)),
      train,
      validation: data.validation ?? null,
      test,
      ...this.objectives(train.length),
      epochs: recipe.epochs,
      accumulate: recipe.accumulate,
      batchSize: data.batchSize,
      evaluationBatchSize: data.evaluationBatchSize,
      dropLast: data.dropLast,
      ...this.mixing(facts),
      testEachEpoch: recipe.testEachEpoch,
      ...given(recipe, [
        'ema',
        'patience',
        'choose',
        'speed',
        'compile',
        'clipGradNorm',
        'trained',
        'frozen',
        'device',
      ]),
      ...(recipe.precision !== 'auto' && { precision: recipe.precision }),
      ...cacheOf(recipe),
      checkpoint: recipe.checkpoint,
      seed,
      about: this.describeStudent(facts),
    }
  }

  // ---- Data ----------------------------------------------------------------------------------------------------------------

  private readData(): Promise<ReadData> {
    this.data ??= this.read().catch((error: unknown) => {
      this.data = undefined
      throw error
    })
    return this.data
  }

  private async read(): Promise<ReadData> {
    const { data } = this.recipe
    const options = optionsOf('data', data)
    const whole = await createData(data.name, options, { split: 'train' })
    if (whole === null) throw argumentError(`data.${data.name}`, 'a part for training', whole)
    const train = limited(whole, data.samples, this.seeds[0]!)
    const test = await createData(data.name, options, { split: 'test' })
    const facts = factsFrom(train, this.facts)
    await this.checkAgain(facts)
    return { train, test, facts }
  }

  /** With what the options alone did not say. */
  private async checkAgain(facts: DataFacts): Promise<void> {
    const problems = new Problems()
    const { validation, mixUp, cutMix } = this.recipe.data
    const at = ['data', 'validation']
    if (validation !== undefined && validation >= facts.length!)
      problems.add(
        this.draft.place(at),
        at,
        `expected less than the ${facts.length} samples for training, got ${validation}`,
        { value: validation },
      )
    if ((mixUp ?? cutMix) !== undefined && facts.classes === undefined)
      problems.add(
        this.draft.place(['data']),
        ['data'],
        'expected a data set that says its classes, which mixing needs',
      )
    const isNew = this.facts.inputShape === undefined || this.facts.classes === undefined
    if (isNew) await rehearseRecipe(this.recipe, facts, this.draft, problems, true)
    problems.throwIfAny()
  }

  private mixing({ classes }: DataFacts): Pick<DistillerOptions, 'transform'> {
    const { data } = this.recipe
    const count = classes?.length ?? 0
    if (data.mixUp !== undefined) return { transform: mixUp({ classes: count, ...data.mixUp }) }
    if (data.cutMix !== undefined) return { transform: cutMix({ classes: count, ...data.cutMix }) }
    return {}
  }

  // ---- Networks ------------------------------------------------------------------------------------------------------------

  private async teachers(facts: DataFacts): Promise<Pick<DistillerOptions, 'teacher' | 'teacherInput'>> {
    const { teacher, teachers } = this.recipe
    if (teacher !== undefined) {
      const input = inputOf(teacher, facts)
      return { teacher: await makeTeacher(teacher, facts), ...(input && { teacherInput: input }) }
    }
    if (teachers === undefined) return { teacher: null }
    const made: Record<string, Classifier> = {}
    const inputs: Record<string, ModelInput> = {}
    for (const [name, each] of Object.entries(teachers)) {
      made[name] = await makeTeacher(each, facts)
      const input = inputOf(each, facts)
      if (input !== undefined) inputs[name] = input
    }
    return { teacher: made, teacherInput: inputs }
  }

  private describeStudent({ classes, mean, std, inputShape }: DataFacts): StudentDescription {
    const { model, options = {} } = this.recipe.student
    return { model, modelOptions: options, classes, mean, std, inputShape }
  }

  // ---- Training ------------------------------------------------------------------------------------------------------------

  private objectives(samples: number): Pick<DistillerOptions, 'objective' | 'stages' | keyof Training> {
    const { recipe } = this
    const objective = recipe.objective ?? (recipe.stages === undefined ? [crossEntropy] : undefined)
    const stages = recipe.stages?.map(stage => this.stage(stage, samples))
    return {
      ...(objective && { objective: toObjective(objective) }),
      ...this.training(recipe, recipe.epochs, recipe.accumulate, samples),
      ...(stages && { stages }),
    }
  }

  private stage(stage: ResolvedStage, samples: number): StageOptions {
    const { epochs = this.recipe.epochs, accumulate = this.recipe.accumulate, objective } = stage
    const { optimizer = this.recipe.optimizer, schedule = this.recipe.schedule } = stage
    return {
      ...given(stage, ['name', 'trained', 'frozen', 'clipGradNorm']),
      ...(objective && { objective: toObjective(objective) }),
      epochs,
      accumulate,
      ...this.training({ optimizer, schedule }, epochs, accumulate, samples),
    }
  }

  private training(
    { optimizer, schedule }: Pick<ResolvedStage, 'optimizer' | 'schedule'>,
    epochs: number,
    accumulate: number,
    samples: number,
  ): Training {
    const { name, ...rest } = optimizer ?? { name: 'adam' }
    const make = (parameters: Tensor[]): Optimizer => createOptimizer(name, parameters, rest)
    if (schedule === undefined) return { optimizer: make }
    const { interval = schedule.name === 'oneCycle' ? 'step' : 'epoch', warmUp } = schedule
    const unit = interval === 'step' ? this.stepsPerEpoch(samples, accumulate) : 1
    const training = { length: epochs * unit, warmUp: warmUp * unit }
    const options = optionsOf('schedule', schedule)
    return {
      optimizer: make,
      schedule: optimizer => createSchedule(schedule.name, optimizer, options, training),
      scheduleInterval: interval,
    }
  }

  private stepsPerEpoch(samples: number, accumulate: number): number {
    const { batchSize, dropLast, validation = 0 } = this.recipe.data
    const batches = (samples - validation) / batchSize
    return Math.max(Math.ceil((dropLast ? Math.floor(batches) : Math.ceil(batches)) / accumulate), 1)
  }
}

/** One for all teachers: what the first says that has one. */
function cacheOf({ teacher, teachers = {} }: ResolvedRecipe): Pick<DistillerOptions, 'teacherCache'> {
  const caches = [teacher, ...Object.values(teachers)].map(each => each?.cache ?? 'never')
  const cache = caches.find(each => each !== 'never')
  return cache === undefined ? {} : { teacherCache: cache }
}

function limited(whole: Dataset, samples = Infinity, seed: number): Dataset {
  if (samples >= whole.length) return whole
  return randomSplit(whole, [samples, whole.length - samples], { seed })[0]!
}

type Training = Pick<StageOptions, 'optimizer' | 'schedule' | 'scheduleInterval'>

const crossEntropy: ResolvedTerm = { method: 'crossEntropy', weight: 1 }

async function makeTeacher(given: ResolvedTeacher, facts: DataFacts): Promise<Classifier> {
  const model = await makeModel(given, facts)
  await loadWeights(model, given.weights)
  return model
}

function toObjective(terms: readonly ResolvedTerm[]): Objective {
  return new Objective(
    terms.map(term => ({
      term: makeTerm(term),
      weight: term.weight,
      name: term.name,
      teacher: term.teacher,
    })),
  )
}

/** The members that are there. */
function given<T extends object, K extends keyof T>(of: T, names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(
    names.filter(name => of[name] !== undefined).map(name => [name, of[name]]),
  ) as Pick<T, K>
}
