/** A data set whose batches have what teachers give for them. */
import { isPromise } from '../checks/realms.js'
import type { Batch, Dataset, SampleView, Taught } from '../data/dataset.js'
import type { Random } from '../data/random.js'
import { scope } from '../memory/memory.js'
import { noGrad } from '../tensors/grad-mode.js'

/** What is known of one teacher. */
export interface KnownTeacher {
  readonly name: string
  /** What it gives for some samples in a view, as new tensors on the CPU; null for a batch for which it has to run. */
  recall: (
    samples: readonly number[] | Int32Array,
    view: number,
    wanted: { layers: readonly string[]; embedding: boolean },
  ) => Taught | null
}

/** What a stage of training takes of each teacher, by name. */
export type Wanted = Readonly<Record<string, { layers: readonly string[]; embedding: boolean }>>

/** Gives the samples of another data set, with what is known of teachers. */
export class TaughtDataset implements Dataset {
  private known: readonly KnownTeacher[] = []
  private wanted: Wanted = {}

  constructor(private readonly dataset: Dataset) {}

  get length(): number {
    return this.dataset.length
  }

  get classes(): readonly string[] | undefined {
    return this.dataset.classes
  }

  get views(): number | undefined {
    return this.dataset.views
  }

  /** From now on batches have what these know. */
  teachBy(known: readonly KnownTeacher[]): void {
    this.known = known
  }

  /** What the batches from now on are used for. */
  wants(wanted: Wanted): void {
    this.wanted = wanted
  }

  batch(indices: readonly number[] | Int32Array, random?: Random, view?: SampleView): Batch {
    const made = this.dataset.batch(indices, random, view) as unknown
    const add = (batch: unknown) => ({ ...(batch as Batch), taught: this.recall(indices, view?.number ?? 0) })
    if (this.known.length === 0) return made as Batch
    // A loader waits for data sets that take their time.
    return (isPromise(made) ? Promise.resolve(made).then(add) : add(made)) as Batch
  }

  private recall(indices: readonly number[] | Int32Array, view: number): Record<string, Taught> {
    return noGrad(() =>
      scope(() => {
        const taught: Record<string, Taught> = {}
        for (const { name, recall } of this.known) {
          const wanted = this.wanted[name]
          const recalled = wanted === undefined ? null : recall(indices, view, wanted)
          if (recalled !== null) taught[name] = recalled
        }
        return taught
      }),
    )
  }

  toString(): string {
    return String(this.dataset)
  }
}
