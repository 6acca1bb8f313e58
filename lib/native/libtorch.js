/**
 * Finds the libtorch to use. Plain JavaScript without dependencies, because `scripts/setup.js` needs it before
 * anything is installed or compiled; the loader uses the same search at run time.
 *
 * The order: the `LIBTORCH` variable, the `torch` package of the Python on PATH, a libtorch of the system, the copy
 * that set-up keeps in the user's cache.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'

/** The version that set-up installs, that signatures are generated from and that tests compare with. */
export const REFERENCE_VERSION = '2.13.0'

/** The oldest version that the native sources compile with. */
export const OLDEST_VERSION = '1.13'

/** @typedef {'LIBTORCH' | 'python' | 'system' | 'managed'} LibtorchSource */

/**
 * A libtorch on this machine.
 *
 * @typedef {object} Libtorch
 * @property {string} root folder that holds the headers' and the libraries' folders; what CMake is given
 * @property {string} includeDir folder of `torch/script.h`
 * @property {string} libDir folder of the shared libraries
 * @property {string} version `major.minor.patch`
 * @property {LibtorchSource} source where the search found it
 * @property {boolean} cuda whether it was built with CUDA
 * @property {boolean} headers whether addons can be compiled against it
 */

/**
 * One place of the search and what was there.
 *
 * @typedef {object} LookedAt
 * @property {string} place
 * @property {string} outcome
 */

/**
 * @typedef {object} SearchResult
 * @property {Libtorch | null} libtorch the first one that is accepted
 * @property {Libtorch[]} refused those that `accept` did not take
 * @property {LookedAt[]} lookedAt every place in order, up to the accepted one
 */

/**
 * @typedef {object} SearchOptions
 * @property {NodeJS.ProcessEnv} [env] default: this process's environment
 * @property {string[]} [systemRoots] default: where package managers put a libtorch
 * @property {(libtorch: Libtorch) => string | null} [accept] why a libtorch is of no use, or null; default: all are
 */

/**
 * A place of the search: the folders to look into, or why there are none.
 *
 * @typedef {object} Place
 * @property {string} name
 * @property {LibtorchSource} source
 * @property {() => string[] | string} folders
 */

const LIBRARY_SUFFIX = process.platform === 'darwin' ? '.dylib' : '.so'
const DEBIAN_TRIPLET = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
const SYSTEM_ROOTS = [
  '/usr',
  '/usr/local',
  '/opt/libtorch',
  '/opt/homebrew/opt/pytorch',
  '/usr/local/opt/pytorch',
]

/**
 * @param {SearchOptions} [options]
 * @returns {SearchResult}
 */
export function findLibtorch({ env = process.env, systemRoots = SYSTEM_ROOTS, accept = () => null } = {}) {
  /** @type {SearchResult} */
  const result = { libtorch: null, refused: [], lookedAt: [] }
  for (const { name, source, folders } of placesToLook(env, systemRoots)) {
    const present = folders()
    if (typeof present === 'string') {
      result.lookedAt.push({ place: name, outcome: present })
      continue
    }
    for (const folder of present) {
      const found = inspectLibtorch(folder, source)
      const refusal = typeof found === 'string' ? found : accept(found)
      const place = name === folder ? name : `${name} (${folder})`
      if (typeof found === 'string') {
        result.lookedAt.push({ place, outcome: found })
      } else if (refusal !== null) {
        result.refused.push(found)
        result.lookedAt.push({ place, outcome: `libtorch ${found.version}: ${refusal}` })
      } else {
        result.libtorch = found
        result.lookedAt.push({ place, outcome: `libtorch ${found.version}` })
        return result
      }
    }
  }
  return result
}

/**
 * @param {NodeJS.ProcessEnv} env
 * @param {string[]} systemRoots
 * @returns {Place[]}
 */
function placesToLook(env, systemRoots) {
  const named = env['LIBTORCH']
  // Who names a folder wants that one or an explanation, not another one.
  if (named) return [{ name: 'LIBTORCH', source: 'LIBTORCH', folders: () => [resolve(named)] }]
  return [
    { name: 'LIBTORCH', source: 'LIBTORCH', folders: () => 'the variable is not set' },
    { name: 'Python on PATH', source: 'python', folders: () => pythonTorchFolder(env) },
    ...systemRoots.map(root => ({
      name: root,
      source: /** @type {const} */ ('system'),
      folders: () => [root],
    })),
    { name: 'managed copy', source: 'managed', folders: () => managedFolders(env) },
  ]
}

/**
 * What a folder holds: a libtorch, or why it is none.
 *
 * @param {string} folder one that holds `lib/` and `include/`, such as an unpacked archive, the `torch` folder of a
 *   pip installation, or a prefix of the system
 * @param {LibtorchSource} source
 * @returns {Libtorch | string}
 */
export function inspectLibtorch(folder, source) {
  if (!existsSync(folder)) return 'the folder does not exist'
  const inner = ['', 'torch', 'libtorch'].map(name => join(folder, name))
  const root = inner.find(candidate => libraryFolder(candidate) !== null)
  const libDir = root === undefined ? null : libraryFolder(root)
  if (root === undefined || libDir === null) return `no lib/libtorch_cpu${LIBRARY_SUFFIX}`

  const includeDir = join(root, 'include')
  const version = readVersion(root, includeDir, libDir)
  if (version === null) return 'its version cannot be told (no version.h, version.py or build-version)'
  if (compareVersions(version, OLDEST_VERSION) < 0) {
    return `libtorch ${version} is too old, ${OLDEST_VERSION} or newer is needed`
  }
  return {
    root,
    includeDir,
    libDir,
    version,
    source,
    cuda: libraryPath(libDir, 'torch_cuda') !== null,
    headers: existsSync(join(includeDir, 'torch', 'script.h')),
  }
}

/**
 * @param {string} root
 * @returns {string | null}
 */
function libraryFolder(root) {
  const folders = ['lib', join('lib', DEBIAN_TRIPLET), 'lib64'].map(name => join(root, name))
  return folders.find(folder => libraryPath(folder, 'torch_cpu') !== null) ?? null
}

/**
 * The file of one of libtorch's libraries, or null. Without its development package a system has only the file with
 * the version in its name.
 *
 * @param {string} libDir
 * @param {string} name without `lib` and suffix, such as `torch_cpu`
 * @returns {string | null}
 */
export function libraryPath(libDir, name) {
  const exact = join(libDir, `lib${name}${LIBRARY_SUFFIX}`)
  if (existsSync(exact)) return exact
  const versioned = listFolder(libDir).find(file => file.startsWith(`lib${name}${LIBRARY_SUFFIX}.`))
  return versioned === undefined ? null : join(libDir, versioned)
}

/**
 * @param {string} root
 * @param {string} includeDir
 * @param {string} libDir
 * @returns {string | null}
 */
function readVersion(root, includeDir, libDir) {
  for (const header of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
    const text = readText(join(includeDir, header))
    const parts = ['MAJOR', 'MINOR', 'PATCH'].map(
      part => new RegExp(`TORCH_VERSION_${part} (\\d+)`).exec(text)?.[1],
    )
    if (parts.every(part => part !== undefined)) return parts.join('.')
  }
  const written =
    /__version__ = ['"](\d+\.\d+\.\d+)/.exec(readText(join(root, 'version.py'))) ??
    /^(\d+\.\d+\.\d+)/.exec(readText(join(root, 'build-version'))) ??
    /\.so\.(\d+\.\d+(?:\.\d+)?)$/.exec(libraryPath(libDir, 'torch_cpu') ?? '')
  return written?.[1] ?? null
}

/**
 * The `torch` package of the Python on PATH, found without importing it, which would take seconds.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[] | string}
 */
function pythonTorchFolder(env) {
  const interpreters = pythonInterpreters(env)
  if (interpreters.length === 0) return 'there is neither a python3 nor a python'
  // The current folder is taken off the path: a folder named torch in it is not the package.
  const program =
    "import sys; sys.path = [p for p in sys.path if p]; from importlib.util import find_spec as f; s = f('torch'); " +
    "print(s.origin if s and s.origin else '')"
  for (const python of interpreters) {
    const { stdout } = spawnSync(python, ['-c', program], { env, encoding: 'utf8', timeout: 20_000 })
    const origin = stdout?.trim()
    if (origin) return [dirname(origin)]
  }
  return `${interpreters.join(' and ')}: no package torch`
}

/**
 * `python3` on PATH, and `python` where that lies in another folder: beside each other they are the same.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]}
 */
function pythonInterpreters(env) {
  const found = ['python3', 'python'].map(name => findOnPath(name, env)).filter(path => path !== null)
  return found.filter((path, index) => found.findIndex(other => dirname(other) === dirname(path)) === index)
}

/**
 * The first file of that name on PATH, or null.
 *
 * @param {string} name
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string | null}
 */
export function findOnPath(name, env = process.env) {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(Boolean)
  return folders.map(folder => join(folder, name)).find(path => existsSync(path)) ?? null
}

/**
 * Where Alambic keeps what it downloads: `ALAMBIC_CACHE`, else `alambic` in the user's cache folder.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function cacheFolder(env = process.env) {
  if (env['ALAMBIC_CACHE']) return resolve(env['ALAMBIC_CACHE'])
  const home = env['HOME'] || homedir() || tmpdir()
  return join(env['XDG_CACHE_HOME'] || join(home, '.cache'), 'alambic')
}

/** Written into a managed copy when it is complete: `{ "root": … }`, relative to the file. */
export const MANAGED_MARKER = 'alambic-libtorch.json'

/**
 * The complete managed copies: the reference version first, then the newest, CUDA builds before those for the CPU.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[] | string}
 */
function managedFolders(env) {
  const cache = cacheFolder(env)
  const copies = listFolder(cache)
    .filter(name => name.startsWith('libtorch-') && existsSync(join(cache, name, MANAGED_MARKER)))
    .sort(
      (a, b) =>
        preference(a) - preference(b) || compareVersions(versionOf(b), versionOf(a)) || (a < b ? 1 : -1),
    )
    .map(name => join(cache, name, String(JSON.parse(readText(join(cache, name, MANAGED_MARKER))).root)))
  return copies.length > 0 ? copies : `nothing in ${cache}`

  /** @param {string} name */
  function versionOf(name) {
    return name.split('-')[1] ?? '0'
  }
  /** @param {string} name */
  function preference(name) {
    return versionOf(name) === REFERENCE_VERSION ? 0 : 1
  }
}

/**
 * Whether the libraries use the C++11 ABI of `std::string`; wheels before 2.6 do not.
 *
 * @param {Libtorch} libtorch
 * @returns {boolean}
 */
export function usesCxx11Abi(libtorch) {
  const c10 = libraryPath(libtorch.libDir, 'c10')
  return c10 !== null && /_ZN3c105ErrorC[12][^\0]*NSt7__cxx1112basic_string/.test(readFileSync(c10, 'latin1'))
}

/**
 * `2.13` of `2.13.0`: what a binary is built for.
 *
 * @param {string} version
 * @returns {string}
 */
export function minorVersion(version) {
  return version.split('.').slice(0, 2).join('.')
}

/**
 * @param {string} a
 * @param {string} b
 * @returns {number} negative, zero or positive, as `sort` wants it
 */
export function compareVersions(a, b) {
  const left = a.split('.').map(Number)
  const right = b.split('.').map(Number)
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/**
 * The report of a search, one place a line.
 *
 * @param {LookedAt[]} lookedAt
 * @returns {string}
 */
export function describeSearch(lookedAt) {
  return lookedAt.map(({ place, outcome }) => `  ${place}: ${outcome}`).join('\n')
}

/**
 * The folder above `start` that holds Alambic's package.json: the same for `lib/`, `dist/` and `scripts/`.
 *
 * @param {string} start
 * @returns {string}
 */
export function findPackageRoot(start) {
  for (let folder = start; ; folder = dirname(folder)) {
    const manifest = readText(join(folder, 'package.json'))
    if (manifest && JSON.parse(manifest).name === 'alambic') return folder
    if (folder === dirname(folder)) throw new Error(`no package.json of alambic above ${start}`)
  }
}

/**
 * @param {string} path
 * @returns {string} empty when there is no such file
 */
function readText(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

/**
 * @param {string} folder
 * @returns {string[]} empty when there is no such folder
 */
function listFolder(folder) {
  return existsSync(folder) ? readdirSync(folder).sort() : []
}
