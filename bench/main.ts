/**
 * Benchmarks against Python on the same libtorch.
 *
 *     npm run bench [name …] -- [--device cuda] [--json] [--rounds n] [--only text] [--plot file.svg] [--compare earlier.json]
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { Device } from '../lib/index.js'
import { loadAddon } from '../lib/native/loader.js'
import { Progress } from '../scripts/setup/progress.js'
import { preparePythonPeer } from '../scripts/setup/python-peer.js'
import type { Benchmark, BenchmarkResult, Ratio, Target } from './benchmark.js'
import { cache } from './cache.js'
import { dataLoading } from './data.js'
import { isGpu } from './device.js'
import { measureFloors, type Floors } from './floors.js'
import { growth } from './growth.js'
import { losses } from './losses.js'
import { describeMachine, type Machine } from './machine.js'
import { memory } from './memory.js'
import { findPython } from './python.js'
import { runCost } from './run.js'
import { startUp } from './start-up.js'
import { steps } from './steps.js'
import { formatTable } from './table.js'
import { tfjs } from './tfjs.js'
import { tinyOps } from './tiny-ops.js'

const benchmarks: Benchmark[] = [
  tinyOps,
  startUp,
  losses,
  steps,
  dataLoading,
  memory,
  growth,
  cache,
  runCost,
  tfjs,
]

interface Options {
  device: Device
  json?: boolean
  out?: string
  rounds?: number
  plot?: string
  compare?: string
  only?: string
  installPython: boolean
  torchCompile: boolean
}

/** What `--json` prints, and `--compare` reads. */
interface Report {
  machine: Machine & { python: string; openmp: string; floors: Floors }
  ratios: Ratio[]
  targets: Target[]
  benchmarks: Record<string, unknown>
}

async function main(names: string[], options: Options): Promise<void> {
  const { device, json = false, rounds } = options
  const chosen = choose(names, device)
  const earlier = options.compare === undefined ? null : readReport(options.compare)
  const described = describeMachine(device)
  if (options.installPython)
    await preparePythonPeer(
      loadAddon().files.libtorch,
      new Progress({ verbose: false, stream: process.stderr }),
    )
  const found = findPython()
  const python = typeof found === 'string' ? null : found
  const floors = measureFloors(device)
  const machine = {
    ...described,
    python: typeof found === 'string' ? `missing: ${found}` : found.version,
    openmp: describeOpenMp(),
    floors,
  }
  if (!json) printMachine(machine)

  const results: [string, BenchmarkResult][] = []
  for (const benchmark of chosen) {
    const result = await benchmark.run({
      device,
      python,
      torchCompile: options.torchCompile,
      rounds: rounds ?? benchmark.defaultRounds,
      floors,
      wanted: name => name.toLowerCase().includes((options.only ?? '').toLowerCase()),
      progress: text => showProgress(`${benchmark.name}: ${text}`),
    })
    showProgress('')
    results.push([benchmark.name, result])
    if (!json) console.log(`\n${benchmark.name}: ${benchmark.description}\n${result.table}`)
  }
  const report: Report = {
    machine,
    ratios: results.flatMap(([, { ratios = [] }]) => ratios),
    targets: results.flatMap(([, { targets = [] }]) => targets),
    benchmarks: Object.fromEntries(results.map(([name, { data }]) => [name, data])),
  }
  if (options.out !== undefined) writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`)
  if (json) console.log(JSON.stringify(report, null, 2))
  else {
    if (report.targets.length > 0) console.log(`\ntargets\n${renderTargets(report.targets)}`)
    if (earlier) console.log(`\nagainst ${options.compare!}\n${renderComparison(report, earlier)}`)
  }
  if (options.plot !== undefined) {
    const { plot } = await import('./plot.js')
    await plot(
      options.plot,
      report.ratios,
      results.flatMap(([, { growth = [] }]) => growth),
    )
  }
}

function printMachine({ floors, ...machine }: Report['machine']): void {
  const { bandwidth, gemm } = floors
  const rows = {
    ...machine,
    floors:
      `memory ${(bandwidth / 1e9).toFixed(1)} GB/s; matrix product ${(gemm.float32 / 1e9).toFixed(0)} GFLOP/s float32, ` +
      `${(gemm.bfloat16 / 1e9).toFixed(0)} bfloat16`,
  }
  for (const [name, value] of Object.entries(rows)) console.log(`${name.padEnd(13)}${value}`)
}

function describeOpenMp(): string {
  const { GOMP_SPINCOUNT, OMP_WAIT_POLICY, OMP_NUM_THREADS } = process.env
  const given = Object.entries({ GOMP_SPINCOUNT, OMP_WAIT_POLICY, OMP_NUM_THREADS })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value!}`)
  if (GOMP_SPINCOUNT !== undefined || OMP_WAIT_POLICY !== undefined)
    return `${given.join(', ')} on both sides`
  return ['Alambic as it sets itself, Python as it comes', ...given].join(', ')
}

function renderTargets(targets: Target[]): string {
  const rows = targets.map(({ what, target, measured, met }) => [
    what,
    target,
    measured,
    met ? 'met' : 'MISSED',
  ])
  const missed = targets.filter(({ met }) => !met).length
  return `${formatTable(['what', 'target', 'measured', ''], rows, 1)}\n${targets.length - missed} of ${targets.length} met`
}

function readReport(path: string): Report {
  return JSON.parse(readFileSync(path, 'utf8')) as Report
}

/** Ratios carry over from run to run and, roughly, from machine to machine; times do not. */
function renderComparison(now: Report, before: Report): string {
  const key = ({ group, name }: Ratio) => `${group}: ${name}`
  const known = new Map(before.ratios.map(ratio => [key(ratio), ratio.timesAsFast]))
  const rows = now.ratios.flatMap(ratio => {
    const then = known.get(key(ratio))
    return then === undefined
      ? []
      : [[key(ratio), then.toFixed(2), ratio.timesAsFast.toFixed(2), (ratio.timesAsFast / then).toFixed(2)]]
  })
  const machines = [before, now].map(
    ({ machine }) => `${machine.cpu}, ${machine.threads} threads, ${machine.libtorch}`,
  )
  const note = machines[0] === machines[1] ? '' : `the machines differ: ${machines.join(' and ')}\n`
  return note + formatTable(['times as fast as Python', 'then', 'now', 'now / then'], rows, 1)
}

/** Those of these names; without names all that this device has. */
function choose(names: string[], device: Device): Benchmark[] {
  const measured = (benchmark: Benchmark) => benchmark.onGpu === true || !isGpu(device)
  if (names.length === 0) return benchmarks.filter(measured)
  const chosen = names.map(findBenchmark)
  const other = chosen.find(benchmark => !measured(benchmark))
  if (other) throw new Error(`${other.name} is not about GPUs: leave out --device ${device}`)
  return chosen
}

function findBenchmark(name: string): Benchmark {
  const found = benchmarks.find(each => each.name === name)
  if (found) return found
  throw new Error(`there is no benchmark ${name}; there are ${benchmarks.map(each => each.name).join(', ')}`)
}

/** A line that is written over; without a terminal, lines. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
  else if (text !== '') process.stderr.write(`${text}\n`)
}

function toRounds(text: string): number {
  const rounds = Number(text)
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new InvalidArgumentError('expected a whole number of at least 1')
  return rounds
}

await new Command('npm run bench')
  .description('Benchmarks against Python on the same libtorch')
  .argument('[names...]', benchmarks.map(({ name, description }) => `${name}: ${description}`).join('\n'))
  .addOption(
    new Option('--device <device>', 'where both sides compute').choices(['cpu', 'cuda']).default('cpu'),
  )
  .option('--json', 'print the results for programs')
  .option('--out <file.json>', 'write them to a file, beside the tables')
  .option('--only <text>', 'of each benchmark only what has this text in its name')
  .option('--plot <file.svg>', 'draw the ratios, and growth into a file …-growth.svg beside it')
  .option('--compare <report.json>', 'compare with what --json printed earlier')
  .option('--no-install-python', "do without Python's figures where its packages are missing")
  .option('--no-torch-compile', 'leave out torch.compile, which takes minutes')
  .option('--rounds <number>', 'how often each measurement is taken', toRounds)
  .action(main)
  .parseAsync()
