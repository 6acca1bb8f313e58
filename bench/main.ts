/**
 * Benchmarks against Python on the same libtorch.
 *
 *     npm run bench [name …] -- [--json] [--rounds n]
 */
import { Command, InvalidArgumentError } from 'commander'
import type { Benchmark } from './benchmark.js'
import { describeMachine } from './machine.js'
import { findPython } from './python.js'
import { tinyOps } from './tiny-ops.js'

const benchmarks: Benchmark[] = [tinyOps]

interface Options {
  json?: boolean
  rounds?: number
}

async function main(names: string[], { json = false, rounds }: Options): Promise<void> {
  const chosen = names.length === 0 ? benchmarks : names.map(findBenchmark)
  const found = findPython()
  const python = typeof found === 'string' ? null : found
  const machine = {
    ...describeMachine(),
    python: typeof found === 'string' ? `missing: ${found}` : found.version,
  }
  if (!json) for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(13)}${value}`)

  const data: Record<string, unknown> = {}
  for (const benchmark of chosen) {
    const result = await benchmark.run({
      python,
      rounds: rounds ?? benchmark.defaultRounds,
      progress: text => showProgress(`${benchmark.name}: ${text}`),
    })
    showProgress('')
    data[benchmark.name] = result.data
    if (!json) console.log(`\n${benchmark.name}: ${benchmark.description}\n${result.table}`)
  }
  if (json) console.log(JSON.stringify({ machine, benchmarks: data }, null, 2))
}

function findBenchmark(name: string): Benchmark {
  const found = benchmarks.find(each => each.name === name)
  if (found) return found
  throw new Error(`there is no benchmark ${name}; there are ${benchmarks.map(each => each.name).join(', ')}`)
}

/** A line that is written over, on a terminal. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
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
  .option('--json', 'print the results for programs')
  .option('--rounds <number>', 'how often each measurement is taken', toRounds)
  .action(main)
  .parseAsync()
