/** Rules over several keys of a recipe. */
import { nearest } from '../../checks/names.js'
import { isPlainObject } from '../../checks/realms.js'
import type { DataFacts } from '../../data/registry.js'
import { weightByEpoch } from '../../distill/weight.js'
import { show } from '../../errors.js'
import { Parameter } from '../../nn/parameter.js'
import { create as createSchedule } from '../../optim/lrScheduler/registry.js'
import { create as createOptimizer } from '../../optim/registry.js'
import { zeros } from '../../tensors/factories.js'
import type { Draft } from './draft.js'
import { optionsOf } from './named.js'
import { pathText, reasonOf, type Path, type Problems } from './problems.js'
import type { ResolvedRecipe, ResolvedStage } from './schema.js'
import { teachersIn } from './sites.js'

export class Rules {
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
      this.say(['device'], reasonOf(error).replace(/^zeros: device: /, ''))
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
      this.sayOf([...path, 'optimizer'], reasonOf(error))
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
      this.sayOf(path, reasonOf(error))
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
      this.say(path, reasonOf(error).slice(pathText(path).length + 2))
      return []
    }
  }
}
