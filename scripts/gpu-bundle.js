/**
 * Packs one archive with all that scripts/gpu-check.sh takes on a machine without a network and without Node: this
 * Node, the sources, dist/, and the npm packages for building and testing. See docs/cuda.md.
 *
 *     npm run gpu:bundle [-- --out FILE]
 */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readJson, writeJson } from '../lib/native/state.js'
import { sourcesOf } from './gpu-check/machine.js'
import { closure } from './gpu-bundle/packages.js'

/** What building and testing take. Left out is what only linting, packaging, plots and types of plots need. */
const PACKAGES = [
  'cli-progress',
  'cli-table3',
  'commander',
  'node-gyp-build',
  'cmake-js',
  'node-addon-api',
  'node-api-headers',
  'tsx',
  'typescript',
  'vitest',
  '@types/node',
  '@types/cli-progress',
]

const MEBIBYTE = 2 ** 20
const LARGEST = 60 * MEBIBYTE
const NAME = 'alambic-gpu-bundle'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** @param {string} archive */
function bundle(archive) {
  const workplace = mkdtempSync(join(tmpdir(), `${NAME}-`))
  try {
    const folder = join(workplace, NAME)
    copySources(folder)
    copyPackages(folder)
    copyNode(join(folder, 'node', 'bin', 'node'))
    writeJson(join(folder, 'bundle.json'), {
      sources: sourcesOf(root),
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
    })
    pack(workplace, archive)
  } finally {
    rmSync(workplace, { recursive: true })
  }
}

/**
 * The tracked files, as they are now, and dist/, which saves the types of everything else.
 *
 * @param {string} folder
 */
function copySources(folder) {
  const listed = execFileSync('git', ['-C', root, 'ls-files', '-z'], {
    encoding: 'utf8',
    maxBuffer: 64 * MEBIBYTE,
  })
  const files = listed.split('\0').filter(file => file !== '' && existsSync(join(root, file)))
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    cpSync(join(root, file), join(folder, file), { preserveTimestamps: true })
  }
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true, preserveTimestamps: true })
}

/**
 * Packages, and lock files that list these alone: set-up sees that nothing is missing.
 *
 * @param {string} folder
 */
function copyPackages(folder) {
  const lock = readJson(join(root, 'package-lock.json'))
  const chosen = closure(lock.packages, PACKAGES, path => existsSync(join(root, path, 'package.json')))
  const isChosen = new Set(['', ...chosen])
  for (const path of chosen)
    cpSync(join(root, path), join(folder, path), {
      recursive: true,
      // Packages inside this one are chosen by themselves; maps are for debugging.
      filter: source => !source.endsWith('.map') && source !== join(root, path, 'node_modules'),
    })
  for (const name of ['package-lock.json', join('node_modules', '.package-lock.json')]) {
    const complete = readJson(join(root, name))
    const packages = Object.fromEntries(
      Object.entries(complete.packages).filter(([path]) => isChosen.has(path)),
    )
    writeJson(join(folder, name), { ...complete, packages })
  }
}

/**
 * This Node without its symbols of debugging, which are a fifth of it.
 *
 * @param {string} path
 */
function copyNode(path) {
  mkdirSync(dirname(path), { recursive: true })
  copyFileSync(process.execPath, path)
  chmodSync(path, 0o755)
  const { error } = spawnSync('strip', ['--strip-all', path], { encoding: 'utf8' })
  if (error) console.log(`[bundle] Node is packed with its symbols: strip: ${error.message}`)
  const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim()
  if (version !== process.version) throw new Error(`the copy of Node says ${version}, not ${process.version}`)
}

/**
 * @param {string} workplace
 * @param {string} archive
 */
function pack(workplace, archive) {
  mkdirSync(dirname(archive), { recursive: true })
  const options = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner']
  execFileSync('tar', [...options, '-I', 'xz -6 -T0', '-cf', archive, '-C', workplace, NAME])
  const { size } = statSync(archive)
  const measured = `${(size / MEBIBYTE).toFixed(1)} MiB`
  if (size > LARGEST) {
    rmSync(archive)
    throw new Error(`the bundle would have ${measured}, and may have ${LARGEST / MEBIBYTE} MiB`)
  }
  console.log(`[bundle] ${archive}: ${measured} of at most ${LARGEST / MEBIBYTE}`)
  console.log(`[bundle] there: tar xf ${archive} && ${NAME}/scripts/gpu-check.sh`)
}

const { values } = parseArgs({
  options: { out: { type: 'string', default: join(root, 'build', `${NAME}.tar.xz`) } },
})
bundle(resolve(values.out))
