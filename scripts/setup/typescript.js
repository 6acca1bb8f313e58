import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { readJson, writeJson } from '../../lib/native/state.js'
import { filesIn, fingerprint } from './fingerprint.js'
import { run } from './run.js'

/**
 * @param {string} root
 * @returns {boolean}
 */
export function typescriptBuilt(root) {
  return (
    readJson(stampFile(root))?.sources === sourcesOf(root).hash &&
    existsSync(join(root, 'dist', 'cli', 'main.js'))
  )
}

/**
 * @param {string} root
 * @param {{ verbose: boolean }} options
 */
export async function buildTypescript(root, { verbose }) {
  const { files, hash } = sourcesOf(root)
  const before = /** @type {string[]} */ (readJson(stampFile(root))?.files ?? [])
  // The compiler does not remove what it once made from a file that is gone.
  if (before.some(file => !files.includes(file))) rmSync(join(root, 'dist'), { recursive: true, force: true })
  rmSync(stampFile(root), { force: true })
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  await run(process.execPath, [compiler, '-p', 'tsconfig.build.json'], { cwd: root, verbose })
  writeJson(stampFile(root), { sources: hash, files })
}

/** @param {string} root */
function stampFile(root) {
  return join(root, 'dist', '.setup.json')
}

/** @param {string} root */
function sourcesOf(root) {
  const files = [...filesIn(root, 'lib', /\.(ts|js|json)$/), 'tsconfig.json', 'tsconfig.build.json']
  return { files, hash: fingerprint(root, files) }
}
