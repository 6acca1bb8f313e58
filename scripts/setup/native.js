/** Compiles the addon for one libtorch. CMakeLists.txt says how; this says where, when and with what. */
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, totalmem } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { coresIn, cudaLibraryOf, tryInChild } from '../../lib/native/addon.js'
import { findOnPath, libraryPath, minorVersion } from '../../lib/native/libtorch.js'
import { fileIdentity, isValidated, readJson, recordValidation, writeJson } from '../../lib/native/state.js'
import { SetupError } from './errors.js'
import { filesIn, fingerprint } from './fingerprint.js'
import { run } from './run.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */

/** What one compiler needs at most for a file that reads libtorch's headers. */
const BYTES_PER_JOB = 1.5 * 2 ** 30

/**
 * Whether build/Release holds the addon for this libtorch, made from these sources and seen to work.
 *
 * @param {string} root
 * @param {Libtorch} libtorch
 * @returns {boolean}
 */
export function nativeBuilt(root, libtorch) {
  const files = addonFiles(releaseFolder(root), libtorch)
  return (
    existsSync(files.loader) &&
    existsSync(files.core) &&
    readStamp(root)[minorVersion(libtorch.version)]?.build === buildFingerprint(root, libtorch) &&
    isValidated(root, files)
  )
}

/**
 * @param {string} root
 * @param {Libtorch} libtorch
 * @param {{ verbose: boolean, detail: (text: string) => void }} options
 * @returns {Promise<string | null>} what the CUDA library lacks and why, where libtorch is for CUDA
 */
export async function buildNative(root, libtorch, { verbose, detail }) {
  const sources = sourceFingerprint(root)
  const build = buildFingerprint(root, libtorch)
  const binaryDir = cmakeFolder(root, libtorch)
  const outputs = join(binaryDir, 'out')
  await configure(root, libtorch, binaryDir, {
    ALAMBIC_OUTPUT: outputs,
    ALAMBIC_WERROR: warningsAreErrors() ? 'ON' : 'OFF',
  })
  await compile(root, binaryDir, { verbose, detail })
  validate(outputs, libtorch)
  publish(outputs, releaseFolder(root))
  recordValidation(root, addonFiles(releaseFolder(root), libtorch))

  const stamp = Object.entries(readStamp(root)).filter(([, { sources: old }]) => old === sources)
  writeJson(stampFile(root), {
    ...Object.fromEntries(stamp),
    [minorVersion(libtorch.version)]: { sources, build },
  })
  removeOutdatedCores(root)
  return readFileSync(join(binaryDir, 'cuda-library.txt'), 'utf8') || null
}

/**
 * CMake's own folder: one per libtorch, because CMake keeps the libraries that it once found. Outside of
 * `build/Release`, whose files other processes may be using.
 *
 * @param {string} root
 * @param {Libtorch} libtorch
 * @returns {string}
 */
export function cmakeFolder(root, libtorch) {
  const suffix = createHash('sha256').update(libtorch.root).digest('hex').slice(0, 8)
  return join(root, 'build', 'cmake', `${minorVersion(libtorch.version)}-${suffix}`)
}

/**
 * @param {string} root
 * @param {Libtorch} libtorch
 * @param {string} binaryDir
 * @param {Record<string, string>} options of CMakeLists.txt
 */
export async function configure(root, libtorch, binaryDir, options) {
  const definitions = { ALAMBIC_LIBTORCH: libtorch.root, CMAKE_EXPORT_COMPILE_COMMANDS: 'ON', ...options }
  const args = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`)
  const wasConfigured = existsSync(join(binaryDir, 'CMakeCache.txt'))
  try {
    await cmakeJs(root, ['configure', '--out', binaryDir, ...args], {})
  } catch (error) {
    // A folder that another CMake or generator configured cannot be taken over.
    if (!wasConfigured || !(error instanceof SetupError)) throw error
    rmSync(binaryDir, { recursive: true })
    await cmakeJs(root, ['configure', '--out', binaryDir, ...args], {})
  }
}

/**
 * What {@link configure} described.
 *
 * @param {string} root
 * @param {string} binaryDir
 * @param {{ verbose: boolean, detail: (text: string) => void }} options
 */
export async function compile(root, binaryDir, { verbose, detail }) {
  await cmakeJs(root, ['build', '--out', binaryDir, '--parallel', String(jobs())], {
    verbose,
    onLine: line => {
      const step = /^\[\s*\d+(\/\d+|%)\]/.exec(line)?.[0]
      if (step) detail(step)
    },
  })
}

/**
 * @param {string} root
 * @param {string[]} args
 * @param {import('./run.js').RunOptions} options
 */
async function cmakeJs(root, args, options) {
  await run(process.execPath, [cmakeJsProgram(root), ...args], { ...options, cwd: root })
}

/**
 * @param {string} root
 * @returns {string}
 */
function cmakeJsProgram(root) {
  const require = createRequire(join(root, 'package.json'))
  try {
    return join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  } catch {
    throw new SetupError(
      'The addon has to be compiled, which takes three packages that an installed alambic does not bring along.\n' +
        'To install them: npm install --save-dev cmake-js node-addon-api node-api-headers',
    )
  }
}

/** @returns {number} compilers at a time: one per core, as far as the memory goes */
function jobs() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / BYTES_PER_JOB)))
}

/** @returns {boolean} */
function warningsAreErrors() {
  return Boolean(process.env['ALAMBIC_WERROR'])
}

/**
 * A running process keeps the file it has open: a new one takes its name, none is overwritten.
 *
 * @param {string} from
 * @param {string} to
 */
function publish(from, to) {
  mkdirSync(to, { recursive: true })
  const names = readdirSync(from)
  for (const name of names) {
    const temporary = join(to, `${name}.tmp`)
    copyFileSync(join(from, name), temporary)
    renameSync(temporary, join(to, name))
  }
  // A CUDA library that can no longer be built does not fit the new addon.
  for (const core of Object.values(coresIn(from))) {
    const [made, kept] = [cudaLibraryOf(core), cudaLibraryOf(join(to, basename(core)))]
    if (made === undefined && kept !== undefined) rmSync(kept)
  }
}

/**
 * A binary that does not load is not published.
 *
 * @param {string} folder
 * @param {Libtorch} libtorch
 */
function validate(folder, libtorch) {
  const files = addonFiles(folder, libtorch)
  const report = tryInChild(files)
  if (typeof report === 'string') {
    throw new SetupError(
      `${files.core} was built for libtorch ${libtorch.version} in ${libtorch.root}, but: ${report}`,
    )
  }
}

/**
 * @param {string} folder
 * @param {Libtorch} libtorch
 */
function addonFiles(folder, libtorch) {
  const core = join(folder, `alambic-torch-${minorVersion(libtorch.version)}.so`)
  return { loader: join(folder, 'alambic.node'), core, libtorch }
}

/** @param {string} root */
function releaseFolder(root) {
  return join(root, 'build', 'Release')
}

/**
 * An addon for another libtorch that older sources made does not fit the TypeScript of today.
 *
 * @param {string} root
 */
function removeOutdatedCores(root) {
  const current = readStamp(root)
  for (const [version, path] of Object.entries(coresIn(releaseFolder(root)))) {
    if (version in current) continue
    for (const each of [cudaLibraryOf(path), path]) if (each !== undefined) rmSync(each)
  }
}

/** @param {string} root */
function stampFile(root) {
  return join(root, 'build', 'native.json')
}

/**
 * @param {string} root
 * @returns {Record<string, { sources: string, build: string }>} by the minor version of libtorch
 */
function readStamp(root) {
  return readJson(stampFile(root)) ?? {}
}

/** @param {string} root */
function sourceFingerprint(root) {
  const files = [...filesIn(root, 'native', /\.(c|cc|cpp|cu|h|hpp|inc)$/), 'CMakeLists.txt']
  const headers = ['node-addon-api', 'node-api-headers'].map(
    name => readJson(join(root, 'node_modules', name, 'package.json'))?.version,
  )
  return fingerprint(root, files, headers)
}

/**
 * @param {string} root
 * @param {Libtorch} libtorch
 */
function buildFingerprint(root, libtorch) {
  const library = libraryPath(libtorch.libDir, 'torch_cpu') ?? ''
  const cuda = libtorch.cuda ? cudaToolkits() : ''
  return [sourceFingerprint(root), fileIdentity(library), warningsAreErrors(), cuda].join(' ')
}

/** What decides whether the CUDA library can be built: it is, once there is a toolkit. */
function cudaToolkits() {
  const home = process.env['CUDA_HOME'] ?? '/usr/local/cuda'
  return [home, existsSync(join(home, 'include', 'cuda_runtime_api.h')), findOnPath('nvcc')].join()
}
