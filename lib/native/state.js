/**
 * What set-up remembers for the loader, so that starting costs no search and no trial: the libtorch it chose, and the
 * pairs of binary and libtorch that were seen to work. Plain JavaScript for the reason given in `libtorch.js`.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { cacheFolder, inspectLibtorch, libraryPath } from './libtorch.js'
import { temporaryFor } from './temporaries.js'

/** @typedef {import('./libtorch.js').Libtorch} Libtorch */

/**
 * The three files that make a working addon.
 *
 * @typedef {object} AddonFiles
 * @property {string} loader path of `alambic.node`
 * @property {string} core path of `alambic-torch-<major>.<minor>.so`
 * @property {Libtorch} libtorch
 */

const REMEMBERED_PAIRS = 16

/**
 * Beside the binaries in a source tree; in the user's cache for an installed package, whose folder may be read-only.
 *
 * @param {string} packageRoot
 * @param {string} name
 * @returns {string}
 */
function stateFile(packageRoot, name) {
  const build = join(packageRoot, 'build')
  if (existsSync(build)) return join(build, name)
  return join(
    cacheFolder(),
    'state',
    createHash('sha256').update(packageRoot).digest('hex').slice(0, 16),
    name,
  )
}

/**
 * The remembered libtorch when it is still there in the same version, else null. One that a search at run time found
 * counts only while PATH is what it was then.
 *
 * @param {string} packageRoot
 * @returns {Libtorch | null}
 */
export function readChoice(packageRoot) {
  const choice = readJson(stateFile(packageRoot, 'libtorch.json'))
  if (!choice?.libtorch || (choice.path !== null && choice.path !== process.env['PATH'])) return null
  const now = inspectLibtorch(choice.libtorch.root, choice.libtorch.source)
  return typeof now !== 'string' && now.version === choice.libtorch.version ? now : null
}

/**
 * @param {string} packageRoot
 * @param {Libtorch} libtorch
 * @param {{ onlyForThisPath: boolean }} options
 */
export function writeChoice(packageRoot, libtorch, { onlyForThisPath }) {
  const path = onlyForThisPath ? (process.env['PATH'] ?? '') : null
  writeJson(stateFile(packageRoot, 'libtorch.json'), { libtorch, path })
}

/**
 * Whether these very files were loaded before without harm.
 *
 * @param {string} packageRoot
 * @param {AddonFiles} files
 * @returns {boolean}
 */
export function isValidated(packageRoot, files) {
  return validatedPairs(packageRoot).includes(identityOf(files))
}

/**
 * @param {string} packageRoot
 * @param {AddonFiles} files
 */
export function recordValidation(packageRoot, files) {
  const pairs = [identityOf(files), ...validatedPairs(packageRoot)]
  writeJson(stateFile(packageRoot, 'validated.json'), [...new Set(pairs)].slice(0, REMEMBERED_PAIRS))
}

/**
 * @param {string} packageRoot
 * @returns {string[]}
 */
function validatedPairs(packageRoot) {
  const pairs = readJson(stateFile(packageRoot, 'validated.json'))
  return Array.isArray(pairs) ? pairs : []
}

/**
 * @param {AddonFiles} files
 * @returns {string}
 */
function identityOf({ loader, core, libtorch }) {
  return [loader, core, libraryPath(libtorch.libDir, 'torch_cpu') ?? libtorch.libDir]
    .map(fileIdentity)
    .join(' ')
}

/**
 * Path, size and time of a file: what changes when it is built or installed anew.
 *
 * @param {string} path
 * @returns {string}
 */
export function fileIdentity(path) {
  const { size, mtimeMs } = statSync(path)
  return `${path}:${size}:${mtimeMs}`
}

/**
 * @param {string} path
 * @returns {any} null when the file is missing or was cut short
 */
export function readJson(path) {
  if (!existsSync(path)) return null
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

/**
 * Readers see the old content or the new one, never a part of it.
 *
 * @param {string} path
 * @param {unknown} value
 */
export function writeJson(path, value) {
  mkdirSync(dirname(path), { recursive: true })
  const { path: temporary, done } = temporaryFor(path)
  try {
    writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`)
    renameSync(temporary, path)
  } finally {
    rmSync(temporary, { force: true })
    done()
  }
}
