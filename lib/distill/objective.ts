/** Objectives: what a training minimises, a weighted sum of terms. */
import { anything, readOptions, requireKind, text, type Kind, type Kinds } from '../checks/options.js'
import { AlambicError, argumentError, show } from '../errors.js'
import type { Observed } from '../features/model-probe.js'
import { ModuleDict } from '../nn/index.js'
import { Module } from '../nn/module.js'
import { noGrad } from '../tensors/grad-mode.js'
import { Tensor, tensor } from '../tensors/tensor.js'
import type { LossParts } from './fit.js'
import type { Loss, ModelNeeds, Seen } from './observe.js'
import { refuseAsync } from './outputs.js'
import { Term, toPairs, type LayerPair, type Observation, type View } from './term.js'
import { weightByEpoch, type Weight } from './weight.js'

/** A term of an objective, and what the objective makes of it. */
export interface ObjectiveTerm {
  term: Term
  /** Default: 1. A term is not computed in epochs in which its weight is 0. */
  weight?: Weight
  /** In progress, logs, and the keys of the objective's state. Default: the class's name, such as `kd`. */
  name?: string
  /** Which of several teachers the term sees. Default: the mean of all. */
  teacher?: string
}

const aTerm: Kind = { expected: 'a term, such as new methods.KD()', fits: value => value instanceof Term }

const termOptions: Kinds<ObjectiveTerm> = {
  term: aTerm,
  weight: anything, // weightByEpoch() looks at it
  name: text,
  teacher: text,
}

interface Entry {
  readonly name: string
  readonly term: Term
  readonly layers: readonly LayerPair[]
  readonly teacher: string | undefined
  readonly weightAt: (epoch: number) => number
  /** The field of the weight, where it follows the epochs: a recorded step reads it anew each time. */
  readonly weightField: string | undefined
}

/**
 * A weighted sum of terms: what a training minimises. Beside the `total` it gives the value of each term, not weighted,
 * under the term's name.
 *
 * @example
 * new Objective([
 *   { term: new methods.CrossEntropy(), weight: 0.1 },
 *   { term: new methods.KD({ temperature: 4 }), weight: { value: 0.9, warmUp: 20 } },
 * ])
 */
export class Objective extends Module<[seen: Seen], LossParts> {
  /** The terms by name. */
  readonly terms = new ModuleDict()
  private readonly entries: readonly Entry[]
  /** Of the step at hand. */
  private active: readonly { entry: Entry; weight: number }[] = []
  private epoch = 1
  private step = 1
  /** What terms have asked for of these two: it is part of what they compute. */
  private readonly asked = new Set<'epoch' | 'step'>()

  /**
   * @throws AlambicError `ERR_ARGUMENT` for an empty list, for what is no term or no weight, and for a name or a term that
   *   comes twice
   */
  constructor(terms: readonly (Term | ObjectiveTerm)[]) {
    super()
    if (!Array.isArray(terms) || terms.length === 0)
      throw argumentError('Objective: terms', 'at least one term, or { term, weight }', terms)
    this.entries = Array.from(terms as readonly (Term | ObjectiveTerm)[], (each, i) => this.enter(each, i))
    this.begin(1, 1)
  }

  private enter(given: Term | ObjectiveTerm, position: number): Entry {
    const who = `Objective: terms[${position}]`
    const { term, weight = 1, name, teacher } = toObjectiveTerm(who, given)
    if (this.terms.values().includes(term))
      throw new AlambicError(
        'ERR_ARGUMENT',
        `${who}: the same term is in the list twice; make another, or one weight`,
      )
    const entry = {
      name: this.freeName(who, name, term),
      term,
      teacher,
      layers:
        (term.layers?.length ?? 0) === 0 ? [] : toPairs(`${term.constructor.name}: layers`, term.layers),
      weightAt: weightByEpoch(`${who}: weight`, weight),
      weightField: typeof weight === 'number' ? undefined : `weight${position}`,
    }
    this.terms.set(entry.name, term)
    if (entry.weightField !== undefined)
      this.registerBuffer(entry.weightField, tensor(1, { dtype: 'float64' }), { persistent: false })
    return entry
  }

  private freeName(who: string, given: string | undefined, term: Term): string {
    if (given === 'total' || (given !== undefined && this.terms.has(given)))
      throw argumentError(`${who}: name`, 'a name that no other part of the loss has', given)
    if (given !== undefined) return given
    const name = termName(term)
    for (let number = 1; ; number++) {
      const candidate = number === 1 ? name : `${name}${number}`
      if (!this.terms.has(candidate)) return candidate
    }
  }

  /** The weights of the terms by name, in an epoch. */
  weights(epoch: number): Record<string, number> {
    return Object.fromEntries(this.entries.map(({ name, weightAt }) => [name, weightAt(epoch)]))
  }

  /**
   * For a training that adds up the gradients of parts of a batch.
   *
   * @throws AlambicError `ERR_ARGUMENT` for a term that such a training would change
   * @internal
   */
  refuseParts(): void {
    const entry = this.entries.find(({ term }) => term.relational)
    if (entry === undefined) return
    throw new AlambicError(
      'ERR_ARGUMENT',
      `accumulate: the term ${entry.name} depends on which samples share a batch: computed on parts of it, it would be ` +
        'another; expected 1 with this term, and a larger batchSize',
    )
  }

  // ---- What the loop asks of it ------------------------------------------------------------------------------------------

  /**
   * What the terms take of the models.
   *
   * @param teachers the names of all there are
   * @throws AlambicError `ERR_ARGUMENT` for a term that names a teacher that there is not, or needs one where none is
   * @internal
   */
  needs(teachers: readonly string[]): { student: ModelNeeds; teachers: Record<string, ModelNeeds> } {
    const student = emptyNeeds()
    const byTeacher: Record<string, MutableNeeds> = {}
    for (const { term, layers, name, teacher } of this.entries) {
      addNeeds(
        student,
        layers.map(each => each.student),
        term,
      )
      if (!term.needsTeacher) continue
      if (teachers.length === 0)
        throw new AlambicError(
          'ERR_ARGUMENT',
          `objective: the term ${name} needs a teacher, and there is none`,
        )
      if (teacher !== undefined && !teachers.includes(teacher))
        throw argumentError(
          `objective: the teacher of ${name}`,
          teachers.map(each => show(each)).join(' or '),
          teacher,
        )
      for (const each of teacher === undefined ? teachers : [teacher])
        addNeeds(
          (byTeacher[each] ??= emptyNeeds()),
          layers.map(pair => pair.teacher),
          term,
        )
    }
    return { student, teachers: byTeacher }
  }

  /**
   * The objective as the loop takes it.
   *
   * @param teachers the names of all there are
   * @internal
   */
  toLoss(teachers: readonly string[]): Loss {
    return {
      ...this.needs(teachers),
      takesTargets: true,
      modules: { trained: [this], used: [] },
      key: JSON.stringify(
        this.entries.map(({ name, layers, term }) => [name, term.constructor.name, layers]),
      ),
      ...(this.entries.some(({ term }) => preparesItself(term)) && {
        prepare: (seen: Seen) => {
          for (const entry of this.entries)
            if (preparesItself(entry.term)) entry.term.prepare(this.observationFor(entry, seen))
        },
      }),
      begin: (epoch, step) => {
        this.begin(epoch, step)
        const seen = this.active
          .filter(({ entry }) => entry.term.needsTeacher)
          .map(({ entry }) => entry.teacher)
        return seen.includes(undefined) ? teachers : teachers.filter(name => seen.includes(name))
      },
      variant: () => this.variant(),
      againstRecording: () =>
        this.asked.has('step') ? 'a term depends on the number of the step' : undefined,
      forward: seen => this.forward(seen),
    }
  }

  private begin(epoch: number, step: number): void {
    this.step = step
    if (epoch === this.epoch && this.active.length > 0) return
    this.epoch = epoch
    const weighted = this.entries.map(entry => ({ entry, weight: entry.weightAt(epoch) }))
    this.active = weighted.filter(({ weight }) => weight > 0)
    if (this.active.length === 0)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `objective: expected a weight above 0, all are 0 in epoch ${epoch}`,
      )
    noGrad(() => {
      for (const { entry, weight } of this.active)
        if (entry.weightField !== undefined) this.weightTensor(entry.weightField).fill_(weight)
    })
  }

  private variant(): string {
    const names = this.active.map(({ entry }) => entry.name).join()
    return [names, ...Array.from(this.asked, each => `${each} ${this[each]}`)].join(' ')
  }

  private weightTensor(field: string): Tensor {
    return (this as unknown as Record<string, Tensor>)[field]!
  }

  /**
   * The sum of the terms whose weight is above 0.
   *
   * @throws AlambicError the errors of the terms; `ERR_ARGUMENT` for a term that gives anything but one number
   */
  override forward(seen: Seen): LossParts {
    const parts: Record<string, Tensor> = {}
    let total: Tensor | undefined
    for (const { entry, weight } of this.active) {
      const value = checkValue(entry.name, entry.term.forward(this.observationFor(entry, seen)))
      parts[entry.name] = value
      const weighted = this.weigh(value, weight, entry.weightField)
      total = total === undefined ? weighted : total.add(weighted)
    }
    return { total: total!, ...parts }
  }

  private weigh(value: Tensor, weight: number, field: string | undefined): Tensor {
    if (field !== undefined) return value.mul(this.weightTensor(field).to(value.dtype))
    return weight === 1 ? value : value.mul(weight)
  }

  private observationFor(
    { name, term, layers, teacher }: Entry,
    { student, teachers, labels, indices, targets }: Seen,
  ): Observation {
    if (term.needsIndices && indices === undefined)
      throw new AlambicError(
        'ERR_ARGUMENT',
        `objective: the term ${name} needs the samples' positions, which the batches do not have; a DataLoader gives ` +
          'them with indices: true',
      )
    const own = teacher === undefined ? Object.values(teachers) : [teachers[teacher]!]
    const views = own.map(each =>
      viewOf(
        each,
        layers.map(pair => pair.teacher),
      ),
    )
    const ask = (what: 'epoch' | 'step') => {
      this.asked.add(what)
      return this[what]
    }
    return {
      student: viewOf(
        student,
        layers.map(pair => pair.student),
      ),
      get teacher(): View {
        return meanOf(views)
      },
      labels,
      indices,
      targets,
      get epoch() {
        return ask('epoch')
      },
      get step() {
        return ask('step')
      },
    }
  }
}

/** Otherwise nothing has to be shown to it. */
function preparesItself(term: Term): boolean {
  return term.prepare !== Term.prototype.prepare
}

type MutableNeeds = ModelNeeds & { layers: string[] }

function emptyNeeds(): MutableNeeds {
  return { logits: true, layers: [], embedding: false }
}

function addNeeds(needs: MutableNeeds, layers: readonly string[], { needsEmbedding }: Term): void {
  needs.layers.push(...layers.filter(layer => !needs.layers.includes(layer)))
  needs.embedding ||= needsEmbedding
}

function toObjectiveTerm(who: string, given: Term | ObjectiveTerm): ObjectiveTerm {
  if (given instanceof Term) return { term: given }
  if (typeof given !== 'object' || given === null || given instanceof Module)
    throw argumentError(who, `${aTerm.expected}, or { term, weight }`, given)
  const read = readOptions(who, given, termOptions)
  requireKind(`${who}: term`, aTerm, read.term)
  return read
}

/** `KD` → `kd`, `CrossEntropy` → `crossEntropy` */
export function termName(term: Term): string {
  const { name } = term.constructor
  if (name === '') return 'term'
  return name === name.toUpperCase() ? name.toLowerCase() : name[0]!.toLowerCase() + name.slice(1)
}

function checkValue(name: string, value: unknown): Tensor {
  refuseAsync(`the term ${name}`, value)
  if (!(value instanceof Tensor))
    throw argumentError(`the term ${name}: forward`, 'a tensor with one element', value)
  if (value.numel() !== 1)
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `the term ${name}: forward: expected a tensor with one element, got (${value.shape.join(', ')})`,
    )
  return value
}

function viewOf({ output, features, embedding }: Observed, layers: readonly string[]): View {
  const view: View = { logits: output, features: layers.map(layer => features[layer]!) }
  return embedding === undefined ? view : { ...view, embedding }
}

/** Of several teachers: of logits, features and embeddings apart. */
function meanOf(views: readonly View[]): View {
  const [first, ...others] = views
  if (first === undefined)
    throw new AlambicError('ERR_ARGUMENT', 'objective: a term asks for a teacher, and there is none')
  if (others.length === 0) return first
  const mean = (pick: (view: View) => Tensor) =>
    noGrad(() =>
      views
        .map(pick)
        .reduce((sum, each) => sum.add(each))
        .div(views.length),
    )
  return {
    logits: mean(view => view.logits),
    features: first.features.map((_, i) => mean(view => view.features[i]!)),
    ...(first.embedding === undefined ? {} : { embedding: mean(view => view.embedding!) }),
  }
}
