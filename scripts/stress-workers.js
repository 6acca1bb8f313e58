/**
 * Starts workers that compute and terminates them at random moments: `npm run stress:workers`. Each workload runs in a
 * process of its own, which must live, compute rightly in its main thread after each round, and exit with 0.
 *
 *     npm run stress:workers -- --workers 20 --rounds 50 --only compiled,script --seed 7
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { exportTorchScript, models, ones, randn } from '../dist/index.js'

const script = fileURLToPath(import.meta.url)
const workerScript = new URL('stress-workers.worker.js', import.meta.url)

/** What `stress-workers.worker.js` can do. */
export const workloads = [
  'operators',
  'results',
  'losses',
  'training',
  'compiled',
  'distillation',
  'script',
  'loading',
  'files',
  'optimizers',
  'capture',
  'scopes',
  'garbage',
  'random',
  'layers',
]

const { values } = parseArgs({
  options: {
    workers: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '50' },
    only: { type: 'string', default: workloads.join() },
    seed: { type: 'string', default: String(Date.now() % 1e6) },
    /** For the process of one workload. */
    host: { type: 'string' },
    folder: { type: 'string', default: '' },
  },
})
const workers = count('workers', values.workers)
const rounds = count('rounds', values.rounds)
const seed = count('seed', values.seed)

if (values.host !== undefined) await stress(values.host, values.folder)
else await stressAll(values.only.split(','))

/**
 * @param {string} name
 * @param {string} text
 * @returns {number}
 */
function count(name, text) {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 0)
    throw new Error(`--${name}: expected a number, got ${text}`)
  return number
}

/** @param {string[]} names */
async function stressAll(names) {
  for (const name of names)
    if (!workloads.includes(name)) throw new Error(`--only: ${name} is none of ${workloads.join(', ')}`)
  console.log(`${workers} workers, ${rounds} rounds, seed ${seed}`)
  const folder = mkdtempSync(join(tmpdir(), 'alambic-stress-'))
  try {
    const model = new models.ConvNet({ widths: [4, 4, 8, 8] }).eval()
    await exportTorchScript(model, [randn([4, 3, 16, 16])], join(folder, 'model.pt'))
    for (const name of names) {
      const began = performance.now()
      const end = await runHost(name, folder)
      console.log(`${name}: ${end} after ${((performance.now() - began) / 1000).toFixed(1)} s`)
      if (end !== 'lived') process.exitCode = 1
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * @param {string} name
 * @param {string} folder
 * @returns {Promise<string>} how the process ended
 */
function runHost(name, folder) {
  const args = [
    '--host',
    name,
    '--folder',
    folder,
    '--workers',
    `${workers}`,
    '--rounds',
    `${rounds}`,
    '--seed',
    `${seed}`,
  ]
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
  return new Promise(resolve => {
    child.once('close', (code, signal) => {
      resolve(code === 0 ? 'lived' : `DIED with ${signal ?? code}`)
    })
  })
}

/**
 * The rounds of one workload, in this process.
 *
 * @param {string} workload
 * @param {string} folder
 */
async function stress(workload, folder) {
  const random = randomFrom(seed)
  const x = ones([64])
  for (let round = 0; round < rounds; round++) {
    await Promise.all(Array.from({ length: workers }, (_, i) => runWorker(workload, folder, i, random)))
    if (x.mul(2).sum().item() !== 128) throw new Error(`round ${round + 1}: the main thread computes wrongly`)
  }
}

/**
 * Every third worker is terminated while it starts, the others a little after they began to compute.
 *
 * @param {string} workload
 * @param {string} folder
 * @param {number} number
 * @param {() => number} random
 */
async function runWorker(workload, folder, number, random) {
  const workerData = { workload, folder, number }
  await sleep(100 * random())
  const worker = new Worker(workerScript, { workerData, execArgv: [] })
  const failed = new Promise((_, reject) => worker.once('error', reject))
  const ready = new Promise(resolve => worker.once('message', resolve))
  await Promise.race([failed, number % 3 === 0 ? sleep(500 * random()) : ready])
  await Promise.race([failed, sleep(60 * random())])
  await Promise.race([failed, worker.terminate()])
}

/**
 * Mulberry32: numbers from 0 to 1 that a seed determines.
 *
 * @param {number} state
 * @returns {() => number}
 */
function randomFrom(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
