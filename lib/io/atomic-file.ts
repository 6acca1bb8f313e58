import { mkdir, open, realpath, rename, rm, type FileHandle } from 'node:fs/promises'
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
 * it.
 *
 * @throws AlambicError as {@link writeAtomically}; whatever `make` throws
 */
export async function makeAtomically(path: string, make: (path: string) => void): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const temporary = temporaryFor(target)
  try {
    await failingWith(path, mkdir(temporary.path))
    const folder = await failingWith(path, open(temporary.path, 'r'))
    try {
      const file = join(temporary.path, basename(target))
      make(file)
      await failingWith(path, syncFile(file))
      await failingWith(path, rename(file, target))
    } finally {
      await folder.close()
    }
  } finally {
    await rm(temporary.path, { recursive: true, force: true })
    temporary.done()
  }
  await syncFolder(dirname(target))
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
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${path}: expected a place that can be written to, got ${(error as Error).message}; check the folder`,
      { cause: error },
    )
  }
}
