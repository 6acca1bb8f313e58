import { closeSync, mkdirSync, openSync, realpathSync } from 'node:fs'
import { open, realpath, rename, rm, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AlambicError } from '../errors.js'
import { temporaryFor } from '../native/temporaries.js'

/**
 * Writes a file that is there as a whole or not at all: beside its place, on to the disk, then into its place. What was
 * there before stays until then, and for good when `write` fails. What a process left that died while it wrote there is
 * cleared.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND` when the folder cannot be written to; whatever `write` throws
 */
export async function writeAtomically(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const temporary = temporaryFor(target)
  try {
    const file = await failingWith(path, open(temporary.path, 'wx'))
    try {
      await failingWith(path, write(file))
      await failingWith(path, file.sync())
      // Open until it has its name: others tell by that whether somebody is at it.
      await failingWith(path, rename(temporary.path, target))
    } finally {
      await file.close()
    }
  } catch (error) {
    await rm(temporary.path, { force: true })
    throw error
  } finally {
    temporary.done()
  }
  await syncFolder(dirname(target))
}

/**
 * The same for what only writes to a path: `make` gets one that ends with the file's name, in a folder of its own beside
 * it. It is called before this function returns: what it writes is of the moment of the call.
 *
 * @throws AlambicError as {@link writeAtomically}; whatever `make` throws
 */
export async function makeAtomically(path: string, make: (path: string) => void): Promise<void> {
  const target = realPathOf(path)
  const temporary = temporaryFor(target)
  try {
    const folder = makeFolder(path, temporary.path)
    try {
      const file = join(temporary.path, basename(target))
      make(file)
      await failingWith(path, syncFile(file))
      await failingWith(path, rename(file, target))
    } finally {
      closeSync(folder)
    }
  } finally {
    await rm(temporary.path, { recursive: true, force: true })
    temporary.done()
  }
  await syncFolder(dirname(target))
}

function realPathOf(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/** Open until the file has its name, as above. Returns the descriptor. */
function makeFolder(path: string, folder: string): number {
  try {
    mkdirSync(folder)
    return openSync(folder, 'r')
  } catch (error) {
    throw notWritable(path, error)
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes the new name last, where folders can be synced. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined)
  try {
    await handle?.sync()
  } catch {
    // Some file systems refuse; the file itself is safe.
  } finally {
    await handle?.close()
  }
}

async function failingWith<T>(path: string, action: Promise<T>): Promise<T> {
  try {
    return await action
  } catch (error) {
    if (error instanceof AlambicError) throw error
    throw notWritable(path, error)
  }
}

function notWritable(path: string, error: unknown): AlambicError {
  return new AlambicError(
    'ERR_FILE_NOT_FOUND',
    `${path}: expected a place that can be written to, got ${(error as Error).message}; check the folder`,
    { cause: error },
  )
}
