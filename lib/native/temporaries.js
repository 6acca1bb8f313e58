/**
 * Files that are written beside their place before they take it. Their names say whose they are, so that the next one who
 * writes there can clear those of processes that died meanwhile. Plain JavaScript for the reason given in `libtorch.js`.
 *
 * `.model.pt.<machine>-<process>-<its start>-<random>.tmp`
 */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'

/** What another machine left is not touched before it was left alone for so long: nobody here knows whether it lives. */
const FOREIGN_AGE_MS = 24 * 60 * 60 * 1000

/** Names of files have at most 255 bytes, and about 60 come to this one's. */
const LONGEST_BASE = 180

/** Those that this thread is writing. @type {Set<string>} */
const own = new Set()

/**
 * A name beside `target` for what will take its place, and `done` to be called when it has or when it is gone. Whatever
 * dead processes left under such names for the same target is removed.
 *
 * @param {string} target
 * @returns {{ path: string, done: () => void }}
 */
export function temporaryFor(target) {
  const folder = dirname(target)
  const prefix = prefixFor(target)
  const owner = `${machine()}-${process.pid}-${startOf(process.pid) ?? 0}`
  const path = join(folder, `${prefix}${owner}-${randomBytes(6).toString('hex')}.tmp`)
  own.add(path)
  clearDead(folder, prefix)
  return { path, done: () => void own.delete(path) }
}

/**
 * @param {string} target
 * @returns {string}
 */
function prefixFor(target) {
  const name = basename(target)
  if (Buffer.byteLength(name) <= LONGEST_BASE) return `.${name}.`
  return `.${createHash('sha256').update(name).digest('hex').slice(0, 32)}.`
}

/**
 * @param {string} folder
 * @param {string} prefix
 */
function clearDead(folder, prefix) {
  /** @type {string[]} */
  let names
  try {
    names = readdirSync(folder)
  } catch {
    return // Whoever writes into the folder says what is wrong with it.
  }
  for (const name of names) {
    const rest = name.startsWith(prefix) ? name.slice(prefix.length) : ''
    const [, origin, process, start] = /^([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{12}\.tmp$/.exec(rest) ?? []
    const path = join(folder, name)
    if (origin === undefined || process === undefined || start === undefined || own.has(path)) continue
    const isDead = origin === machine() ? !isWriting(Number(process), start, path) : isOld(path)
    // Somebody else may clear it at the same time, or may be the only one who is allowed to.
    if (isDead) ignoringErrors(() => rmSync(path, { recursive: true, force: true }))
  }
}

/**
 * @param {number} pid
 * @param {string} start
 * @param {string} path
 * @returns {boolean}
 */
function isWriting(pid, start, path) {
  if (!isAlive(pid)) return false
  const now = startOf(pid)
  if (start !== '0' && now !== undefined && now !== start) return false // another process has its number now
  return pid !== process.pid || isOpenHere(path)
}

/**
 * Who this process is, so that {@link isRunning} knows it again.
 *
 * @returns {{ machine: string, pid: number, start: string }}
 */
export function thisProcess() {
  return { machine: machine(), pid: process.pid, start: startOf(process.pid) ?? '0' }
}

/**
 * Whether a process may still be at work. Of another machine nobody knows: it counts as one that is.
 *
 * @param {{ machine: string, pid: number, start: string }} other
 * @returns {boolean}
 */
export function isRunning(other) {
  if (other.machine !== machine()) return true
  if (!isAlive(other.pid)) return false
  const now = startOf(other.pid)
  return other.start === '0' || now === undefined || now === other.start
}

/**
 * @param {number} pid
 * @returns {boolean}
 */
function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

/**
 * Whether some thread of this process has it open, as it has until the file is in its place: a worker that was
 * terminated has not. Where that cannot be told, it counts as open.
 *
 * @param {string} path
 * @returns {boolean}
 */
function isOpenHere(path) {
  /** @type {string[]} */
  let descriptors
  try {
    descriptors = readdirSync('/proc/self/fd')
  } catch {
    return true
  }
  const name = basename(path)
  return descriptors.some(
    descriptor => basename(ignoringErrors(() => readlinkSync(`/proc/self/fd/${descriptor}`)) ?? '') === name,
  )
}

/**
 * When a process began, in ticks since the machine did, where the system says so; `'dead'` for one that only waits for
 * its parent to notice.
 *
 * @param {number} pid
 * @returns {string | undefined}
 */
function startOf(pid) {
  const text = ignoringErrors(() => readFileSync(`/proc/${pid}/stat`, 'latin1'))
  // The name, in parentheses, may have spaces and parentheses itself.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields?.[0] === 'Z' || fields?.[0] === 'X' ? 'dead' : fields?.[19]
}

/**
 * @param {string} path
 * @returns {boolean}
 */
function isOld(path) {
  const changed = ignoringErrors(() => statSync(path).mtimeMs)
  return changed !== undefined && Date.now() - changed > FOREIGN_AGE_MS
}

/** @type {string | undefined} */
let machineTag

/**
 * Where the number of a process means this one: the machine, or the container.
 *
 * @returns {string}
 */
function machine() {
  if (machineTag === undefined) {
    const namespace = ignoringErrors(() => readlinkSync('/proc/self/ns/pid')) ?? ''
    machineTag = createHash('sha256').update(`${hostname()} ${namespace}`).digest('hex').slice(0, 8)
  }
  return machineTag
}

/**
 * @template T
 * @param {() => T} action
 * @returns {T | undefined}
 */
function ignoringErrors(action) {
  try {
    return action()
  } catch {
    return undefined
  }
}
