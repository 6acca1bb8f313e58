/**
 * Installs a libtorch where the search found none: the managed copy by pip, failing that the system's package, failing
 * that the managed copy from the official archive.
 */
import { REFERENCE_VERSION, describeSearch, findLibtorch, minorVersion } from '../../lib/native/libtorch.js'
import { installArchive } from './archive.js'
import { SetupError } from './errors.js'
import { installByPip } from './pip.js'
import { run } from './run.js'
import { aptInstall, isRoot, packageManager } from './tools.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */
/** @typedef {{ yes: boolean, progress: Progress }} InstallOptions */

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
export async function installLibtorch(options) {
  const ways = [installByPip, installSystemPackage, installArchive]
  /** @type {string[]} */
  const failures = []
  for (const way of ways) {
    try {
      return await way(options)
    } catch (error) {
      if (!(error instanceof SetupError)) throw error
      failures.push(error.message)
    }
  }
  throw new SetupError(
    `libtorch could not be installed.\n\n${failures.map(text => `- ${text}`).join('\n\n')}\n\n` +
      `What helps: set LIBTORCH to the folder of a libtorch ${minorVersion(REFERENCE_VERSION)} (it holds lib/ and ` +
      'include/), or install the package torch into the Python on PATH.',
  )
}

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
async function installSystemPackage({ yes, progress }) {
  const manager = packageManager()
  if (manager === 'apt') {
    const prefix = isRoot() ? [] : ['sudo', '-n']
    if (!isRoot() && !yes) {
      throw new SetupError(
        'system package: `sudo apt-get install libtorch-dev` (or run this with --yes) installs it',
      )
    }
    await progress.step('libtorch: apt-get install libtorch-dev', () => aptInstall(['libtorch-dev'], prefix))
  } else if (manager === 'brew') {
    await progress.step('libtorch: brew install pytorch', () =>
      run('brew', ['install', '--quiet', 'pytorch']),
    )
  } else {
    throw new SetupError('system package: none is known for this system')
  }
  const { libtorch, lookedAt } = findLibtorch({ accept: ({ headers }) => (headers ? null : 'no headers') })
  if (libtorch === null) {
    throw new SetupError(`system package: it is installed but was not found:\n${describeSearch(lookedAt)}`)
  }
  return libtorch
}
