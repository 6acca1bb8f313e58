/**
 * Prints the folder of the managed copy of the reference libtorch and installs it first where it is missing, for those
 * who want that version although the search would take another one: `LIBTORCH=$(node scripts/reference-libtorch.js)`.
 */
import { SetupError } from './setup/errors.js'
import { installByPip } from './setup/pip.js'
import { Progress } from './setup/progress.js'

try {
  const progress = new Progress({ verbose: true, stream: process.stderr })
  const { root } = await installByPip({ yes: process.env['CI'] === 'true', progress })
  console.log(root)
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
