#!/usr/bin/env node
/**
 * Makes a clone ready to run, from nothing but Node: npm packages, libtorch, the addon, the compiled TypeScript.
 * What is up to date is left alone; when all of it is, this takes a fraction of a second and prints nothing.
 */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { coresIn, tryInChild } from '../lib/native/addon.js'
import { cacheFolder, describeSearch, findLibtorch, minorVersion } from '../lib/native/libtorch.js'
import { readChoice, writeChoice } from '../lib/native/state.js'
import { dependenciesInstalled, installDependencies, isSourceTree } from './setup/dependencies.js'
import { SetupError } from './setup/errors.js'
import { installLibtorch } from './setup/install-libtorch.js'
import { withLock } from './setup/lock.js'
import { buildNative, nativeBuilt } from './setup/native.js'
import { Progress } from './setup/progress.js'
import { BUILD_TOOLS, INSTALL_TOOLS, requireTools } from './setup/tools.js'
import { buildTypescript, typescriptBuilt } from './setup/typescript.js'

/** @typedef {import('../lib/native/libtorch.js').Libtorch} Libtorch */

const OLDEST_NODE = 20
const USAGE = `Usage: npm run setup [-- OPTIONS]

Installs the npm packages, finds or installs libtorch, compiles the addon and the TypeScript.

  --yes         installs missing tools and system packages without asking (as CI=true does)
  --verbose     shows the output of the commands that it runs
  --only-addon  leaves the npm packages and the TypeScript alone, for node-gyp
  --help        prints this`

/**
 * @typedef {object} Examination
 * @property {boolean} dependencies whether the npm packages are there
 * @property {Libtorch | null} libtorch what is there to build for
 * @property {boolean} remembered whether the loader will take that one
 * @property {boolean} native whether the addon for it is built and works
 * @property {boolean} typescript whether dist/ is up to date
 */

/**
 * What is done already.
 *
 * @param {string} root
 * @param {Options} options
 * @returns {Examination}
 */
function examine(root, { onlyAddon }) {
  const libtorch = chooseLibtorch(root)
  const addonIsAll = onlyAddon || !isSourceTree(root)
  return {
    dependencies: addonIsAll || dependenciesInstalled(root),
    libtorch,
    remembered: libtorch !== null && readChoice(root)?.root === libtorch.root,
    native: libtorch !== null && addonWorks(root, libtorch),
    typescript: addonIsAll || typescriptBuilt(root),
  }
}

/**
 * @param {string} root
 * @returns {Libtorch | null} null when one has to be installed
 */
function chooseLibtorch(root) {
  const { libtorch, lookedAt } = findLibtorch({ accept: libtorch => reasonToPassOver(root, libtorch) })
  if (libtorch === null && process.env['LIBTORCH']) {
    throw new SetupError(`LIBTORCH names no usable libtorch:\n${describeSearch(lookedAt)}`)
  }
  return libtorch
}

/**
 * An installed package that brought binaries prefers a libtorch that they are for, and compiles only for one that the
 * user names.
 *
 * @param {string} root
 * @param {Libtorch} libtorch
 * @returns {string | null}
 */
function reasonToPassOver(root, { source, version, headers }) {
  const prebuilt = prebuiltCores(root)
  if (minorVersion(version) in prebuilt) return null
  if (!headers) return 'it has no headers to compile against'
  const mayCompile = source === 'LIBTORCH' || Object.keys(prebuilt).length === 0
  return mayCompile ? null : 'there is no binary for it'
}

/**
 * The binaries that an installed package brought along. A clone compiles its own sources.
 *
 * @param {string} root
 */
function prebuiltCores(root) {
  return isSourceTree(root) ? {} : coresIn(prebuiltFolder(root))
}

/** @param {string} root */
function prebuiltFolder(root) {
  return join(root, 'prebuilds', `${process.platform}-${process.arch}`)
}

/**
 * @param {string} root
 * @param {Libtorch} libtorch
 * @returns {boolean}
 */
function addonWorks(root, libtorch) {
  return nativeBuilt(root, libtorch) || prebuiltWorks(root, libtorch)
}

/**
 * @param {string} root
 * @param {Libtorch} libtorch
 * @returns {boolean}
 */
function prebuiltWorks(root, libtorch) {
  const core = prebuiltCores(root)[minorVersion(libtorch.version)]
  const loader = join(prebuiltFolder(root), 'alambic.node')
  return core !== undefined && typeof tryInChild({ loader, core, libtorch }) !== 'string'
}

/**
 * @param {string} root
 * @param {Options} options
 */
async function setUp(root, options) {
  if (isComplete(examine(root, options))) return
  const progress = new Progress(options)
  const lock = join(isSourceTree(root) ? join(root, 'build') : cacheFolder(), 'setup.lock')
  const onWait = (/** @type {string} */ owner) =>
    progress.note(`waiting for the set-up that is under way (process ${owner.split(' ')[1]}, ${lock})`)
  await withLock(lock, onWait, () => doWhatIsMissing(root, { ...options, progress }))
}

/** @param {Examination} done */
function isComplete(done) {
  return done.dependencies && done.remembered && done.native && done.typescript
}

/**
 * @param {string} root
 * @param {Options & { progress: Progress }} options
 */
async function doWhatIsMissing(root, options) {
  const { yes, verbose, progress } = options
  const done = examine(root, options)
  const mayUsePrebuilt = done.libtorch === null && Object.keys(prebuiltCores(root)).length > 0
  const buildTools = done.native || mayUsePrebuilt ? [] : BUILD_TOOLS
  await requireTools([...buildTools, ...(done.libtorch ? [] : INSTALL_TOOLS)], { yes, progress })

  if (!done.dependencies) {
    await progress.step('npm packages', () => installDependencies(root, { verbose }))
  }
  const libtorch = done.libtorch ?? (await installLibtorch({ yes, progress }))
  if (!addonWorks(root, libtorch)) {
    progress.note(`libtorch ${libtorch.version} (${libtorch.source}) in ${libtorch.root}`)
    const title = `addon for libtorch ${minorVersion(libtorch.version)}`
    const lacking = await progress.step(title, detail => buildNative(root, libtorch, { verbose, detail }))
    if (lacking !== null) progress.note(lacking)
  }
  if (!done.remembered) writeChoice(root, libtorch, { onlyForThisPath: false })
  if (!done.typescript) await progress.step('TypeScript', () => buildTypescript(root, { verbose }))
}

/** @typedef {{ yes: boolean, verbose: boolean, onlyAddon: boolean }} Options */

/**
 * @param {string[]} args
 * @returns {Options | null} null when only the usage is wanted
 */
function parseArguments(args) {
  const unknown = args.find(arg => !['--yes', '--verbose', '--only-addon', '--help'].includes(arg))
  if (unknown !== undefined) throw new SetupError(`unknown option ${unknown}\n${USAGE}`)
  if (args.includes('--help')) return null
  return {
    yes: args.includes('--yes') || process.env['CI'] === 'true',
    verbose: args.includes('--verbose'),
    onlyAddon: args.includes('--only-addon'),
  }
}

async function main() {
  const options = parseArguments(process.argv.slice(2))
  if (options === null) {
    console.log(USAGE)
    return
  }
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw new SetupError(`Node ${OLDEST_NODE} or newer is needed, this is ${process.versions.node}`)
  }
  await setUp(join(dirname(fileURLToPath(import.meta.url)), '..'), options)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(`\n[setup] ${error.message}`)
  process.exitCode = 1
}
