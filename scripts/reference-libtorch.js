/**
 * Prints the folder of the managed copy of the reference libtorch and installs it first where it is missing, for those
 * who want that version although the search would take another one: `LIBTORCH=$(node scripts/reference-libtorch.js)`.
 * Its Python is made able to `import torch`, so that tests and benchmarks can compare.
 */
import { SetupError } from './setup/errors.js'
import { installByPip } from './setup/pip.js'
import { Progress } from './setup/progress.js'
import { preparePythonPeer } from './setup/python-peer.js'

try {
  const progress = new Progress({ verbose: true, stream: process.stderr })
  const libtorch = await installByPip({ yes: process.env['CI'] === 'true', progress })
  await preparePythonPeer(libtorch, progress)
  console.log(libtorch.root)
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
