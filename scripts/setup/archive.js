/** The managed copy from the official archive: for machines without a usable Python. */
import { createHash } from 'node:crypto'
import { createWriteStream, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { REFERENCE_VERSION } from '../../lib/native/libtorch.js'
import { SetupError } from './errors.js'
import { makeManagedCopy } from './managed-copy.js'
import { run } from './run.js'

/** @typedef {import('../../lib/native/libtorch.js').Libtorch} Libtorch */
/** @typedef {import('./progress.js').Progress} Progress */

const ARCHIVES = 'https://download.pytorch.org/libtorch'

/**
 * SHA-256 of the official archives by file name. An archive that is not in here is only taken together with
 * ALAMBIC_LIBTORCH_SHA256.
 *
 * @type {Record<string, string>}
 */
const ARCHIVE_SHA256 = {}

/**
 * @param {{ progress: Progress }} options
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
    makeManagedCopy('cpu', folder => download(url, expected, folder)),
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
