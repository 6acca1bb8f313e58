/** The teachers' outputs of a run: whether they may be kept, and the data that have them. */
import { fingerprintOfData } from '../cache/fingerprint.js'
import { cacheSettings, type CacheSettings } from '../cache/options.js'
import { NotCached, openTeacherCache, type CacheRequest, type TeacherCache } from '../cache/teacher-cache.js'
import { TaughtDataset } from '../cache/taught-dataset.js'
import type { Dataset } from '../data/dataset.js'
import { ImageDataset } from '../data/image-dataset.js'
import { viewInEpoch } from '../data/loader.js'
import type { Objective } from '../distill/objective.js'
import type { ModelNeeds } from '../distill/observe.js'
import { inputsByTeacher, teachersByName, type Classifier } from '../distill/train.js'
import { AlambicError } from '../errors.js'
import type { Stage } from './check-options.js'
import type { DistillerOptions } from './options.js'

const who = 'Distiller: teacherCache'

/** What a run trains on, with what its teachers give for it once {@link open} has found or computed that. */
export class TaughtData {
  private readonly settings: CacheSettings
  private readonly taught: TaughtDataset
  private readonly teachers: Record<string, Classifier>
  private caches: TeacherCache[] = []

  constructor(
    private readonly options: DistillerOptions,
    private readonly stages: readonly Stage[],
    private readonly data: Dataset,
  ) {
    this.settings = cacheSettings(who, options.teacherCache ?? 'never')
    this.taught = new TaughtDataset(data)
    this.teachers = teachersByName('Distiller', options.teacher ?? null)
  }

  /** The data for the loader. */
  get dataset(): Dataset {
    return this.settings.mode === 'never' ? this.data : this.taught
  }

  /**
   * Opens the caches of all teachers, and fills them.
   *
   * @throws AlambicError with `'always'`: `ERR_ARGUMENT` where outputs cannot be kept, `ERR_FILE_NOT_FOUND` where they
   *   cannot be written
   */
  async open(signal: AbortSignal | undefined): Promise<void> {
    const { mode } = this.settings
    if (mode === 'never') return
    try {
      const requests = await this.requests(signal)
      for (const request of requests) this.caches.push(await openTeacherCache(request))
      this.taught.teachBy(this.caches)
    } catch (error) {
      this.close()
      if (signal?.aborted === true && error instanceof NotCached) return
      const isOfCache = error instanceof NotCached || isOfFile(error)
      if (!isOfCache) throw error
      if (mode === 'always')
        throw error instanceof NotCached
          ? new AlambicError('ERR_ARGUMENT', `${who}: expected outputs that can be kept: ${error.message}`)
          : error
      await this.options.log?.(`teacher cache: not used, ${error.message}`)
    }
  }

  /** From now on batches have what this objective takes. */
  begin(objective: Objective): void {
    this.taught.wants(objective.needs(Object.keys(this.teachers)).teachers)
  }

  close(): void {
    this.taught.teachBy([])
    for (const cache of this.caches.splice(0)) cache.close()
  }

  private async requests(signal: AbortSignal | undefined): Promise<CacheRequest[]> {
    const { data, settings, teachers, options } = this
    const { seed = 0, batchSize = 64, precision, transform, log } = options
    const needs = needsOfAll(this.stages, Object.keys(teachers))
    const names = Object.keys(needs)
    if (names.length === 0) throw new NotCached('no term takes anything of a teacher')
    if (transform !== undefined) throw new NotCached('the transform changes the batches')
    if (viewInEpoch(data, seed, 0) === undefined) throw new NotCached(whyNoViews(data))
    const inputs = inputsByTeacher(options.teacherInput, Object.keys(teachers))
    const withFunction = names.find(name => typeof inputs(name).given === 'function')
    if (withFunction !== undefined)
      throw new NotCached(
        `teacherInput of ${JSON.stringify(withFunction)} is a function, of which nobody knows what it does; formats ` +
          '{ from, to } can be kept',
      )
    const dataDigest = await fingerprintOfData(data, seed)
    const lines = (line: string) => void log?.(line)
    return names.map(name => {
      const { given: input, toInput } = inputs(name)
      const teacher = { model: teachers[name]!, toInput }
      const of = { name, teacher, input, needs: needs[name]! }
      return { ...of, dataset: data, dataDigest, seed, batchSize, precision, settings, signal, log: lines }
    })
  }
}

/** What all stages together take of each teacher. */
function needsOfAll(stages: readonly Stage[], teachers: readonly string[]): Record<string, ModelNeeds> {
  const all: Record<string, ModelNeeds> = {}
  for (const { objective } of stages)
    for (const [name, { logits, layers, embedding }] of Object.entries(objective.needs(teachers).teachers)) {
      const before = all[name] ?? { logits: false, layers: [], embedding: false }
      all[name] = {
        logits: before.logits || logits,
        layers: [...new Set([...before.layers, ...layers])],
        embedding: before.embedding || embedding,
      }
    }
  return all
}

function whyNoViews(data: Dataset): string {
  return data instanceof ImageDataset || String(data).includes('ImageDataset(')
    ? 'the augmentation draws anew in each epoch; augment: { views: 4 } makes it come again'
    : 'the data set does not promise that its samples come again as they were (views)'
}

function isOfFile(error: unknown): error is AlambicError {
  return error instanceof AlambicError && error.code === 'ERR_FILE_NOT_FOUND'
}
