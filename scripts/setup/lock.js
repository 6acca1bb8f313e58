import { randomUUID } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 250
const SETTLE_MS = 50

/**
 * Runs `work` while no other process holds the same lock. A lock whose owner is gone is taken over.
 *
 * @template T
 * @param {string} file
 * @param {(owner: string) => void} onWait called once when somebody else holds the lock
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(file, onWait, work) {
  const token = `${hostname()} ${process.pid} ${randomUUID()}`
  mkdirSync(dirname(file), { recursive: true })
  for (let waited = false; !(await acquire(file, token)); waited = true) {
    if (!waited) onWait(readOwner(file))
    await sleep(POLL_MS)
  }
  try {
    return await work()
  } finally {
    if (readOwner(file) === token) rmSync(file, { force: true })
  }
}

/**
 * @param {string} file
 * @param {string} token
 * @returns {Promise<boolean>}
 */
async function acquire(file, token) {
  if (!create(file, token)) {
    const owner = readOwner(file)
    if (owner === '' || isAlive(owner)) return false
    rmSync(file, { force: true })
    if (!create(file, token)) return false
  }
  // Two processes may both have found the old owner gone, and one have removed the other's fresh lock.
  await sleep(SETTLE_MS)
  return readOwner(file) === token
}

/**
 * A link appears with its content, so that nobody reads a lock without an owner.
 *
 * @param {string} file
 * @param {string} token
 * @returns {boolean} false when the file is there already
 */
function create(file, token) {
  const written = `${file}.${randomUUID()}`
  writeFileSync(written, token)
  try {
    linkSync(written, file)
    return true
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(written)
  }
}

/**
 * @param {string} file
 * @returns {string} empty when the lock was released meanwhile
 */
function readOwner(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return ''
    throw error
  }
}

/**
 * @param {string} owner
 * @returns {boolean}
 */
function isAlive(owner) {
  const [host, pid] = owner.split(' ')
  if (host !== hostname()) return true // nothing is known about the processes of other machines
  try {
    process.kill(Number(pid), 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}
