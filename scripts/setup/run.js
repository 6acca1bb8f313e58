import { spawn, spawnSync } from 'node:child_process'
import { SetupError } from './errors.js'

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env]
 * @property {boolean} [verbose] shows the output while it comes; default false
 * @property {(line: string) => void} [onLine] called with every line of output
 */

/**
 * Runs a command without showing its output, which the error carries when it fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<string>} what it printed
 */
export async function run(command, args, { cwd, env, verbose = false, onLine } = {}) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let unfinished = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (/** @type {string} */ text) => {
      output += text
      if (verbose) process.stdout.write(text)
      const lines = (unfinished + text).split(/[\r\n]/)
      unfinished = lines.pop() ?? ''
      if (onLine) lines.forEach(onLine)
    })
  }
  const end = await new Promise((resolve, reject) => {
    child.on('error', error => reject(new SetupError(`${command} could not be run: ${error.message}`)))
    child.on('close', (status, signal) => resolve(signal ?? status))
  })
  if (end !== 0) {
    const shown = verbose ? '' : `\n${output.trim()}`
    throw new SetupError(`${[command, ...args].join(' ')} ended with ${end}${shown}`)
  }
  return output
}

/**
 * Whether a quick command succeeds; its output does not matter.
 *
 * @param {string} command
 * @param {string[]} args
 * @returns {boolean}
 */
export function succeeds(command, args) {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 20_000 }).status === 0
}
