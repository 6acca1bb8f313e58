/**
 * What a teacher gives for every sample, computed once: opened where it is kept, filled where it is not. The rows are
 * computed as a step computes them, in eval mode and in batches of the same size.
 */
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { releaseBatch, type Dataset, type Taught } from '../data/dataset.js'
import type { ModelInput } from '../distill/model-input.js'
import { TeacherObserver, type ModelNeeds, type Teacher } from '../distill/observe.js'
import { chooseSpeed, type Precision } from '../distill/speed.js'
import { scope } from '../memory/memory.js'
import { torch } from '../calls/index.js'
import { cacheFolder } from '../native/libtorch.js'
import { native } from '../native/loader.js'
import { noGrad } from '../tensors/grad-mode.js'
import { fromTypedArray, type Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'
import { digestOf, fingerprintOfModel, makeBatch } from './fingerprint.js'
import {
  columns,
  describeParts,
  layoutOf,
  pack,
  partsFor,
  rowBytes,
  unpack,
  type Part,
  type Rows,
} from './layout.js'
import type { CacheSettings } from './options.js'
import { CacheFolder, Division, gatherRows, releaseRows, type Shard } from './shards.js'
import type { KnownTeacher } from './taught-dataset.js'

/** What the outputs of a teacher depend on, and how they are kept. */
export interface CacheRequest {
  readonly name: string
  readonly teacher: Teacher
  /** The formats of {@link Teacher.toInput}. */
  readonly input: ModelInput | undefined
  readonly needs: ModelNeeds
  readonly dataset: Dataset
  /** Of the data, see `fingerprintOfData`. */
  readonly dataDigest: string
  /** Of views. */
  readonly seed: number
  readonly batchSize: number
  readonly precision: Precision | undefined
  readonly settings: CacheSettings
  readonly signal: AbortSignal | undefined
  readonly log: (line: string) => void
}

/** Why outputs are not kept: what was asked for is in order, and the cache would be wrong, too large, or too late. */
export class NotCached extends Error {}

/**
 * Opens the cache of a teacher, and computes what is missing there.
 *
 * @throws NotCached where it cannot be, or the signal stopped it; AlambicError `ERR_FILE_NOT_FOUND` where the folder
 *   cannot be written to; what the teacher throws
 */
export async function openTeacherCache(request: CacheRequest): Promise<TeacherCache> {
  const { model } = request.teacher
  model.eval()
  const device = model.parameters()[0]?.device ?? 'cpu'
  const plan = chooseSpeed(undefined, model, device, false, request.precision)
  const whose = `the teacher ${JSON.stringify(request.name)}`
  const observer = new TeacherObserver(whose, request.teacher, request.needs, plan)
  try {
    return await new Opening(request, observer, device).open()
  } finally {
    observer.detach()
  }
}

/** A cache that is complete. */
export class TeacherCache implements KnownTeacher {
  constructor(
    readonly name: string,
    private readonly parts: readonly Part[],
    private readonly division: Division,
    private readonly shards: readonly Rows[],
    private readonly otherSize: number | null,
  ) {}

  recall: KnownTeacher['recall'] = (samples, view, wanted) => {
    if (samples.length === this.otherSize) return null
    const parts = partsFor(this.parts, wanted)
    const names = columns(parts).map(({ name }) => name)
    return unpack(parts, gatherRows(this.division, this.shards, names, samples, view))
  }

  /** Releases the mapped files. */
  close(): void {
    this.shards.forEach(releaseRows)
  }
}

/** What one batch shows. */
interface FirstLook {
  readonly parts: readonly Part[]
  readonly rows: Rows
  /** By how much the outputs for a sample vary with its place and its batch, by the largest value. */
  readonly difference: number
  /** The size of a last batch, in which a sample's outputs are others by rounding, though they vary nowhere else; or null. */
  readonly otherSize: number | null
}

class Opening {
  private readonly views: number

  constructor(
    private readonly request: CacheRequest,
    private readonly observer: TeacherObserver,
    private readonly device: Device,
  ) {
    this.views = request.dataset.views!
  }

  async open(): Promise<TeacherCache> {
    const { name, dataset } = this.request
    const look = await this.lookAtFirstBatch()
    const { parts } = look
    try {
      const { folder, about } = await this.folder(parts)
      this.announce(look, folder)
      await folder.make()
      const division = new Division(dataset.length, this.views, rowBytes(parts))
      const shards = division.shards()
      const found = await this.findShards(folder, shards, look)
      const missing = shards.filter((_, i) => found[i] === null)
      try {
        if (missing.length > 0) {
          await this.fill(folder, missing, found, parts)
          await folder.writeIndex(about, shards)
        }
      } catch (error) {
        found.forEach(releaseRows)
        throw error
      }
      return new TeacherCache(name, parts, division, found as Rows[], look.otherSize)
    } finally {
      releaseRows(look.rows)
    }
  }

  /** Says what will be kept before anything is written. */
  private announce({ parts, difference, otherSize }: FirstLook, { path }: CacheFolder): void {
    const { name, dataset, settings, log } = this.request
    const whose = name === 'teacher' ? '' : `${name}: `
    const views = this.views === 1 ? '1 view' : `${this.views} views`
    const bytes = rowBytes(parts) * dataset.length * this.views
    const rounding =
      difference === 0 ? '' : `; outputs for a sample vary by ${difference.toExponential(0)} among batches`
    log(
      `teacher cache: ${whose}${dataset.length} samples × ${views}, ${describeParts(parts)}: ` +
        `${formatBytes(bytes)} in ${path}${rounding}` +
        (otherSize === null
          ? ''
          : `; the teacher runs for a last batch of ${otherSize}, whose rounding differs`),
    )
    if (bytes > settings.maxBytes)
      throw new NotCached(`it takes ${formatBytes(bytes)}, and maxBytes is ${formatBytes(settings.maxBytes)}`)
  }

  /** Where the outputs of this teacher on these data are. */
  private async folder(
    parts: readonly Part[],
  ): Promise<{ folder: CacheFolder; about: Record<string, unknown> }> {
    const { teacher, input, needs, dataset, dataDigest, batchSize, precision, settings } = this.request
    const { torchVersion, cpuCapability } = native.systemInfo()
    const about = {
      teacher: await fingerprintOfModel(teacher.model),
      data: dataDigest,
      samples: dataset.length,
      views: this.views,
      input: input ?? null,
      layers: [...needs.layers].sort(),
      embedding: needs.embedding,
      parts,
      batchSize: Math.min(batchSize, dataset.length),
      precision: precision ?? 'float32',
      device: this.device.replace(/:.*/, ''),
      libtorch: torchVersion,
      processor: cpuCapability,
    }
    const key = digestOf(about)
    const root = settings.folder ?? join(cacheFolder(), 'teachers')
    return { folder: new CacheFolder(join(root, key), key, parts), about }
  }

  // ---- The teacher -------------------------------------------------------------------------------------------------------

  /** What the teacher gives for some samples of a view. */
  private async teach<T>(samples: Int32Array, view: number, use: (taught: Taught) => T): Promise<T> {
    const { dataset, seed } = this.request
    const batch = await makeBatch(dataset, samples, view, seed)
    try {
      return noGrad(() => scope(() => use(this.observer.teach(batch.data.to(this.device)))))
    } finally {
      releaseBatch(batch)
    }
  }

  private async lookAtFirstBatch(): Promise<FirstLook> {
    const { settings, name } = this.request
    const samples = this.samplesFrom(0)
    const refuse = (reason: string) => new NotCached(`of the teacher ${JSON.stringify(name)}, ${reason}`)
    const { parts, rows } = await this.teach(samples, 0, taught => {
      const layout = layoutOf(taught, samples.length, settings)
      if (typeof layout === 'string') throw refuse(layout)
      return { parts: layout, rows: packOnCpu(layout, taught) }
    })
    // Half of the samples, each twice, from the last to the first.
    const others = samples.map((_, i) => (samples.length - 1 - i) >> 1)
    const difference = await this.differenceOf(others, parts, rows)
    if (difference <= toleranceOf(parts))
      return { parts, rows, difference, otherSize: await this.otherSize(parts, rows, difference) }
    releaseRows(rows)
    throw refuse('the outputs for a sample depend on the other samples of its batch')
  }

  /** Between what the teacher gives for a batch of the first samples, and their rows. */
  private differenceOf(samples: Int32Array, parts: readonly Part[], rows: Rows): Promise<number> {
    return this.teach(samples, 0, taught => {
      const index = fromTypedArray(samples, [samples.length])
      const expected = mapped(rows, each => each.indexSelect(0, index))
      return largestDifference(packOnCpu(parts, taught), expected)
    })
  }

  private async otherSize(parts: readonly Part[], rows: Rows, difference: number): Promise<number | null> {
    const { batchSize, dataset } = this.request
    const last = dataset.length > batchSize ? dataset.length % batchSize : 0
    const isExact = parts.every(({ dtype, kept, topK }) => dtype === kept && topK === null)
    if (last === 0 || difference > 0 || !isExact) return null
    return (await this.differenceOf(this.samplesFrom(0).slice(0, last), parts, rows)) === 0 ? null : last
  }

  /** A batch of samples from `start` on, beginning again at the end of the data. */
  private samplesFrom(start: number): Int32Array {
    const { batchSize, dataset } = this.request
    const size = Math.min(batchSize, dataset.length)
    return Int32Array.from({ length: size }, (_, i) => (start + i) % dataset.length)
  }

  // ---- The shards --------------------------------------------------------------------------------------------------------

  /** Those that are there. If the first batch gives something else now, all are of another teacher. */
  private async findShards(
    folder: CacheFolder,
    shards: readonly Shard[],
    { rows: first, parts }: FirstLook,
  ): Promise<(Rows | null)[]> {
    const found: (Rows | null)[] = []
    for (const shard of shards) found.push(await folder.read(shard))
    const kept = found[0] ?? null
    if (kept === null) return found
    const isSame = scope(() => {
      const count = Math.min(shards[0]!.rows, this.samplesFrom(0).length)
      const head = (rows: Rows) => mapped(rows, each => each.narrow(0, 0, count))
      return largestDifference(head(kept), head(first)) <= toleranceOf(parts)
    })
    if (isSame) return found
    this.request.log(
      'teacher cache: the teacher gives something else than what is kept, which is computed again',
    )
    found.forEach(releaseRows)
    return found.map(() => null)
  }

  /** Computes what is missing. */
  private async fill(
    folder: CacheFolder,
    missing: readonly Shard[],
    found: (Rows | null)[],
    parts: readonly Part[],
  ): Promise<void> {
    await refuseFullDisk(folder, missing, parts)
    const startedAt = performance.now()
    for (const shard of missing) {
      const rows = await this.compute(shard, parts)
      try {
        await folder.write(shard, rows)
      } finally {
        releaseRows(rows)
      }
      const written = await folder.read(shard)
      if (written === null) throw new NotCached(`what was written into ${folder.path} cannot be read`)
      found[shard.number] = written
    }
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
    this.request.log(`teacher cache: ${missing.length} of ${found.length} shards computed in ${seconds} s`)
  }

  private async compute({ view, start, rows }: Shard, parts: readonly Part[]): Promise<Rows> {
    const batches: Rows[] = []
    try {
      for (let done = 0; done < rows;) {
        if (this.request.signal?.aborted === true) throw new NotCached('the run was stopped')
        const samples = this.samplesFrom(start + done)
        const count = Math.min(samples.length, rows - done)
        batches.push(
          await this.teach(samples, view, taught =>
            mapped(packOnCpu(parts, taught), each => each.narrow(0, 0, count)),
          ),
        )
        done += count
        await setImmediate()
      }
      return scope(() => mapped(batches[0]!, (_, name) => torch.cat(batches.map(each => each[name]!))))
    } finally {
      batches.forEach(releaseRows)
    }
  }
}

async function refuseFullDisk(
  folder: CacheFolder,
  missing: readonly Shard[],
  parts: readonly Part[],
): Promise<void> {
  const bytes = missing.reduce((sum, { rows }) => sum + rows * rowBytes(parts), 0)
  const free = await folder.freeBytes()
  if (free < bytes)
    throw new NotCached(`it takes ${formatBytes(bytes)}, and ${formatBytes(free)} are free in ${folder.path}`)
}

// ---- Rows ------------------------------------------------------------------------------------------------------------------

function packOnCpu(parts: readonly Part[], taught: Taught): Rows {
  return mapped(pack(parts, taught), each => each.to('cpu'))
}

function mapped(rows: Rows, change: (tensor: Tensor, name: string) => Tensor): Rows {
  return Object.fromEntries(Object.entries(rows).map(([name, tensor]) => [name, change(tensor, name)]))
}

/** By the largest value of each column. Of equal logits any may be among the largest: which they are is not compared. */
function largestDifference(actual: Rows, expected: Rows): number {
  const differences = Object.entries(expected).flatMap(([name, tensor]) => {
    if (name.endsWith('.indices')) return []
    const [now, then] = [actual[name]!.to('float32'), tensor.to('float32')]
    const largest = then.abs().max().item()
    return [now.sub(then).abs().max().item() / Math.max(largest, Number.MIN_VALUE)]
  })
  return differences.some(Number.isNaN) ? NaN : Math.max(...differences)
}

/** Differences up to this are rounding. */
function toleranceOf(parts: readonly Part[]): number {
  return parts.every(({ dtype, kept }) => /64|32/.test(dtype) && /64|32/.test(kept)) ? 1e-3 : 3e-2
}

/** `2.1 GB` */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1)
  const value = bytes / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]!}`
}
