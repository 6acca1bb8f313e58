/** The files of a cache: shards of rows, each complete and checked by its digest, and an index that is written last. */
import { mkdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { AlambicError } from '../errors.js'
import { writeAtomically } from '../io/atomic-file.js'
import { loadStateDict } from '../io/load.js'
import { readSafetensors } from '../io/safetensors.js'
import { copyStateDict } from '../io/save.js'
import { withSource } from '../io/source.js'
import { scope } from '../memory/memory.js'
import { torch } from '../calls/index.js'
import { fromTypedArray } from '../tensors/tensor.js'
import type { Tensor } from '../tensors/tensor.js'
import { digestOfTensors } from './fingerprint.js'
import { columns, type Part, type Rows } from './layout.js'

/** What a shard is to have, unless one row is more. */
const shardBytes = 1 << 26

const indexName = 'index.json'

/** Which samples of which view a shard has. */
export interface Shard {
  readonly number: number
  readonly view: number
  /** The first of its samples. */
  readonly start: number
  readonly rows: number
}

/** How the samples of a data set are dealt out to shards. */
export class Division {
  readonly rowsPerShard: number
  private readonly shardsPerView: number

  constructor(
    readonly samples: number,
    readonly views: number,
    bytesPerRow: number,
  ) {
    this.rowsPerShard = Math.min(samples, Math.max(1, Math.floor(shardBytes / bytesPerRow)))
    this.shardsPerView = Math.ceil(samples / this.rowsPerShard)
  }

  shards(): Shard[] {
    return Array.from({ length: this.views * this.shardsPerView }, (_, number) => {
      const start = (number % this.shardsPerView) * this.rowsPerShard
      const rows = Math.min(this.rowsPerShard, this.samples - start)
      return { number, view: Math.floor(number / this.shardsPerView), start, rows }
    })
  }

  /** Where a sample's row is. */
  placeOf(sample: number, view: number): { shard: number; row: number } {
    const shard = view * this.shardsPerView + Math.floor(sample / this.rowsPerShard)
    return { shard, row: sample % this.rowsPerShard }
  }
}

/** A folder with the shards of one teacher's outputs on one data set. */
export class CacheFolder {
  /** @param key says what was computed: a shard of anything else is none */
  constructor(
    readonly path: string,
    private readonly key: string,
    private readonly parts: readonly Part[],
  ) {}

  private fileOf({ number }: Shard): string {
    return join(this.path, `${nameOf(number)}.safetensors`)
  }

  /** @throws AlambicError `ERR_FILE_NOT_FOUND` */
  async make(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true })
    } catch (error) {
      throw new AlambicError(
        'ERR_FILE_NOT_FOUND',
        `${this.path}: expected a folder that can be made: ${(error as Error).message}`,
        { cause: error },
      )
    }
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.path)
    return bavail * bsize
  }

  /**
   * The rows of a shard, mapped into memory: pages are read when they are first used, and processes share them. null where
   * the file is missing, damaged, or of something else.
   */
  async read(shard: Shard): Promise<Rows | null> {
    const path = this.fileOf(shard)
    let rows: Rows | undefined
    try {
      const { metadata } = await withSource(path, readSafetensors)
      if (metadata['key'] !== this.key) return null
      rows = await loadStateDict(path)
      if (this.hasForm(rows, shard.rows) && (await digestOfTensors(rows)) === metadata['digest']) {
        const good = rows
        rows = undefined
        return good
      }
      return null
    } catch (error) {
      if (error instanceof AlambicError) return null
      throw error
    } finally {
      releaseRows(rows)
    }
  }

  private hasForm(rows: Rows, count: number): boolean {
    const expected = columns(this.parts)
    return (
      Object.keys(rows).length === expected.length &&
      expected.every(({ name, shape, dtype }) => {
        const tensor = rows[name]
        return tensor?.dtype === dtype && String(tensor.shape) === String([count, ...shape])
      })
    )
  }

  /** As a whole or not at all. Two processes that write the same do no harm: the content is the same. */
  async write(shard: Shard, rows: Rows): Promise<void> {
    const metadata = { format: 'pt', key: this.key, digest: await digestOfTensors(rows) }
    await scope(() => ({ write: copyStateDict(rows, metadata) })).write(this.fileOf(shard))
  }

  /** Says what is here, for people and tools; reading relies on the shards only. */
  async writeIndex(about: Record<string, unknown>, shards: readonly Shard[]): Promise<void> {
    const files = shards.map(shard => ({ file: `${nameOf(shard.number)}.safetensors`, ...shard }))
    const index = { format: 'alambic teacher cache', version: 1, key: this.key, ...about, shards: files }
    await writeAtomically(join(this.path, indexName), file =>
      file.writeFile(`${JSON.stringify(index, null, 1)}\n`),
    )
  }
}

function nameOf(shard: number): string {
  return `shard-${String(shard).padStart(5, '0')}`
}

export function releaseRows(rows: Rows | undefined | null): void {
  for (const each of Object.values(rows ?? {})) each.dispose()
}

/**
 * The rows of some samples, gathered into one tensor for each column.
 *
 * @param shards all of them, by number
 */
export function gatherRows(
  division: Division,
  shards: readonly Rows[],
  names: readonly string[],
  samples: readonly number[] | Int32Array,
  view: number,
): Rows {
  const found = new Map<number, { rows: number[]; positions: number[] }>()
  for (let position = 0; position < samples.length; position++) {
    const { shard, row } = division.placeOf(samples[position]!, view)
    if (!found.has(shard)) found.set(shard, { rows: [], positions: [] })
    const { rows, positions } = found.get(shard)!
    rows.push(row)
    positions.push(position)
  }
  const chosen = Array.from(found, ([shard, { rows }]) => ({ shard, rows: indexTensor(rows) }))
  if (chosen.length === 1) {
    const [{ shard, rows }] = chosen as [(typeof chosen)[0]]
    return byName(names, name => shards[shard]![name]!.indexSelect(0, rows))
  }
  const order = new Int32Array(samples.length)
  Array.from(found.values(), ({ positions }) => positions)
    .flat()
    .forEach((position, i) => (order[position] = i))
  const back = fromTypedArray(order, [order.length])
  return byName(names, name =>
    torch
      .cat(chosen.map(({ shard, rows }) => shards[shard]![name]!.indexSelect(0, rows)))
      .indexSelect(0, back),
  )
}

function indexTensor(rows: readonly number[]): Tensor {
  return fromTypedArray(Int32Array.from(rows), [rows.length])
}

function byName(names: readonly string[], make: (name: string) => Tensor): Rows {
  return Object.fromEntries(names.map(name => [name, make(name)]))
}
