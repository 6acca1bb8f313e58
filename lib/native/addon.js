/**
 * Opens the native addon. Plain JavaScript for the reason given in `libtorch.js`.
 *
 * The addon carries no path of a libtorch. A tiny loader addon first opens the chosen libraries with global
 * visibility; the linker then binds the addon to those that are open, whatever else the system would find.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { libraryPath } from './libtorch.js'

/** @typedef {import('./libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./state.js').AddonFiles} AddonFiles */

/**
 * A library that this libtorch has but that could not be opened, such as libtorch_cuda without NVIDIA's libraries.
 *
 * @typedef {object} SkippedLibrary
 * @property {string} library
 * @property {string} reason
 */

/**
 * What a child process that opened the addon saw.
 *
 * @typedef {object} TrialReport
 * @property {string[]} libraries the torch libraries bound
 * @property {string[]} openMp the OpenMP run-times in the process: one, or threads fight each other
 * @property {SkippedLibrary[]} skipped
 */

/** In the order of their dependencies. CUDA's must be open before ATen first asks whether CUDA is there. */
const REQUIRED_LIBRARIES = ['c10', 'torch_cpu']
const CUDA_LIBRARIES = ['c10_cuda', 'torch_cuda']

const TORCH_LIBRARY = /^lib(c10|torch)(_cpu|_cuda)?\.(so|dylib)/

/**
 * The addons in a folder by the minor version of libtorch that they are for.
 *
 * @param {string} folder
 * @returns {Record<string, string>}
 */
export function coresIn(folder) {
  /** @type {Record<string, string>} */
  const cores = {}
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const version = /^alambic-torch-(\d+\.\d+)\.so$/.exec(name)?.[1]
    if (version !== undefined) cores[version] = join(folder, name)
  }
  return cores
}

/**
 * The CUDA library that belongs to an addon, where set-up could build one.
 *
 * @param {string} core
 * @returns {string | undefined}
 */
export function cudaLibraryOf(core) {
  const path = join(dirname(core), basename(core).replace('alambic-torch-', 'alambic-cuda-'))
  return existsSync(path) ? path : undefined
}

/**
 * @param {AddonFiles} files
 * @returns {{ addon: unknown, skipped: SkippedLibrary[] }}
 */
export function openAddon({ loader, core, libtorch }) {
  const { open } = createRequire(import.meta.url)(loader)
  const skipped = openLibtorch(open, libtorch)
  const module = { exports: {} }
  process.dlopen(module, core, constants.dlopen.RTLD_NOW)
  return { addon: module.exports, skipped }
}

/**
 * @param {(path: string) => void} open
 * @param {Libtorch} libtorch
 * @returns {SkippedLibrary[]}
 */
function openLibtorch(open, libtorch) {
  for (const name of REQUIRED_LIBRARIES) {
    const path = libraryPath(libtorch.libDir, name)
    if (path === null) throw new Error(`lib${name} is missing in ${libtorch.libDir}`)
    open(path)
  }
  // Without CUDA's libraries everything runs on the CPU; `libtorch` itself needs all the others.
  for (const name of [...CUDA_LIBRARIES, 'torch']) {
    const path = libraryPath(libtorch.libDir, name)
    if (path === null) continue
    try {
      open(path)
    } catch (error) {
      return [{ library: basename(path), reason: messageOf(error) }]
    }
  }
  return []
}

/**
 * The names of the GPUs that the NVIDIA driver shows to this process; none without a driver.
 *
 * @param {string} loader path of `alambic.node`
 * @returns {string[]}
 */
export function nvidiaGpus(loader) {
  return createRequire(import.meta.url)(loader).nvidiaGpus()
}

/**
 * Opens the addon in a child process, so that a binary that kills its process does not kill this one, and checks that
 * every torch library came from the chosen folder.
 *
 * @param {AddonFiles} files
 * @returns {TrialReport | string} a string says what went wrong
 */
export function tryInChild(files) {
  const script = fileURLToPath(import.meta.url)
  const child = spawnSync(process.execPath, [script, JSON.stringify(files)], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  if (child.error) return `the trial process did not run: ${child.error.message}`
  if (child.signal) return `the process died with ${child.signal} while opening it\n${child.stderr}`.trim()
  if (child.status !== 0) return child.stderr.trim() || `the trial process ended with ${child.status}`
  /** @type {TrialReport} */
  const report = JSON.parse(child.stdout.slice(child.stdout.lastIndexOf('\n{') + 1))
  const stray = strayLibraries(report.libraries, files.libtorch.libDir)
  return stray.length === 0 ? report : `bound to ${stray.join(', ')} instead of ${files.libtorch.libDir}`
}

/**
 * Those that are not in the folder, be it as links.
 *
 * @param {string[]} libraries real paths
 * @param {string} folder
 * @returns {string[]}
 */
function strayLibraries(libraries, folder) {
  const own = readdirSync(folder).filter(name => TORCH_LIBRARY.test(name))
  const real = new Set(own.map(name => realpathSync(join(folder, name))))
  return libraries.filter(path => !real.has(path))
}

/**
 * The child's side of {@link tryInChild}.
 *
 * @param {AddonFiles} files
 * @returns {TrialReport}
 */
function tryHere(files) {
  const { skipped } = openAddon(files)
  Object.assign(process.report, { excludeNetwork: true })
  /** @type {string[]} */
  const open = /** @type {any} */ (process.report.getReport()).sharedObjects
  const paths = [...new Set(open.filter(path => existsSync(path)).map(path => realpathSync(path)))]
  return {
    libraries: paths.filter(path => TORCH_LIBRARY.test(basename(path))),
    openMp: paths.filter(path => /^lib(gomp|omp|iomp5)\b/.test(basename(path))),
    skipped,
  }
}

/**
 * @param {unknown} error
 * @returns {string}
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`\n${JSON.stringify(tryHere(JSON.parse(process.argv[2] ?? '')))}\n`)
  } catch (error) {
    process.stderr.write(messageOf(error))
    process.exitCode = 1
  }
}
