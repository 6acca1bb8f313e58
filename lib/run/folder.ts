/** A run's folder: what is in it, who may write there, and writing in order without holding up the training. */
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { AlambicError, show } from '../errors.js'
import { writeAtomically } from '../io/atomic-file.js'
import { loadCheckpoint } from '../io/load.js'
import { isRunning, thisProcess } from '../native/temporaries.js'

/** A checkpoint by the number of steps that the run had done. */
export interface CheckpointFile {
  readonly path: string
  readonly step: number
}

const checkpointName = /^step-(\d+)\.pt$/
const bestName = /^best-(\d+)\.safetensors$/

/** The files of a run. */
export class RunFolder {
  constructor(readonly path: string) {}

  get checkpoints(): string {
    return join(this.path, 'checkpoints')
  }

  get metrics(): string {
    return join(this.path, 'metrics.jsonl')
  }

  get student(): string {
    return join(this.path, 'student.safetensors')
  }

  /** The resolved recipe. */
  get recipe(): string {
    return join(this.path, 'recipe.yaml')
  }

  get environment(): string {
    return join(this.path, 'environment.json')
  }

  get result(): string {
    return join(this.path, 'result.json')
  }

  private get lockFile(): string {
    return join(this.path, 'run.lock')
  }

  checkpoint(step: number): string {
    return join(this.checkpoints, `step-${String(step).padStart(9, '0')}.pt`)
  }

  /** The student's weights of the best epoch so far. */
  best(epoch: number): string {
    return join(this.checkpoints, `best-${String(epoch).padStart(6, '0')}.safetensors`)
  }

  /** Makes the folder where it is not there. */
  async make(): Promise<void> {
    try {
      await mkdir(this.checkpoints, { recursive: true })
    } catch (error) {
      throw new AlambicError(
        'ERR_FILE_NOT_FOUND',
        `folder: expected a folder that can be made and written to, got ${show(this.path)}: ${(error as Error).message}`,
        { cause: error },
      )
    }
  }

  /**
   * Keeps other processes from writing here. Returns what gives it back.
   *
   * @throws AlambicError `ERR_BUSY` where another one does
   */
  async lock(): Promise<() => Promise<void>> {
    for (let attempt = 0; ; attempt++) {
      try {
        await writeFile(this.lockFile, JSON.stringify(thisProcess()), { flag: 'wx' })
        return () => rm(this.lockFile, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw notWritable(this.path, error)
      }
      const owner = await this.lockOwner()
      if (attempt > 10 || (owner !== null && isRunning(owner)))
        throw new AlambicError(
          'ERR_BUSY',
          `${this.path}: another process${owner === null ? '' : ` (${owner.pid})`} is at work in this folder; ` +
            `if there is none, remove ${this.lockFile}`,
        )
      await rm(this.lockFile, { force: true }) // of a process that was killed
    }
  }

  /** null where the file says nothing: its process was killed while it wrote it. */
  private async lockOwner(): Promise<ReturnType<typeof thisProcess> | null> {
    try {
      return JSON.parse(await readFile(this.lockFile, 'utf8')) as ReturnType<typeof thisProcess>
    } catch {
      return null
    }
  }

  /** The newest first. */
  async listCheckpoints(): Promise<CheckpointFile[]> {
    const names = await readdir(this.checkpoints).catch((error: unknown) => {
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
      throw error
    })
    return names
      .flatMap(name => {
        const step = checkpointName.exec(name)?.[1]
        return step === undefined ? [] : [{ path: join(this.checkpoints, name), step: Number(step) }]
      })
      .sort((a, b) => b.step - a.step)
  }

  /**
   * The newest checkpoint that can be read.
   *
   * @param onDamaged told of each that cannot
   * @throws AlambicError `ERR_FILE_NOT_FOUND` where there is none
   */
  async newestCheckpoint<T>(onDamaged: (message: string) => void): Promise<{ state: T; path: string }> {
    const files = await this.listCheckpoints()
    for (const { path } of files)
      try {
        // Not mapped: the file may be thinned out.
        return { state: await loadCheckpoint<T>(path, { mmap: false }), path }
      } catch (error) {
        if (!(error instanceof AlambicError)) throw error
        onDamaged(error.message)
      }
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${this.path}: expected the folder of a run with a checkpoint, ` +
        (files.length === 0 ? 'found none' : `none of its ${files.length} can be read`),
    )
  }

  /** Removes all checkpoints but the newest, and the weights of best epochs but those that are named. */
  async thin(keep: number, bestEpochs: ReadonlySet<number>): Promise<void> {
    for (const { path } of (await this.listCheckpoints()).slice(keep)) await rm(path, { force: true })
    for (const name of await readdir(this.checkpoints)) {
      const epoch = bestName.exec(name)?.[1]
      if (epoch !== undefined && !bestEpochs.has(Number(epoch)))
        await rm(join(this.checkpoints, name), { force: true })
    }
  }

  async writeText(path: string, text: string): Promise<void> {
    await writeAtomically(path, file => file.writeFile(text))
  }
}

function notWritable(path: string, error: unknown): AlambicError {
  return new AlambicError(
    'ERR_FILE_NOT_FOUND',
    `${path}: expected a folder that can be written to: ${(error as Error).message}`,
    { cause: error },
  )
}

/** `metrics.jsonl`: one object in JSON a line. */
export class MetricsFile {
  private waiting = ''
  private length = 0

  constructor(private readonly path: string) {}

  /** Bytes with all lines so far. */
  get position(): number {
    return this.length + Buffer.byteLength(this.waiting)
  }

  /** Begins at `position`: what an interrupted run wrote behind it is done again. */
  async begin(position: number): Promise<void> {
    const handle = await open(this.path, 'a')
    await handle.close()
    const { size } = await stat(this.path)
    if (size > position) await truncate(this.path, position)
    this.length = Math.min(size, position)
  }

  add(line: Record<string, unknown>): void {
    this.waiting += `${JSON.stringify(line)}\n`
  }

  /** Writes what waits; what cannot be written waits on. */
  async flush(): Promise<void> {
    const text = this.waiting
    if (text === '') return
    await appendWhole(this.path, text, this.length)
    this.waiting = this.waiting.slice(text.length)
    this.length += Buffer.byteLength(text)
  }
}

/** A full disk may take a part of the text: it is taken back. */
async function appendWhole(path: string, text: string, length: number): Promise<void> {
  try {
    await appendFile(path, text)
  } catch (error) {
    await truncate(path, length).catch(() => undefined)
    throw error
  }
}

/** The lines of a run's metrics; a last one that was cut off is left out. */
export async function* readMetrics(path: string): AsyncGenerator<Record<string, unknown>> {
  for await (const line of createInterface({ input: createReadStream(path) })) {
    if (line === '') continue
    try {
      yield JSON.parse(line) as Record<string, unknown>
    } catch {
      return
    }
  }
}

/** Files of a run, written one after the other in the background. */
export class WriteQueue {
  private last: Promise<void> = Promise.resolve()
  private pending = 0

  /** @param onError told of each write that failed */
  constructor(private readonly onError: (what: string, error: unknown) => void) {}

  get isBusy(): boolean {
    return this.pending > 0
  }

  /** Returns whether it was written, when that is known. */
  add(what: string, write: () => Promise<void>): Promise<boolean> {
    this.pending++
    const done = this.last.then(async () => {
      try {
        await write()
        return true
      } catch (error) {
        this.onError(what, error)
        return false
      } finally {
        this.pending--
      }
    })
    this.last = done.then(() => undefined)
    return done
  }

  /** When all is written. */
  async finished(): Promise<void> {
    await this.last
  }
}
