/**
 * Qualifies a machine: see docs/cuda.md. Plain JavaScript, because it builds everything first, and writes its report
 * even when that fails.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeSearch, findLibtorch } from '../lib/native/libtorch.js'
import { readJson } from '../lib/native/state.js'
import { describeMachine, describeVersions } from './gpu-check/machine.js'
import { judge, render, summarizeTests } from './gpu-check/report.js'
import { Budget, endAll, runStage } from './gpu-check/stage.js'
import { dependenciesInstalled } from './setup/dependencies.js'
import { BUILD_TOOLS } from './setup/tools.js'

/** @typedef {import('./gpu-check/report.js').Findings} Findings */
/** @typedef {{ out: string, device: 'cuda' | 'cpu', quick: boolean, seconds: number }} Options */

const USAGE = `Usage: scripts/gpu-check.sh [OPTIONS]

Builds Alambic, runs its tests and benchmarks on a GPU, and writes gpu-check.json and gpu-check.txt.
Ends with 0 only if all tests passed and no target was missed.

  --out DIR      where the two files go, and the output of the parts; default: build/gpu-check
  --device NAME  cuda (default), or cpu to try the check itself
  --quick        the tests that are about the device, and short benchmarks without torch.compile
  --seconds N    how long it may take in all; default: 570
  --help         prints this`

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const say = (/** @type {string} */ text) => console.log(`[gpu-check] ${text}`)

/**
 * @param {string[]} args
 * @returns {Options | null} null when only the usage is wanted
 */
function parseOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: 'string', default: join(root, 'build', 'gpu-check') },
      device: { type: 'string', default: 'cuda' },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '570' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return null
  const { device, seconds } = values
  if (device !== 'cuda' && device !== 'cpu') throw new Error(`--device: expected cuda or cpu, got ${device}`)
  if (!(Number(seconds) > 0)) throw new Error(`--seconds: expected a number above 0, got ${seconds}`)
  return { out: resolve(values.out), device, quick: values.quick, seconds: Number(seconds) }
}

/**
 * What has to be there before anything is built: a bundle must do without the network, so set-up must have nothing to
 * download.
 *
 * @param {Options} options
 * @returns {string | null}
 */
function obstacleToBuilding({ device }) {
  const missing = BUILD_TOOLS.filter(tool => !tool.present()).map(({ name }) => name)
  if (missing.length > 0) return `missing: ${missing.join(', ')}`
  if (existsSync(join(root, 'bundle.json')) && !dependenciesInstalled(root))
    return 'npm packages of the bundle are missing: unpack it again, into an empty folder'
  const { libtorch, lookedAt } = findLibtorch()
  if (libtorch === null)
    return `there is no libtorch: put a Python with torch on PATH, or name its torch folder by LIBTORCH\n${describeSearch(lookedAt)}`
  if (!libtorch.headers) return `libtorch ${libtorch.version} in ${libtorch.root} has no headers`
  if (device === 'cuda' && !libtorch.cuda)
    return `libtorch ${libtorch.version} in ${libtorch.root} is built for the CPU only: name another by LIBTORCH`
  return null
}

/**
 * @param {any} doctor what `alambic doctor --json` prints
 * @param {Options} options
 * @returns {string | null}
 */
function obstacleToRunning(doctor, { device }) {
  if (device === 'cpu') return null
  /** @type {{ name: string }[]} */
  const devices = doctor.devices
  if (devices.some(({ name }) => name.startsWith('cuda'))) return null
  return ['there is no usable GPU', ...doctor.hints].join('\n')
}

/**
 * The test files that run on a chosen device.
 *
 * @returns {string[]}
 */
function deviceTests() {
  const names = readdirSync(join(root, 'test')).filter(name => name.endsWith('.test.ts'))
  const isAboutDevices = (/** @type {string} */ name) =>
    name.startsWith('cuda.') || readFileSync(join(root, 'test', name), 'utf8').includes("'./device.js'")
  return names.filter(isAboutDevices).map(name => join('test', name))
}

/**
 * @param {Options} options
 * @param {Budget} budget
 * @param {Findings} findings filled on the way, and saved after every part: whoever kills the check keeps what was found
 */
async function check(options, budget, findings) {
  const { device, quick, out } = options
  const save = () => saveReport(findings, options)
  const run = async (/** @type {string} */ name, /** @type {string[]} */ command, env = {}) => {
    const log = join(out, `${name.replaceAll(/\W+/g, '-')}.log`)
    const { output, ...stage } = await runStage(name, command, {
      cwd: root,
      env: { ...process.env, ...env },
      log,
      budget,
      say,
    })
    findings.stages.push(stage)
    save()
    return { output, isDone: stage.state === 'done' }
  }
  const stop = (/** @type {string} */ obstacle) => {
    findings.obstacle = obstacle
    save()
  }

  const obstacle = obstacleToBuilding(options)
  if (obstacle !== null) return stop(obstacle)
  if (!(await run('set-up', ['scripts/setup.js'])).isDone) return
  const { output, isDone } = await run('doctor', ['dist/cli/main.js', 'doctor', '--json'])
  if (!isDone) return
  const doctor = JSON.parse(output)
  Object.assign(findings.versions, {
    libtorch: `${doctor.libtorch.version}${doctor.libtorch.cuda ? ', with CUDA' : ', for the CPU'}, ${doctor.libtorch.root}`,
  })
  const reason = obstacleToRunning(doctor, options)
  if (reason !== null) return stop(reason)

  findings.tests = await runTests(options, run)
  save()
  for (const { name, args } of benchmarksFor(device, quick)) {
    const file = join(out, `benchmark-${name}.json`)
    rmSync(file, { force: true })
    const command = ['bench/main.ts', name, '--device', device, '--no-install-python', '--out', file, ...args]
    const { output: table } = await run(`benchmark ${name}`, ['node_modules/tsx/dist/cli.mjs', ...command])
    findings.benchmarks.push({ name, table, results: readJson(file) })
    save()
  }
}

/**
 * @param {Options} options
 * @param {(name: string, command: string[], env?: NodeJS.ProcessEnv) => Promise<unknown>} run
 * @returns {Promise<import('./gpu-check/report.js').Tests | null>}
 */
async function runTests({ device, quick, out }, run) {
  const file = join(out, 'tests.json')
  rmSync(file, { force: true })
  const workers = Math.max(2, Math.min(8, Math.floor(availableParallelism() / 2)))
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', `--maxWorkers=${workers}`]
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`]
  await run('tests', [...vitest, ...reporters, ...(quick ? deviceTests() : [])], {
    ALAMBIC_TEST_DEVICE: device,
  })
  const report = readJson(file)
  return report === null ? null : summarizeTests(report)
}

/**
 * @param {Options['device']} device
 * @param {boolean} quick
 * @returns {{ name: string, args: string[] }[]}
 */
function benchmarksFor(device, quick) {
  const first = ['--only', 'ResNet-56 → ResNet-20 distillation']
  const sizes = device === 'cuda' ? '(128, 256' : '(32, 256'
  return [
    { name: 'losses', args: quick ? ['--rounds', '3', '--only', sizes] : [] },
    { name: 'memory', args: quick ? ['--rounds', '100'] : [] },
    { name: 'steps', args: quick ? [...first, '--rounds', '3', '--no-torch-compile'] : first },
  ]
}

/**
 * @param {Findings} findings
 * @param {Options} options
 */
function saveReport(findings, { out }) {
  const report = judge({ ...findings, seconds: (Date.now() - Date.parse(findings.started)) / 1000 })
  writeFileSync(join(out, 'gpu-check.json'), `${JSON.stringify(report, null, 2)}\n`)
  const text = render(report)
  writeFileSync(join(out, 'gpu-check.txt'), text)
  return { ok: report.ok, text }
}

/** @param {Options} options */
async function main(options) {
  const { device, quick, out } = options
  mkdirSync(out, { recursive: true })
  /** @type {Findings} */
  const findings = {
    device,
    quick,
    started: new Date().toISOString(),
    seconds: 0,
    machine: describeMachine(),
    versions: describeVersions(root),
    finished: false,
    obstacle: null,
    stages: [],
    tests: null,
    benchmarks: [],
  }
  say(device === 'cuda' ? 'on CUDA' : 'ON THE CPU: this says nothing about a GPU')
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
    process.once(signal, () => {
      findings.obstacle = `stopped by ${signal}`
      saveReport(findings, options)
      endAll()
      process.exit(1)
    })
  await check(options, new Budget(options.seconds), findings)
  findings.finished = true
  const { ok, text } = saveReport(findings, options)
  console.log(`\n${text}`)
  say(`written: ${join(out, 'gpu-check.json')} and ${join(out, 'gpu-check.txt')}`)
  if (!ok) process.exitCode = 1
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options === null) console.log(USAGE)
  else await main(options)
} catch (error) {
  if (!(error instanceof Error) || !/^--|^Unknown option|^Option|^Unexpected argument/.test(error.message))
    throw error
  console.error(`gpu-check: ${error.message}\n${USAGE}`)
  process.exitCode = 2
}
