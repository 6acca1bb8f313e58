import { access, constants, open, readdir, type FileHandle } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AlambicError, argumentError } from '../errors.js'
import { requireKind, type Kind } from '../checks/options.js'
import { isURL } from '../checks/realms.js'

/** Larger files are refused unless the caller allows more: 2 GiB, three times the largest idx file in common use. */
export const DEFAULT_MAX_BYTES = 2 ** 31

/** The file does not hold what it should: says where, what was expected, what was found and what to do. */
export function formatError(
  file: string,
  problem: { offset: number; expected: string; found: string; remedy: string },
  options?: ErrorOptions,
): AlambicError {
  const { offset, expected, found, remedy } = problem
  return new AlambicError(
    'ERR_FILE_FORMAT',
    `${file}: at byte ${offset}: expected ${expected}, found ${found}; ${remedy}`,
    options,
  )
}

/** Node.js opens paths by numbers as well, which are no paths to who gave one by mistake. */
const filePath: Kind = {
  expected: 'a path or a file: URL',
  fits: value => (typeof value === 'string' ? isPath(value) : isURL(value)),
}

/**
 * @param otherwise what may be given as well, for the message
 * @throws AlambicError `ERR_ARGUMENT`
 */
export function requirePath(name: string, path: unknown, otherwise = ''): void {
  requireKind(name, { ...filePath, expected: filePath.expected + otherwise }, path)
}

const folderPath: Kind = {
  expected: 'the path of a folder',
  fits: value => typeof value === 'string' && isPath(value),
}

/** @throws AlambicError `ERR_ARGUMENT` */
export function requireFolder(name: string, path: unknown): void {
  requireKind(name, folderPath, path)
}

function isPath(text: string): boolean {
  return !text.includes('\0')
}

/**
 * A whole file of at most `maxBytes`: no more than that is read, also of a file that does not say how long it is, such as
 * a device.
 */
export async function readBytes(path: string | URL, maxBytes: number): Promise<Buffer> {
  const name = displayName(path)
  try {
    const file = await open(name, 'r')
    try {
      const { size } = await file.stat()
      if (size > maxBytes) throw tooLong(name, maxBytes, `${size} bytes`)
      return await readUpTo(file, size, Math.floor(maxBytes), name)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof AlambicError) throw error
    throw notReadable(name, error as Error)
  }
}

function notReadable(name: string, error: Error): AlambicError {
  return new AlambicError(
    'ERR_FILE_NOT_FOUND',
    `${name}: expected a file that can be read, got ${error.message}; check the path`,
    { cause: error },
  )
}

/** What Node.js reads in one call, and what is read of a file at a time that is longer than it says. */
const MOST_AT_ONCE = 2 ** 30
const MORE_BYTES = 2 ** 20

async function readUpTo(file: FileHandle, size: number, maxBytes: number, name: string): Promise<Buffer> {
  let bytes = Buffer.allocUnsafeSlow(size + 1) // one more, in which the end shows
  let done = 0
  for (;;) {
    const { bytesRead } = await file.read(bytes, done, Math.min(bytes.length - done, MOST_AT_ONCE), null)
    if (bytesRead === 0) return bytes.subarray(0, done)
    done += bytesRead
    if (done > maxBytes) throw tooLong(name, maxBytes, 'more')
    if (done === bytes.length)
      bytes = Buffer.concat([bytes, Buffer.allocUnsafeSlow(Math.max(MORE_BYTES, done))])
  }
}

function tooLong(name: string, maxBytes: number, found: string): AlambicError {
  return formatError(name, {
    offset: maxBytes,
    expected: `a file of at most ${maxBytes} bytes`,
    found,
    remedy: 'pass a larger maxBytes if the file is meant to be this large',
  })
}

/** A path as it is, and that of a `file:` URL. @throws AlambicError `ERR_ARGUMENT` for anything else */
export function displayName(path: string | URL): string {
  if (typeof path === 'string') return path
  if (!isURL(path)) throw argumentError('file', 'a path, a file: URL or the bytes of a file', path)
  try {
    return fileURLToPath(path)
  } catch (error) {
    throw new AlambicError(
      'ERR_ARGUMENT',
      `file: expected the URL of a local file, got ${String(path)} (${(error as Error).message})`,
      { cause: error },
    )
  }
}

/** @throws AlambicError `ERR_FILE_NOT_FOUND` for the first that is not there */
export async function requireFiles(paths: readonly string[]): Promise<void> {
  for (const path of paths)
    try {
      await access(path, constants.R_OK)
    } catch (error) {
      throw notReadable(path, error as Error)
    }
}

/**
 * The paths of files that the caller names.
 *
 * @throws AlambicError `ERR_ARGUMENT` for names that are none
 */
export function namedFiles(dir: string, names: readonly string[]): string[] {
  const isNames =
    Array.isArray(names) && names.length > 0 && names.every(name => typeof name === 'string' && name !== '')
  if (!isNames) throw argumentError('files', 'names of files', names)
  return (names as readonly string[]).map(name => resolve(dir, name))
}

/**
 * For each list of alternative names the path of the first that exists, in the first of the folders that has any.
 *
 * @throws AlambicError `ERR_FILE_NOT_FOUND` that lists every file missing, where was looked and what is there
 */
export async function findFiles(
  what: string,
  folders: readonly string[],
  wanted: readonly (readonly string[])[],
): Promise<string[]> {
  const listings = await Promise.all(folders.map(list))
  const best = listings.reduce((most, each) => (matches(each) > matches(most) ? each : most))
  const found = wanted.map(names => names.find(name => best.files.includes(name)))
  if (found.every(name => name !== undefined)) return found.map(name => join(best.folder, name))

  const missing = wanted.filter((_, index) => found[index] === undefined).map(names => names[0])
  throw new AlambicError(
    'ERR_FILE_NOT_FOUND',
    `${what}: expected ${missing.join(', ')} in ${best.folder}, found ${describe(best)}; ` +
      'pass the folder that the data set was unpacked into',
  )

  function matches({ files }: Listing): number {
    return wanted.filter(names => names.some(name => files.includes(name))).length
  }
}

interface Listing {
  folder: string
  exists: boolean
  files: string[]
}

async function list(folder: string): Promise<Listing> {
  try {
    return { folder, exists: true, files: (await readdir(folder)).sort() }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return { folder, exists: false, files: [] }
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${folder}: expected a folder that can be read, got ${(error as Error).message}; check its permissions`,
      { cause: error },
    )
  }
}

function describe({ exists, files }: Listing): string {
  if (!exists) return 'no such folder'
  if (files.length === 0) return 'an empty folder'
  const shown = files.slice(0, 8).map(file => basename(file))
  return files.length > shown.length ? `${shown.join(', ')} … ${files.length} in all` : shown.join(', ')
}
