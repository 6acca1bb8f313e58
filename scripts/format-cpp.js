/** Runs clang-format over native/: `--write` formats, `--check` fails where something is not formatted. */
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findOnPath } from '../lib/native/libtorch.js'
import { filesIn } from './setup/fingerprint.js'

// Another major version formats differently.
const VERSION = 19

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const modes = { '--write': ['-i'], '--check': ['--dry-run', '--Werror'] }
const mode = modes[/** @type {keyof typeof modes} */ (process.argv[2] ?? '')]
const program = findFormatter()
if (mode === undefined) {
  console.error('Usage: node scripts/format-cpp.js --write|--check')
  process.exitCode = 2
} else if (program === null) {
  console.error(`clang-format ${VERSION} is missing: install the package clang-format-${VERSION}`)
  process.exitCode = 1
} else {
  const files = filesIn(root, 'native', /\.(c|cc|cu|h)$/)
  process.exitCode = spawnSync(program, [...mode, ...files], { cwd: root, stdio: 'inherit' }).status ?? 1
}

/** @returns {string | null} */
function findFormatter() {
  const programs = [`clang-format-${VERSION}`, 'clang-format']
    .map(name => findOnPath(name))
    .filter(path => path !== null)
  return programs.find(path => versionOf(path) === VERSION) ?? null
}

/** @param {string} path */
function versionOf(path) {
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' })
  return Number(/version (\d+)/.exec(stdout ?? '')?.[1])
}
