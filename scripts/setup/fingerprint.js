import { createHash } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

/**
 * The files of a folder and of all folders inside it, relative to `root`, in a stable order.
 *
 * @param {string} root
 * @param {string} folder
 * @param {RegExp} pattern of the file's name
 * @returns {string[]}
 */
export function filesIn(root, folder, pattern) {
  return readdirSync(join(root, folder), { recursive: true })
    .map(name => join(folder, String(name)))
    .filter(file => pattern.test(basename(file)) && statSync(join(root, file)).isFile())
    .sort()
}

/**
 * A hash over names and contents of files and over further values that a result depends on.
 *
 * @param {string} root
 * @param {string[]} files relative to root
 * @param {unknown} [extra]
 * @returns {string}
 */
export function fingerprint(root, files, extra = null) {
  const hash = createHash('sha256').update(JSON.stringify(extra))
  for (const file of files) {
    hash.update(`\0${file}\0${statSync(join(root, file)).size}\0`).update(readFileSync(join(root, file)))
  }
  return hash.digest('hex')
}
