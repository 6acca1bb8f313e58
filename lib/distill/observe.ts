/** What a step observes: each model runs once, and one probe per model collects all that is taken from it. */
import type { Batch, Taught } from '../data/dataset.js'
import { AlambicError } from '../errors.js'
import { ModelProbe, type Observed } from '../features/model-probe.js'
import { scope } from '../memory/memory.js'
import type { Module } from '../nn/module.js'
import { inMode } from '../nn/modes.js'
import { noGrad } from '../tensors/grad-mode.js'
import type { Tensor } from '../tensors/tensor.js'
import { besideTheRest } from '../trace/side-part.js'
import { releasingEarly } from './early-release.js'
import type { LossParts, Method } from './fit.js'
import { checkParts, refuseAsync, requireLogits } from './outputs.js'
import type { Plan } from './speed.js'
import type { InParts } from './step.js'
import { PreparedTeacher } from './teacher.js'

/** What a loss takes of one model. */
export interface ModelNeeds {
  /** Whether its output must be logits. */
  logits: boolean
  /** Paths of layers. */
  layers: readonly string[]
  /** Whether what the classifier is given is taken. */
  embedding: boolean
}

/** What one step saw, before it is divided among terms. */
export interface Seen {
  student: Observed
  /** By name; only those that the loss needs in this step. */
  teachers: Readonly<Record<string, Observed>>
  labels: Tensor
  indices: Tensor | undefined
  /** Soft labels, where pictures were mixed. */
  targets: Tensor | undefined
}

/** What the loop minimises. */
export interface Loss {
  readonly student: ModelNeeds
  /** By name. */
  readonly teachers: Readonly<Record<string, ModelNeeds>>
  /** Modules that are trained with the student, and others that the loss uses. */
  readonly modules: { trained: readonly Module[]; used: readonly Module[] }
  /** What besides the modules says what a step computes. */
  readonly key: string
  /** Whether it takes soft labels. */
  readonly takesTargets?: boolean
  /** Called once with what the first batch shows, in eval mode and without gradients. */
  prepare?: (seen: Seen) => void
  /** Called before each step. Returns the names of the teachers that the step needs; without it all are needed. */
  begin?: (epoch: number, step: number) => readonly string[]
  /** What a step depends on besides its batch and the modules: a recorded one is used again where it is the same. */
  variant?: () => string
  /** Why a step cannot be recorded, as far as this is known once it has run. */
  againstRecording?: () => string | undefined
  forward: (seen: Seen) => LossParts
}

/** A model that teaches, and how a batch becomes its input. */
export interface Teacher {
  model: Module<[Tensor], Tensor>
  toInput: (images: Tensor) => Tensor
}

/**
 * Runs `body` with the method that trains `student` by a loss, whose models are observed meanwhile. Teachers are in
 * eval mode and run without gradients.
 *
 * @param teachers by name: those that the loss needs, at least
 * @param whose how messages call the student
 */
export async function observing<T>(
  student: Module<[Tensor], Tensor>,
  teachers: Readonly<Record<string, Teacher>>,
  loss: Loss,
  plan: Plan,
  whose: string,
  body: (method: Method) => Promise<T>,
): Promise<T> {
  const observers = new Map<string, TeacherObserver>()
  const undo: (() => void)[] = []
  try {
    const names = Object.keys(loss.teachers)
    for (const name of names) {
      const observer = new TeacherObserver(
        names.length === 1 ? 'the teacher' : `the teacher ${JSON.stringify(name)}`,
        teachers[name]!,
        loss.teachers[name]!,
        plan,
      )
      observers.set(name, observer)
      undo.push(() => {
        observer.detach()
      })
    }
    const probe = new ModelProbe(student, loss.student)
    undo.push(() => {
      probe.detach()
    })
    for (const { model } of Object.values(teachers)) model.eval()
    return await body(toMethod(student, whose, probe, observers, loss))
  } finally {
    for (const each of undo.reverse()) each()
  }
}

function toMethod(
  student: Module<[Tensor], Tensor>,
  whose: string,
  probe: ModelProbe,
  observers: ReadonlyMap<string, TeacherObserver>,
  loss: Loss,
): Method {
  let needed: readonly string[] = [...observers.keys()]
  const observe = (data: Tensor): Observed => {
    const observed = probe.forward(data)
    if (loss.student.logits) requireLogits(whose, observed.output)
    else refuseAsync(whose, observed.output)
    return observed
  }
  const teachAll = (images: Tensor, taught: Batch['taught']) =>
    Object.fromEntries(
      Array.from(observers, ([name, observer]) => {
        const known = taught?.[name]
        return [name, known === undefined ? observer.observe(images) : observer.recallWide(known)]
      }),
    )
  const prepared: PreparedTeacher[] = []
  const used = Array.from(observers.values(), ({ model }) => model)
  return {
    student,
    teachers: prepared,
    key: loss.key,
    modules: { trained: [student, ...loss.modules.trained], used: [...used, ...loss.modules.used] },
    variant: loss.variant,
    againstRecording: loss.againstRecording,
    begin(epoch, step) {
      if (loss.begin !== undefined) needed = loss.begin(epoch, step)
    },
    prepare({ data, labels, indices, targets, taught }: Batch): Tensor[] {
      for (const [name, observer] of observers) {
        if (taught?.[name] !== undefined) continue
        observer.prepare(data)
        prepared.push(observer.prepared)
      }
      if (loss.prepare !== undefined)
        inMode(student, false, () =>
          noGrad(() => {
            const teachers = teachAll(data, taught)
            loss.prepare!({ student: observe(data), teachers, labels, indices, targets })
          }),
        )
      return [...student.parameters(), ...loss.modules.trained.flatMap(module => module.parameters())]
    },
    *loss({ data, labels, indices, targets, taught = {} }: Batch): InParts<LossParts> {
      if (targets !== undefined && loss.takesTargets !== true) throw refuseTargets()
      const teachers: Record<string, Observed> = {}
      for (const name of needed) {
        const known = taught[name]
        if (known !== undefined) {
          teachers[name] = observers.get(name)!.recall(known)
          continue
        }
        teachers[name] = observers.get(name)!.teach(data)
        yield
      }
      return checkParts(loss.forward({ student: observe(data), teachers, labels, indices, targets }))
    },
  }
}

function refuseTargets(): AlambicError {
  return new AlambicError(
    'ERR_ARGUMENT',
    'the loss: expected batches with the labels of whole pictures, got mixed ones with soft labels (targets); ' +
      'trainClassifier and trainWithObjective take them',
  )
}

/** A teacher with its probe, and made fast. */
export class TeacherObserver {
  readonly model: Module<[Tensor], Tensor>
  readonly prepared: PreparedTeacher
  private readonly probe: ModelProbe

  constructor(
    private readonly whose: string,
    private readonly teacher: Teacher,
    private readonly needs: ModelNeeds,
    plan: Plan,
  ) {
    this.model = teacher.model
    this.probe = new ModelProbe(teacher.model, needs)
    this.prepared = new PreparedTeacher(teacher.model, plan)
  }

  /** As the model is. */
  observe(images: Tensor): Observed {
    return noGrad(() => {
      const input = this.teacher.toInput(images)
      return releasingEarly(this.whose, this.model, () => {
        const observed = this.probe.forward(input)
        if (this.needs.logits) requireLogits(this.whose, observed.output)
        else refuseAsync(this.whose, observed.output)
        return observed
      })
    })
  }

  prepare(images: Tensor): void {
    this.prepared.prepare(() => {
      const { output, features, embedding } = this.observe(images)
      return [output, ...Object.values(features), ...(embedding === undefined ? [] : [embedding])]
    })
  }

  /** As a step does it: made fast; its other tensors need not wait for the backward. */
  teach(images: Tensor): Observed {
    return besideTheRest(() => this.prepared.run(() => scope(() => this.observe(images))))
  }

  /** What a batch has of it already. */
  recall({ output, features, embedding }: Taught): Observed {
    const { layers, embedding: needsEmbedding } = this.needs
    const missing = layers.find(layer => !Object.hasOwn(features, layer))
    if (missing !== undefined) throw this.notTaught(`the features of ${JSON.stringify(missing)}`)
    if (needsEmbedding && embedding === undefined) throw this.notTaught('the embedding')
    return { output, features, embedding }
  }

  /** The same in the dtype of the model, whatever a step computes in: parts are made by it. */
  recallWide(taught: Taught): Observed {
    const dtype = this.model.parameters()[0]?.dtype
    const wide = (tensor: Tensor) =>
      dtype === undefined || !/^b?float/.test(tensor.dtype) ? tensor : tensor.to(dtype)
    const { output, features, embedding } = this.recall(taught)
    return {
      output: wide(output),
      features: Object.fromEntries(Object.entries(features).map(([path, each]) => [path, wide(each)])),
      embedding: embedding && wide(embedding),
    }
  }

  private notTaught(what: string): AlambicError {
    return new AlambicError(
      'ERR_ARGUMENT',
      `${this.whose}: expected ${what} among what batches have of it (taught), got none`,
    )
  }

  detach(): void {
    this.probe.detach()
    this.prepared.dispose()
  }
}
