/** What the machine is and which versions are on it: what a result depends on besides the code. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { readJson } from '../../lib/native/state.js'

/**
 * @typedef {object} Gpu
 * @property {string} name
 * @property {string} driver
 * @property {string} memory
 * @property {string} computeCapability
 */

/**
 * @typedef {object} Machine
 * @property {string} system
 * @property {string} cpu
 * @property {number} cores
 * @property {string} memory
 * @property {Gpu[]} gpus what nvidia-smi shows, used or not
 */

/** @returns {Machine} */
export function describeMachine() {
  return {
    system: `${distribution()}, ${type()} ${release()}`,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    gpus: describeGpus(),
  }
}

/** @returns {Gpu[]} */
function describeGpus() {
  const query = '--query-gpu=name,driver_version,memory.total,compute_cap'
  return firstOutput('nvidia-smi', [query, '--format=csv,noheader'])
    .split('\n')
    .filter(Boolean)
    .map(row => {
      const [name = '', driver = '', memory = '', computeCapability = ''] = row
        .split(',')
        .map(cell => cell.trim())
      return { name, driver, memory, computeCapability }
    })
}

/**
 * The tools and sources that the result was made with.
 *
 * @param {string} root
 * @returns {Record<string, string>}
 */
export function describeVersions(root) {
  const firstLine = (/** @type {string} */ command) =>
    firstOutput(command, ['--version']).split('\n')[0] || 'missing'
  return {
    alambic: readJson(join(root, 'package.json')).version,
    sources: readJson(join(root, 'bundle.json'))?.sources ?? sourcesOf(root),
    node: process.versions.node,
    cmake: firstLine('cmake'),
    compiler: firstLine(process.env['CXX'] || 'c++'),
    nvcc:
      firstOutput('nvcc', ['--version'])
        .split('\n')
        .find(line => line.includes('release')) ?? 'missing',
  }
}

/**
 * Which commit these sources are, and whether they were changed since.
 *
 * @param {string} root
 * @returns {string}
 */
export function sourcesOf(root) {
  const git = (/** @type {string[]} */ ...args) => firstOutput('git', ['-C', root, ...args])
  const commit = git('rev-parse', 'HEAD')
  if (commit === '') return 'unknown'
  return git('status', '--porcelain') === '' ? commit : `${commit}, changed`
}

/** @returns {string} */
function distribution() {
  if (!existsSync('/etc/os-release')) return type()
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? type()
}

/**
 * What a quick command prints; empty where it is missing or fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @returns {string}
 */
function firstOutput(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000 })
  return status === 0 ? stdout.trim() : ''
}
