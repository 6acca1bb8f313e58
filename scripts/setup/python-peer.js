/** Makes the Python of the managed copy able to `import torch`, for tests and benchmarks that compare with it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../lib/native/libtorch.js'
import { SetupError } from './errors.js'
import { run, succeeds } from './run.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */

/** What torch imports, and what `torch.compile` does; set-up itself needs none of it. */
const PACKAGES = [
  'typing_extensions',
  'sympy',
  'networkx',
  'jinja2',
  'filelock',
  'fsspec',
  'numpy',
  'setuptools',
]

/** Ends with 0 when the modules that its arguments name can be found. */
const FIND = `import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))`

/**
 * Nothing is installed into a Python that is not Alambic's own. Where it cannot be, comparisons are left out: a note
 * says so, and nothing fails.
 *
 * @param {Libtorch} libtorch
 * @param {Progress} progress
 */
export async function preparePythonPeer({ root }, progress) {
  const environment = join(root, '..', '..', '..', '..')
  const python = join(environment, 'bin', 'python3')
  const isManaged = join(environment, '..') === cacheFolder() && existsSync(python)
  if (!isManaged || succeeds(python, ['-c', FIND, ...PACKAGES])) return
  const options = ['--quiet', '--no-input', '--disable-pip-version-check', '--retries', '0']
  try {
    await progress.step(`Python packages for comparisons: ${PACKAGES.join(', ')}`, () =>
      run(python, ['-m', 'pip', 'install', ...options, ...PACKAGES]),
    )
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    progress.note(`Python cannot import torch there: comparisons with it will be left out. ${error.message}`)
  }
}
