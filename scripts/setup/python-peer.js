/** Makes the Python of the managed copy able to `import torch`, for tests and benchmarks that compare with it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { SetupError } from './errors.js'
import { run, succeeds } from './run.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */

/** What `import torch` and `torch.jit` need of what torch depends on; set-up itself needs none of it. */
const PACKAGES = ['typing_extensions', 'sympy', 'mpmath']

/**
 * Where that cannot be, tests against Python are skipped: a note says so, and nothing fails.
 *
 * @param {Libtorch} libtorch
 * @param {Progress} progress
 */
export async function preparePythonPeer({ root }, progress) {
  const python = join(root, '..', '..', '..', '..', 'bin', 'python3')
  if (!existsSync(python) || succeeds(python, ['-c', PACKAGES.map(name => `import ${name}`).join('\n')]))
    return
  const options = ['--quiet', '--no-input', '--disable-pip-version-check', '--no-deps', '--retries', '0']
  try {
    await progress.step(`Python packages for comparisons: ${PACKAGES.join(', ')}`, () =>
      run(python, ['-m', 'pip', 'install', ...options, ...PACKAGES]),
    )
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    progress.note(`Python cannot import torch there: comparisons with it will be skipped. ${error.message}`)
  }
}
