/** Whole processes: from the start to the first tensor and the end. */
import { atMost, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { library, outputOf } from './child.js'
import { absent, contest, type Contestant } from './contest.js'
import { formatMilliseconds, formatTable } from './table.js'

const nodeProgram = `import { tensor } from ${JSON.stringify(library)}; console.log(tensor([1, 2]).add(1).sum().item())`
const pythonProgram = 'import torch; print(torch.tensor([1.0, 2.0]).add(1).sum().item())'

function timed(command: string, args: readonly string[]): Contestant {
  return {
    async run() {
      const start = performance.now()
      await outputOf(command, args)
      return performance.now() - start
    },
  }
}

async function run({ python, rounds }: BenchmarkContext): Promise<BenchmarkResult> {
  const times = await contest<'node' | 'empty' | 'python'>(
    {
      node: timed(process.execPath, ['--input-type=module', '-e', nodeProgram]),
      empty: timed(process.execPath, ['-e', '0']),
      python: python ? timed(python.executable, ['-W', 'ignore', '-c', pythonProgram]) : absent,
    },
    { rounds, warmups: 1 },
  )
  const share = python && times.node / times.python
  return {
    data: { ...times, share },
    table: formatTable(
      ['process', 'ms'],
      [
        ['Node, import to first tensor', formatMilliseconds(times.node)],
        ['Node, nothing (the floor)', formatMilliseconds(times.empty)],
        ['Python, import torch to first tensor', formatMilliseconds(times.python)],
        ['Node / Python', share?.toFixed(2) ?? '–'],
      ],
      1,
    ),
    ratios:
      share === null
        ? []
        : [{ group: 'whole process', name: 'import to first tensor', timesAsFast: 1 / share }],
    targets: atMost("import to first tensor, of Python's", 0.35, share),
  }
}

export const startUp: Benchmark = {
  name: 'start-up',
  description: 'from the start of a process to its first tensor and its end',
  defaultRounds: 7,
  run,
}
