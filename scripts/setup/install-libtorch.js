/**
 * Installs a libtorch where the search found none: the managed copy by pip, failing that the system's package, failing
 * that the official archive.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createWriteStream, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { delimiter, join, relative } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  MANAGED_MARKER,
  REFERENCE_VERSION,
  cacheFolder,
  compareVersions,
  findLibtorch,
  inspectLibtorch,
  minorVersion,
} from '../../lib/native/libtorch.js'
import { writeJson } from '../../lib/native/state.js'
import { SetupError } from './errors.js'
import { withLock } from './lock.js'
import { run, succeeds } from './run.js'
import { aptInstall, isRoot, packageManager } from './tools.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */
/** @typedef {{ yes: boolean, progress: Progress }} InstallOptions */

const CPU_WHEELS = 'https://download.pytorch.org/whl/cpu'
const ARCHIVES = 'https://download.pytorch.org/libtorch'

/**
 * SHA-256 of the official archives by file name. An archive that is not in here is only taken together with
 * ALAMBIC_LIBTORCH_SHA256.
 *
 * @type {Record<string, string>}
 */
const ARCHIVE_SHA256 = {}

/** Python versions that the reference version has wheels for. */
const OLDEST_PYTHON = '3.10'
const PYTHON_NAMES = ['python3', 'python', ...[14, 13, 12, 11, 10].map(minor => `python3.${minor}`)]

/** Unreachable indexes are given up soon: the package may be had from another one, or another way. */
const PIP_OPTIONS = [
  '--quiet',
  '--no-input',
  '--disable-pip-version-check',
  '--retries',
  '1',
  '--timeout',
  '15',
]

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
export async function installLibtorch(options) {
  const ways = [installByPip, installSystemPackage, installArchive]
  /** @type {string[]} */
  const failures = []
  for (const way of ways) {
    try {
      return await way(options)
    } catch (error) {
      if (!(error instanceof SetupError)) throw error
      failures.push(error.message)
    }
  }
  throw new SetupError(
    `libtorch could not be installed.\n\n${failures.map(text => `- ${text}`).join('\n\n')}\n\n` +
      `What helps: set LIBTORCH to the folder of a libtorch ${minorVersion(REFERENCE_VERSION)} (it holds lib/ and ` +
      'include/), or install the package torch into the Python on PATH.',
  )
}

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
export async function installByPip({ yes, progress }) {
  let pythons = usablePythons()
  if (pythons.length === 0 && yes && isRoot() && packageManager() === 'apt') {
    await progress.step('tools: apt-get install python3-venv', () => aptInstall(['python3-venv']))
    pythons = usablePythons()
  }
  if (pythons.length === 0) {
    throw new SetupError(`pip: no Python ${OLDEST_PYTHON} or newer with venv or pip is on PATH`)
  }
  /** @type {string[]} */
  const failures = []
  for (const { flavor, requirement, options } of wheels()) {
    for (const python of pythons) {
      try {
        const title = `libtorch: ${requirement} for ${flavor} with pip of Python ${python.version}`
        return await progress.step(title, () =>
          intoManagedCopy(flavor, folder => pipInstall(python, folder, requirement, options)),
        )
      } catch (error) {
        if (!(error instanceof SetupError)) throw error
        failures.push(error.message)
      }
    }
  }
  throw new SetupError(`pip: ${failures.join('\n')}`)
}

/**
 * The wheels to try in order.
 *
 * @returns {{ flavor: string, requirement: string, options: string[] }[]}
 */
function wheels() {
  const general = `torch==${REFERENCE_VERSION}`
  if (process.platform === 'darwin') return [{ flavor: 'cpu', requirement: general, options: [] }]
  const cpu = { flavor: 'cpu', requirement: `${general}+cpu`, options: ['--extra-index-url', CPU_WHEELS] }
  const cuda = { flavor: 'cuda', requirement: general, options: [] }
  // The general wheel of Linux has CUDA inside; it runs without a GPU as well, but is large.
  return hasNvidiaGpu() ? [cuda, cpu] : [cpu, cuda]
}

/** @returns {boolean} */
function hasNvidiaGpu() {
  return existsSync('/proc/driver/nvidia/version') || succeeds('nvidia-smi', ['-L'])
}

/**
 * @typedef {object} Python
 * @property {string} executable
 * @property {string} version `3.11`
 * @property {boolean} ensurepip whether it can make environments with pip inside
 */

/**
 * The Pythons on PATH that can install packages, one of each version, the first on PATH first.
 *
 * @returns {Python[]}
 */
function usablePythons() {
  const program =
    'import sys, json, importlib.util as u; has = lambda n: u.find_spec(n) is not None; print(json.dumps(dict(' +
    "executable=sys.executable, version='%d.%d' % sys.version_info[:2], venv=has('venv'), " +
    "ensurepip=has('ensurepip'), pip=has('pip'))))"
  /** @type {Map<string, Python>} */
  const byVersion = new Map()
  for (const folder of (process.env['PATH'] ?? '').split(delimiter).filter(Boolean)) {
    for (const path of PYTHON_NAMES.map(name => join(folder, name)).filter(path => existsSync(path))) {
      const { stdout, status } = spawnSync(path, ['-c', program], { encoding: 'utf8', timeout: 20_000 })
      if (status !== 0) continue
      const { executable, version, venv, ensurepip, pip } = JSON.parse(stdout)
      const usable = compareVersions(version, OLDEST_PYTHON) >= 0 && venv && (ensurepip || pip)
      if (usable && !byVersion.has(version)) byVersion.set(version, { executable, version, ensurepip })
    }
  }
  return [...byVersion.values()]
}

/**
 * @param {Python} python
 * @param {string} folder
 * @param {string} requirement
 * @param {string[]} options
 * @returns {Promise<string>} the torch folder
 */
async function pipInstall(python, folder, requirement, options) {
  const inside = join(folder, 'bin', 'python')
  await run(python.executable, ['-m', 'venv', ...(python.ensurepip ? [] : ['--without-pip']), folder])
  const pip = python.ensurepip ? [inside, '-m', 'pip'] : [python.executable, '-m', 'pip', '--python', inside]
  const [command = inside, ...before] = pip
  await run(command, [...before, 'install', ...PIP_OPTIONS, ...options, requirement])
  const library = join(folder, 'lib')
  const packages = readdirSync(library).map(name => join(library, name, 'site-packages', 'torch'))
  const torch = packages.find(path => existsSync(path))
  if (torch === undefined)
    throw new SetupError(`pip installed ${requirement} but there is no torch in ${library}`)
  return torch
}

/**
 * Fills the folder of a managed copy and marks it as complete; what a failure leaves is removed.
 *
 * @param {string} flavor
 * @param {(folder: string) => Promise<string>} fill returns the folder of libtorch inside
 * @returns {Promise<Libtorch>}
 */
async function intoManagedCopy(flavor, fill) {
  const folder = join(cacheFolder(), `libtorch-${REFERENCE_VERSION}-${flavor}`)
  return withLock(
    `${folder}.lock`,
    () => undefined,
    async () => {
      if (existsSync(join(folder, MANAGED_MARKER))) return installedLibtorch()
      rmSync(folder, { recursive: true, force: true })
      try {
        const root = await fill(folder)
        const libtorch = inspectLibtorch(root, 'managed')
        if (typeof libtorch === 'string') throw new SetupError(`${root}: ${libtorch}`)
        writeJson(join(folder, MANAGED_MARKER), { root: relative(folder, root) })
        return libtorch
      } catch (error) {
        rmSync(folder, { recursive: true, force: true })
        throw error
      }
    },
  )
}

/** @returns {Libtorch} what another process installed while this one waited */
function installedLibtorch() {
  const { libtorch, lookedAt } = findLibtorch()
  if (libtorch === null) throw new SetupError(`the managed copy cannot be used: ${JSON.stringify(lookedAt)}`)
  return libtorch
}

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
async function installSystemPackage({ yes, progress }) {
  const manager = packageManager()
  if (manager === 'apt') {
    const prefix = isRoot() ? [] : ['sudo', '-n']
    if (!isRoot() && !yes) {
      throw new SetupError(
        'system package: `sudo apt-get install libtorch-dev` (or run this with --yes) installs it',
      )
    }
    await progress.step('libtorch: apt-get install libtorch-dev', () => aptInstall(['libtorch-dev'], prefix))
  } else if (manager === 'brew') {
    await progress.step('libtorch: brew install pytorch', () =>
      run('brew', ['install', '--quiet', 'pytorch']),
    )
  } else {
    throw new SetupError('system package: none is known for this system')
  }
  const { libtorch, lookedAt } = findLibtorch({ accept: ({ headers }) => (headers ? null : 'no headers') })
  if (libtorch === null) {
    throw new SetupError(`system package: it is installed but not found: ${JSON.stringify(lookedAt)}`)
  }
  return libtorch
}

/**
 * @param {InstallOptions} options
 * @returns {Promise<Libtorch>}
 */
export async function installArchive({ progress }) {
  const name = archiveName()
  if (name === null) throw new SetupError('archive: there is none for this system')
  const url = `${process.env['ALAMBIC_LIBTORCH_MIRROR'] || ARCHIVES}/cpu/${encodeURIComponent(name)}`
  const expected = process.env['ALAMBIC_LIBTORCH_SHA256'] || ARCHIVE_SHA256[name]
  if (!expected) {
    throw new SetupError(
      `archive: not downloaded, because no checksum of ${name} is pinned in this release. If you know the SHA-256 of ` +
        `${url}, set ALAMBIC_LIBTORCH_SHA256 to it; ALAMBIC_LIBTORCH_MIRROR names another place of the archives`,
    )
  }
  return progress.step(`libtorch: ${name}`, () =>
    intoManagedCopy('cpu', folder => download(url, expected, folder)),
  )
}

/** @returns {string | null} */
function archiveName() {
  const names = {
    'linux-x64': `libtorch-shared-with-deps-${REFERENCE_VERSION}+cpu.zip`,
    'darwin-arm64': `libtorch-macos-arm64-${REFERENCE_VERSION}.zip`,
  }
  return /** @type {Record<string, string>} */ (names)[`${process.platform}-${process.arch}`] ?? null
}

/**
 * @param {string} url
 * @param {string} expected SHA-256 in hexadecimal digits
 * @param {string} folder
 * @returns {Promise<string>} the folder of libtorch
 */
async function download(url, expected, folder) {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'libtorch.zip')
  const actual = await fetchTo(url, file)
  if (actual !== expected.toLowerCase()) {
    throw new SetupError(`archive: ${url} has the SHA-256 ${actual}, expected ${expected}`)
  }
  await run('cmake', ['-E', 'tar', 'xf', file], { cwd: folder })
  rmSync(file)
  return join(folder, 'libtorch')
}

/**
 * @param {string} url
 * @param {string} file
 * @returns {Promise<string>} the SHA-256 of what came
 */
async function fetchTo(url, file) {
  const response = await fetch(url).catch((/** @type {Error} */ error) => {
    const { cause } = /** @type {{ cause?: Error }} */ (error)
    throw new SetupError(`archive: ${url} cannot be reached: ${cause?.message ?? error.message}`)
  })
  if (!response.ok || response.body === null) {
    throw new SetupError(`archive: ${url} answered ${response.status} ${response.statusText}`)
  }
  const hash = createHash('sha256')
  const body = Readable.fromWeb(/** @type {import('node:stream/web').ReadableStream} */ (response.body))
  body.on('data', chunk => hash.update(chunk))
  await pipeline(body, createWriteStream(file))
  return hash.digest('hex')
}
