/** Runs one part of the check in a child process, within the time that is left, and tells what is going on. */
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'

/** @typedef {'done' | 'failed' | 'not finished in time' | 'not run'} StageState */

/**
 * @typedef {object} Stage
 * @property {string} name
 * @property {StageState} state
 * @property {number} seconds
 * @property {string} message the end of its output, where it is not done
 */

/** The time that all parts share. */
export class Budget {
  #end

  /** @param {number} seconds */
  constructor(seconds) {
    this.#end = performance.now() + 1000 * seconds
  }

  /** Seconds. */
  get left() {
    return Math.max(0, (this.#end - performance.now()) / 1000)
  }
}

const secondsBetweenSigns = 15
const linesOfMessage = 12

/**
 * @param {string} name
 * @param {string[]} command arguments of this Node
 * @param {{ cwd: string, env?: NodeJS.ProcessEnv, log: string, budget: Budget, say: (text: string) => void }} options
 * @returns {Promise<Stage & { output: string }>} `output` is what it wrote to standard output
 */
export async function runStage(name, command, { cwd, env = process.env, log, budget, say }) {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  if (budget.left < 1)
    return { name, state: 'not run', seconds: 0, message: 'no time was left for it', output: '' }
  say(`${name} …`)
  const file = createWriteStream(log)
  // A group of its own, so that its children end with it.
  const child = spawn(process.execPath, command, {
    cwd,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let output = ''
  let tail = ''
  child.stdout.setEncoding('utf8').on('data', text => (output += text))
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', text => {
      file.write(text)
      tail = (tail + text).slice(-8000)
    })
  const signs = setInterval(
    () => say(`${name}: ${seconds().toFixed(0)} s, ${lastLines(tail, 1)}`),
    1000 * secondsBetweenSigns,
  )
  let isLate = false
  const alarm = setTimeout(() => {
    isLate = true
    endGroup(child)
  }, 1000 * budget.left)
  const end = await new Promise(resolve => {
    child.on('error', error => resolve(error.message))
    child.on('close', (status, signal) => resolve(signal ?? status))
  })
  clearInterval(signs)
  clearTimeout(alarm)
  running.delete(child)
  file.end()
  await finished(file)
  const state = isLate ? 'not finished in time' : end === 0 ? 'done' : 'failed'
  say(`${name}: ${state}, ${seconds().toFixed(1)} s`)
  const message = state === 'done' ? '' : `ended with ${end}: ${lastLines(tail, linesOfMessage)}`
  return { name, state, seconds: seconds(), message, output }
}

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set()

/** Ends what runs, as when the user stops the check. */
export function endAll() {
  for (const child of running) endGroup(child)
}

/** @param {import('node:child_process').ChildProcess} child */
function endGroup({ pid }) {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error // it has ended by itself
  }
}

/**
 * @param {string} text
 * @param {number} count
 * @returns {string}
 */
function lastLines(text, count) {
  // eslint-disable-next-line no-control-regex -- colours of a terminal
  const plain = text.replace(/\u001b\[[0-9;]*[A-Za-z]/g, '')
  const lines = plain.split(/[\r\n]+/).filter(line => line.trim() !== '')
  return lines.slice(-count).join('\n')
}
