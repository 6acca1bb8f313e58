import { spawnSync } from 'node:child_process'
import { compareVersions, findOnPath } from '../../lib/native/libtorch.js'
import { SetupError } from './errors.js'
import { run, succeeds } from './run.js'

/** @typedef {import('./progress.js').Progress} Progress */
/** @typedef {'apt' | 'dnf' | 'brew'} PackageManager */

/**
 * @typedef {object} Tool
 * @property {string} name as a person calls it
 * @property {() => boolean} present
 * @property {Record<PackageManager, string>} packages what installs it
 */

const CMAKE_OLDEST = '3.18'

/** @type {Tool} */
const compiler = {
  name: 'a C++ compiler (g++ or clang++)',
  present: () =>
    [process.env['CXX'], 'c++', 'g++', 'clang++'].some(name => name && succeeds(name, ['--version'])),
  packages: { apt: 'g++', dnf: 'gcc-c++', brew: 'llvm' },
}

/** @type {Tool} */
const cmake = {
  name: `cmake ${CMAKE_OLDEST} or newer`,
  present: () => compareVersions(cmakeVersion(), CMAKE_OLDEST) >= 0,
  packages: { apt: 'cmake', dnf: 'cmake', brew: 'cmake' },
}

/** @type {Tool} */
const buildRunner = {
  name: 'make or ninja',
  present: () => ['make', 'ninja'].some(name => findOnPath(name) !== null),
  packages: { apt: 'make', dnf: 'make', brew: 'ninja' },
}

/** @type {Tool} */
const python = {
  name: 'python3 (it downloads libtorch)',
  present: () => findOnPath('python3') !== null || findOnPath('python') !== null,
  packages: { apt: 'python3-venv python3-pip', dnf: 'python3-pip', brew: 'python' },
}

/** What compiling the addon takes. */
export const BUILD_TOOLS = [compiler, cmake, buildRunner]

/** What installing the managed libtorch takes. */
export const INSTALL_TOOLS = [python]

/**
 * Names all missing tools in one message with the command that installs them. As root on a machine with apt, when
 * nobody can be asked (`CI=true`) or the answer was given (`--yes`), runs that command.
 *
 * @param {Tool[]} tools
 * @param {{ yes: boolean, progress: Progress }} options
 */
export async function requireTools(tools, { yes, progress }) {
  let missing = tools.filter(tool => !tool.present())
  if (missing.length === 0) return
  if (yes && isRoot() && packageManager() === 'apt') {
    const packages = missing.flatMap(tool => tool.packages.apt.split(' '))
    try {
      await progress.step(`tools: apt-get install ${packages.join(' ')}`, () => aptInstall(packages))
    } catch (error) {
      if (!(error instanceof SetupError)) throw error
      throw new SetupError(`${missingToolsMessage(missing)}\n\n${error.message}`)
    }
    missing = missing.filter(tool => !tool.present())
  }
  if (missing.length > 0) throw new SetupError(missingToolsMessage(missing))
}

/**
 * @param {Tool[]} missing
 * @returns {string}
 */
function missingToolsMessage(missing) {
  const names = missing.map(tool => `  - ${tool.name}`).join('\n')
  return `These tools are missing:\n${names}\n${installCommand(missing)}\nThen run this again.`
}

/**
 * @param {Tool[]} missing
 * @returns {string}
 */
function installCommand(missing) {
  const manager = packageManager()
  if (manager === null) return "Install them with your system's package manager."
  const packages = missing.map(tool => tool.packages[manager]).join(' ')
  const sudo = isRoot() ? '' : 'sudo '
  const commands = {
    apt: `${sudo}apt-get install ${packages}`,
    dnf: `${sudo}dnf install ${packages}`,
    brew: `brew install ${packages}`,
  }
  return `To install them: ${commands[manager]}`
}

/** @returns {PackageManager | null} */
export function packageManager() {
  if (process.platform === 'darwin') return 'brew'
  if (findOnPath('apt-get')) return 'apt'
  return findOnPath('dnf') ? 'dnf' : null
}

/** @returns {boolean} */
export function isRoot() {
  return process.getuid?.() === 0
}

/**
 * @param {string[]} packages
 * @param {string[]} [prefix] `['sudo', '-n']` for those who are not root
 */
export async function aptInstall(packages, prefix = []) {
  const [command = 'apt-get', ...before] = [...prefix, 'apt-get']
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const install = [...before, 'install', '-q', '-y', '--no-install-recommends', ...packages]
  try {
    await run(command, install, { env })
  } catch {
    // The lists of packages are old, or there are none yet, as in a new container.
    await run(command, [...before, 'update', '-q'], { env })
    await run(command, install, { env })
  }
}

/** @returns {string} */
function cmakeVersion() {
  const { stdout } = spawnSync('cmake', ['--version'], { encoding: 'utf8' })
  return /(\d+\.\d+\.\d+)/.exec(stdout ?? '')?.[1] ?? '0'
}
