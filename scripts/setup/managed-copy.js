/** The libtorch that Alambic keeps for itself in the user's cache. */
import { rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { MANAGED_MARKER, REFERENCE_VERSION, cacheFolder, inspectLibtorch } from '../../lib/native/libtorch.js'
import { readJson, writeJson } from '../../lib/native/state.js'
import { SetupError } from './errors.js'
import { withLock } from './lock.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {'cpu' | 'cuda'} Flavor */

/**
 * The complete copy of the reference version, or null.
 *
 * @param {Flavor} flavor
 * @returns {Libtorch | null}
 */
export function managedCopy(flavor) {
  const folder = folderOf(flavor)
  const root = readJson(join(folder, MANAGED_MARKER))?.root
  const libtorch = typeof root === 'string' ? inspectLibtorch(join(folder, root), 'managed') : ''
  return typeof libtorch === 'string' ? null : libtorch
}

/**
 * Fills the folder of a managed copy and marks it as complete; what a failure leaves is removed.
 *
 * @param {Flavor} flavor
 * @param {(folder: string) => Promise<string>} fill returns the folder of libtorch inside
 * @returns {Promise<Libtorch>}
 */
export async function makeManagedCopy(flavor, fill) {
  const folder = folderOf(flavor)
  const work = async () => managedCopy(flavor) ?? (await fillFolder(folder, fill))
  return withLock(`${folder}.lock`, () => undefined, work)
}

/**
 * @param {string} folder
 * @param {(folder: string) => Promise<string>} fill
 * @returns {Promise<Libtorch>}
 */
async function fillFolder(folder, fill) {
  rmSync(folder, { recursive: true, force: true })
  try {
    const root = await fill(folder)
    const libtorch = inspectLibtorch(root, 'managed')
    if (typeof libtorch === 'string') throw new SetupError(`${root}: ${libtorch}`)
    writeJson(join(folder, MANAGED_MARKER), { root: relative(folder, root) })
    return libtorch
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}

/** @param {Flavor} flavor */
function folderOf(flavor) {
  return join(cacheFolder(), `libtorch-${REFERENCE_VERSION}-${flavor}`)
}
