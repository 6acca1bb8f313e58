/** Makes the Python of the managed copy able to `import torch`, for tests and benchmarks that compare with it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../lib/native/libtorch.js'
import { SetupError } from './errors.js'
import { run, succeeds } from './run.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */

/** What `import torch` needs, and what `torch.compile` does besides; set-up itself needs none of it. */
const PACKAGES = {
  'import torch': ['typing_extensions', 'sympy'],
  'torch.compile': ['networkx', 'jinja2', 'filelock', 'fsspec', 'numpy', 'setuptools'],
}

/** Ends with 0 when the modules that its arguments name can be found. */
const FIND = `import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))`

/**
 * Nothing is installed into a Python that is not Alambic's own. What cannot be installed is left out of comparisons: a
 * note says so, and nothing fails.
 *
 * @param {Libtorch} libtorch
 * @param {Progress} progress
 */
export async function preparePythonPeer({ root }, progress) {
  const environment = join(root, '..', '..', '..', '..')
  const python = join(environment, 'bin', 'python3')
  if (join(environment, '..') !== cacheFolder() || !existsSync(python)) return
  for (const [purpose, packages] of Object.entries(PACKAGES))
    await install(python, purpose, packages, progress)
}

/**
 * @param {string} python
 * @param {string} purpose
 * @param {readonly string[]} packages
 * @param {Progress} progress
 */
async function install(python, purpose, packages, progress) {
  if (succeeds(python, ['-c', FIND, ...packages])) return
  const options = ['--quiet', '--no-input', '--disable-pip-version-check', '--retries', '0']
  try {
    await progress.step(`Python packages for comparisons: ${packages.join(', ')}`, () =>
      run(python, ['-m', 'pip', 'install', ...options, ...packages]),
    )
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    progress.note(`${purpose} does not work there: comparisons with it will be left out. ${error.message}`)
  }
}
