/**
 * Networks and terms of a recipe, tried with two black pictures before anything is read: do the layers exist, do channels
 * and classes meet, do weights fit.
 */
import { nearest } from '../../checks/names.js'
import type { DataFacts } from '../../data/registry.js'
import { Objective } from '../../distill/objective.js'
import type { Seen } from '../../distill/observe.js'
import { toInputFunction } from '../../distill/model-input.js'
import { requireLogits } from '../../distill/outputs.js'
import type { Term } from '../../distill/term.js'
import type { Classifier } from '../../distill/train.js'
import { AlambicError } from '../../errors.js'
import { FeatureProbe } from '../../features/capture.js'
import { ModelProbe, type Observed } from '../../features/model-probe.js'
import { weightShapes } from '../../io/inspect.js'
import { scope } from '../../memory/memory.js'
import { inMode } from '../../nn/modes.js'
import { getRngState, setRngState } from '../../random/index.js'
import { ScriptModule } from '../../script/script-module.js'
import { noGrad } from '../../tensors/grad-mode.js'
import { zeros } from '../../tensors/factories.js'
import type { Tensor } from '../../tensors/tensor.js'
import type { Draft } from './draft.js'
import { inputOf, makeModel, makeTerm, type WeightsInRecipe } from './make.js'
import { pathText, reasonOf, type Path, type Problems } from './problems.js'
import type { ResolvedRecipe, ResolvedTeacher, ResolvedTerm } from './schema.js'
import type { LayerSite, TermSite } from './sites.js'

interface Model {
  path: Path
  model: Classifier
  /** What a batch is for it. */
  toInput: (images: Tensor) => Tensor
}

/** With the seed of nobody: what is drawn here is drawn again by whoever comes after. */
async function withoutTrace<T>(body: () => Promise<T>): Promise<T> {
  const state = getRngState()
  try {
    return await body()
  } finally {
    setRngState(state)
    state.dispose()
  }
}

export interface RehearsalInit {
  recipe: ResolvedRecipe
  facts: DataFacts
  draft: Draft
  problems: Problems
  /** Whether files of weights and of TorchScript are looked at. */
  checkFiles: boolean
  terms: readonly TermSite[]
  layers: readonly LayerSite[]
}

/** Says at its place whatever does not fit. */
export function rehearse(init: RehearsalInit): Promise<void> {
  return withoutTrace(() => new Rehearsal(init).run())
}

class Rehearsal {
  private readonly recipe: ResolvedRecipe
  private readonly facts: DataFacts
  private readonly draft: Draft
  private readonly problems: Problems
  private student: Model | undefined
  private readonly teachers = new Map<string, Model>()

  constructor(private readonly init: RehearsalInit) {
    this.recipe = init.recipe
    this.facts = init.facts
    this.draft = init.draft
    this.problems = init.problems
  }

  async run(): Promise<void> {
    await this.makeModels()
    const made = [this.student, ...this.teachers.values()].filter(each => each !== undefined)
    try {
      this.checkLayers()
      const terms = this.makeTerms()
      if (this.problems.isEmpty) this.observe(terms)
      await this.checkWeights()
    } finally {
      for (const { model } of made) release(model)
    }
  }

  private say(path: Path, error: unknown, suggestion?: string): void {
    const message = reasonOf(error)
    const section = typeof path.at(-1) === 'string' ? path.slice(0, -1) : path
    const at = this.draft.optionIn(message, [section, [...section, 'options'], path]) ?? path
    this.problems.add(this.draft.place(at), at, message, { value: this.draft.at(at), suggestion })
  }

  // ---- Networks ------------------------------------------------------------------------------------------------------------

  private async makeModels(): Promise<void> {
    const { student } = this.recipe
    this.student = await this.makeOne(['student'], { ...student, cache: 'never' })
    for (const [name, teacher] of Object.entries(this.recipe.teachers ?? {})) {
      const model = await this.makeOne(['teachers', name], teacher)
      if (model !== undefined) this.teachers.set(name, model)
    }
    if (this.recipe.teacher === undefined) return
    const model = await this.makeOne(['teacher'], this.recipe.teacher)
    if (model !== undefined) this.teachers.set('teacher', model)
  }

  private async makeOne(path: Path, given: ResolvedTeacher): Promise<Model | undefined> {
    if (given.torchscript !== undefined && !this.init.checkFiles) return undefined
    const from = given.torchscript === undefined ? 'model' : 'torchscript'
    try {
      const model = await makeModel(given, this.facts)
      const toInput = toInputFunction('input', inputOf(given, this.facts))
      return { path, model, toInput }
    } catch (error) {
      const isOfInput = error instanceof AlambicError && /^convertImages|^input/.test(error.message)
      this.say([...path, isOfInput ? 'input' : from], error)
      return undefined
    }
  }

  private async checkWeights(): Promise<void> {
    if (!this.init.checkFiles) return
    const { student, teacher, teachers = {} } = this.recipe
    await this.checkWeightsOf(this.student, ['student'], student.weights)
    await this.checkWeightsOf(this.teachers.get('teacher'), ['teacher'], teacher?.weights)
    for (const [name, { weights }] of Object.entries(teachers))
      await this.checkWeightsOf(this.teachers.get(name), ['teachers', name], weights)
  }

  /** Keys and shapes, which the head of the file says. */
  private async checkWeightsOf(
    model: Model | undefined,
    path: Path,
    weights: WeightsInRecipe | undefined,
  ): Promise<void> {
    if (weights === undefined) return
    const { file, entry, prefix } = typeof weights === 'string' ? { file: weights } : weights
    try {
      const shapes = await weightShapes(file, entry)
      if (model === undefined) return
      scope(() =>
        model.model.loadStateDict(
          Object.fromEntries(Array.from(shapes, ([key, shape]) => [key, zeros([]).expand(shape)])),
          { prefix },
        ),
      )
    } catch (error) {
      this.say([...path, 'weights'], error)
    }
  }

  // ---- Terms ---------------------------------------------------------------------------------------------------------------

  private checkLayers(): void {
    for (const { path, layer } of this.init.layers) this.checkLayer(this.student, layer, path)
    for (const { path, term } of this.init.terms) {
      const layers = term['layers']
      if (!Array.isArray(layers)) continue
      for (const [i, layer] of (layers as unknown[]).entries()) {
        const at = [...path, 'layers', i]
        const { student, teacher } = pairOf(layer)
        this.checkLayer(this.student, student, typeof layer === 'string' ? at : [...at, 'student'])
        for (const model of this.teachersOf(term))
          this.checkLayer(model, teacher, typeof layer === 'string' ? at : [...at, 'teacher'])
      }
    }
  }

  private teachersOf({ teacher }: ResolvedTerm): Model[] {
    return Array.from(this.teachers)
      .filter(([name]) => teacher === undefined || name === teacher)
      .map(([, model]) => model)
  }

  private checkLayer(model: Model | undefined, layer: unknown, path: Path): void {
    if (model === undefined || typeof layer !== 'string') return
    try {
      new FeatureProbe(model.model, [layer]).detach()
    } catch (error) {
      const known = model.model.namedModules().map(([name]) => name)
      this.say(path, error, nearest(layer, known, 1)[0])
    }
  }

  private makeTerms(): { site: TermSite; term: Term; objective: Objective }[] {
    return this.init.terms.flatMap(site => {
      const { path } = site
      try {
        const term = makeTerm(site.term)
        if (site.term['layers'] !== undefined && term.layers === undefined)
          this.problems.add(
            this.draft.keyPlace([...path, 'layers']),
            [...path, 'layers'],
            `the method ${site.term.method} takes no layers`,
            { value: site.term['layers'] },
          )
        if (term.relational && site.accumulate > 1)
          this.problems.add(
            this.draft.place([...path, 'method']),
            path,
            `the method ${site.term.method} depends on which samples share a batch: expected accumulate 1, got ` +
              `${site.accumulate}; a larger data.batchSize does it`,
            { value: site.accumulate },
          )
        if (term.needsTeacher && this.recipe.teacher === undefined && this.recipe.teachers === undefined)
          this.say(
            [...path, 'method'],
            new AlambicError(
              'ERR_ARGUMENT',
              `the method ${site.term.method} needs a teacher, and the recipe has none`,
            ),
          )
        const { teacher } = site.term
        return [
          { site, term, objective: new Objective([{ term, ...(teacher !== undefined && { teacher }) }]) },
        ]
      } catch (error) {
        this.say(path, error)
        return []
      }
    })
  }

  // ---- One forward ---------------------------------------------------------------------------------------------------------

  private observe(terms: readonly { site: TermSite; term: Term; objective: Objective }[]): void {
    const { inputShape } = this.facts
    const { student } = this
    if (inputShape === undefined || student === undefined) return
    noGrad(() =>
      scope(() => {
        const images = zeros([2, ...inputShape])
        const all = [student, ...this.teachers.values()]
        if (!all.map(model => this.canRun(model, images)).every(Boolean)) return
        this.checkClasses(student, images, terms)
        if (!this.problems.isEmpty) return
        for (const each of terms) this.tryTerm(each, student, images)
      }),
    )
  }

  private canRun({ path, model, toInput }: Model, images: Tensor): boolean {
    try {
      requireLogits(
        pathText(path),
        inMode(model, false, () => model.forward(toInput(images))),
      )
      return true
    } catch (error) {
      this.say([...path, model instanceof ScriptModule ? 'torchscript' : 'model'], error)
      return false
    }
  }

  /** Outputs are compared with the data's classes; a teacher's only where a term goes by them. */
  private checkClasses(
    student: Model,
    images: Tensor,
    terms: readonly { site: TermSite; term: Term }[],
  ): void {
    const expected = this.facts.classes?.length
    if (expected === undefined) return
    const byOutputs = terms.filter(
      ({ term }) => term.needsTeacher && (term.layers?.length ?? 0) === 0 && !term.needsEmbedding,
    )
    const compared = new Set([student, ...byOutputs.flatMap(({ site }) => this.teachersOf(site.term))])
    for (const { path, model, toInput } of compared) {
      const classes = inMode(model, false, () => model.forward(toInput(images))).size(-1)
      if (classes === expected) continue
      const options = [...path, 'options', 'classes']
      const at =
        this.draft.at(options) === undefined
          ? [...path, model instanceof ScriptModule ? 'torchscript' : 'model']
          : options
      this.problems.add(
        this.draft.place(at),
        at,
        `expected a network of ${expected} classes, as many as ${this.recipe.data.name} has, got one of ${classes}`,
        { value: this.draft.at(at) },
      )
    }
  }

  private tryTerm(
    { site, term, objective }: { site: TermSite; term: Term; objective: Objective },
    student: Model,
    images: Tensor,
  ): void {
    const isWaiting = term.needsTeacher && this.teachersOf(site.term).length === 0
    if (isWaiting || this.problems.has(site.path)) return
    try {
      const names = [...this.teachers.keys()]
      const loss = objective.toLoss(names)
      const used = loss.begin?.(1, 1) ?? names
      const labels = zeros([2], { dtype: 'int64' })
      const seen: Seen = {
        student: observed(student, images, loss.student),
        teachers: Object.fromEntries(
          used.map(name => [name, observed(this.teachers.get(name)!, images, loss.teachers[name]!)]),
        ),
        labels,
        indices: labels,
        targets: undefined,
      }
      loss.prepare?.(seen)
      loss.forward(seen)
    } catch (error) {
      const layers = [...site.path, 'layers']
      this.say(isOfFeatures(error, term) ? layers : site.path, error)
    }
  }
}

function isOfFeatures(error: unknown, { layers }: Term): boolean {
  const codes = ['ERR_CHANNEL_MISMATCH', 'ERR_SHAPE_MISMATCH', 'ERR_UNKNOWN_LAYER', 'ERR_LENGTH_MISMATCH']
  return layers !== undefined && error instanceof AlambicError && codes.includes(error.code)
}

function pairOf(layer: unknown): { student: unknown; teacher: unknown } {
  if (typeof layer === 'string') return { student: layer, teacher: layer }
  const { student, teacher } = (layer ?? {}) as { student?: unknown; teacher?: unknown }
  return { student, teacher }
}

function observed(
  { model, toInput }: Model,
  images: Tensor,
  needs: { layers: readonly string[]; embedding: boolean },
): Observed {
  const probe = new ModelProbe(model, needs)
  try {
    return inMode(model, false, () => probe.forward(toInput(images)))
  } finally {
    probe.detach()
  }
}

function release(model: Classifier): void {
  for (const each of [...model.parameters(), ...model.buffers()]) each.dispose()
}
