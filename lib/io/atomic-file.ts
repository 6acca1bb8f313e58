import { randomBytes } from 'node:crypto'
import { open, realpath, rename, rm, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AlambicError } from '../errors.js'

/**
 * Writes a file that is there as a whole or not at all: beside its place, on to the disk, then into its place. What was
 * there before stays until then, and for good when `write` fails.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND` when the folder cannot be written to; whatever `write` throws
 */
export async function writeAtomically(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const folder = dirname(target)
  const temporary = join(folder, `.${basename(target)}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`)
  const file = await failingWith(path, open(temporary, 'wx'))
  try {
    try {
      await failingWith(path, write(file))
      await failingWith(path, file.sync())
    } finally {
      await file.close()
    }
    await failingWith(path, rename(temporary, target))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncFolder(folder)
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
