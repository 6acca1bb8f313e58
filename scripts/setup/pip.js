/** The managed copy from the package `torch`, in a private environment of a Python on PATH. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { REFERENCE_VERSION, compareVersions } from '../../lib/native/libtorch.js'
import { SetupError } from './errors.js'
import { makeManagedCopy, managedCopy } from './managed-copy.js'
import { run, succeeds } from './run.js'
import { aptInstall, isRoot, packageManager } from './tools.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */
/** @typedef {import('./managed-copy.js').Flavor} Flavor */

/**
 * @typedef {object} Wheel
 * @property {Flavor} flavor
 * @property {string} requirement
 * @property {string[]} options of pip
 */

const CPU_WHEELS = 'https://download.pytorch.org/whl/cpu'

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

/** Downloads are large and slow to fail: a wheel that two Pythons cannot use is not there. */
const PYTHONS_TRIED = 2

/**
 * @param {{ yes: boolean, progress: Progress }} options
 * @returns {Promise<Libtorch>}
 */
export async function installByPip({ yes, progress }) {
  const candidates = wheels()
  const present = managedCopy(candidates[0]?.flavor ?? 'cpu')
  if (present !== null) return present

  const pythons = await findPythons(yes, progress)
  /** @type {string[]} */
  const failures = []
  for (const wheel of candidates) {
    for (const python of pythons.slice(0, PYTHONS_TRIED)) {
      const title = `libtorch: ${wheel.requirement} by pip of Python ${python.version}`
      try {
        return await progress.step(title, () =>
          makeManagedCopy(wheel.flavor, folder => pipInstall(python, folder, wheel)),
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
 * @param {boolean} yes
 * @param {Progress} progress
 * @returns {Promise<Python[]>}
 */
async function findPythons(yes, progress) {
  let pythons = usablePythons()
  if (pythons.length === 0 && yes && isRoot() && packageManager() === 'apt') {
    await progress.step('tools: apt-get install python3-venv', () => aptInstall(['python3-venv']))
    pythons = usablePythons()
  }
  if (pythons.length === 0) {
    throw new SetupError(`pip: no Python ${OLDEST_PYTHON} or newer with venv and pip is on PATH`)
  }
  return pythons
}

/**
 * The wheels to try in order.
 *
 * @returns {Wheel[]}
 */
function wheels() {
  const general = `torch==${REFERENCE_VERSION}`
  // The packages that torch depends on are for Python alone, but for NVIDIA's libraries of the CUDA build.
  if (process.platform === 'darwin') return [{ flavor: 'cpu', requirement: general, options: ['--no-deps'] }]
  /** @type {Wheel} */
  const cpu = {
    flavor: 'cpu',
    requirement: `${general}+cpu`,
    options: ['--no-deps', '--extra-index-url', CPU_WHEELS],
  }
  // The general wheel of Linux has CUDA inside. It runs without a GPU as well, but is large.
  /** @type {Wheel} */
  const cuda = { flavor: 'cuda', requirement: general, options: [] }
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
 * @param {Wheel} wheel
 * @returns {Promise<string>} the torch folder
 */
async function pipInstall(python, folder, { requirement, options }) {
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
