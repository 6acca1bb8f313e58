/** Runs clang-tidy (settings in .clang-tidy) over native/, or over the files that are named. Takes minutes for all. */
import { spawnSync } from 'node:child_process'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findLibtorch, findOnPath } from '../lib/native/libtorch.js'
import { SetupError } from './setup/errors.js'
import { filesIn } from './setup/fingerprint.js'
import { configure } from './setup/native.js'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/**
 * What takes CUDA's headers, which are not everywhere.
 *
 * @param {string} name
 */
function isForCuda(name) {
  return name.startsWith(join('native', 'cuda') + sep) && !name.endsWith('find_library.cc')
}

/** @returns {Promise<number>} the exit status */
async function lint() {
  const program = ['clang-tidy-19', 'clang-tidy'].map(name => findOnPath(name)).find(path => path !== null)
  if (!program) throw new SetupError('clang-tidy is missing: install the package clang-tidy-19')
  const { libtorch } = findLibtorch({ accept: ({ headers }) => (headers ? null : 'no headers') })
  if (libtorch === null) throw new SetupError('there is no libtorch with headers: run npm run setup')

  // clang cannot read the precompiled headers of another compiler.
  const folder = join(root, 'build', 'cmake', 'lint')
  await configure(root, libtorch, folder, { CMAKE_DISABLE_PRECOMPILE_HEADERS: 'ON' })
  const named = process.argv.slice(2)
  const files = named.length > 0 ? named : filesIn(root, 'native', /\.cc$/).filter(name => !isForCuda(name))
  // Without OpenMP: its header is the other compiler's too, and the loops read the same.
  const include = join(root, 'native', 'precompiled.h')
  const args = [
    '-p',
    folder,
    '--quiet',
    '--extra-arg=-fno-openmp',
    `--extra-arg=-include${include}`,
    ...files,
  ]
  return spawnSync(program, args, { cwd: root, stdio: 'inherit' }).status ?? 1
}

try {
  process.exitCode = await lint()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
