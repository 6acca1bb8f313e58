/** What a step of a run costs with the teacher's outputs from a cache, against the same step with the teacher. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Distiller } from '../lib/index.js'
import { atLeast, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { contest } from './contest.js'
import { endlessRun, PacedEpochs, stepsPerTurn } from './paced-epochs.js'
import { pairs, type Pair } from './pairs.js'
import { formatMilliseconds, formatTable, formatTimes } from './table.js'

function startRun(pair: Pair, compile: boolean, folder: string | null): PacedEpochs {
  const run = new Distiller({
    ...endlessRun(pair, compile),
    ...(folder !== null && { teacherCache: { mode: 'always', folder } as const }),
  })
  return new PacedEpochs((pause, signal) => run.on('epoch', pause).start({ signal }), stepsPerTurn)
}

interface CacheResult {
  step: string
  teacher: number
  cached: number
  timesAsFast: number
}

async function measure(pair: Pair, compile: boolean, rounds: number, folder: string): Promise<CacheResult> {
  const [teacher, cached] = [startRun(pair, compile, null), startRun(pair, compile, folder)]
  const times = await contest(
    { teacher: { run: () => teacher.step() }, cached: { run: () => cached.step() } },
    { rounds, warmups: 2 },
  )
  await Promise.all([teacher.close(), cached.close()])
  return { step: compile ? 'compiled' : 'eager', ...times, timesAsFast: times.teacher / times.cached }
}

async function run({ rounds, progress, wanted }: BenchmarkContext): Promise<BenchmarkResult> {
  const pair = pairs[0]!
  const folder = await mkdtemp(join(tmpdir(), 'alambic-bench-'))
  const results: CacheResult[] = []
  try {
    for (const compile of [false, true]) {
      if (!wanted(compile ? 'compiled' : 'eager')) continue
      progress(compile ? 'compiled' : 'eager')
      results.push(await measure(pair, compile, rounds, folder))
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return {
    data: results,
    table: formatTable(
      [`${pair.name}, batch ${pair.batch}`, 'with the teacher', 'from the cache', 'times as fast'],
      results.map(({ step, teacher, cached, timesAsFast }) => [
        step,
        formatMilliseconds(teacher),
        formatMilliseconds(cached),
        formatTimes(timesAsFast),
      ]),
      1,
    ),
    targets: results.flatMap(({ step, timesAsFast }) =>
      atLeast(`a cached teacher, ${pair.name}, ${step}`, 1.8, timesAsFast),
    ),
  }
}

export const cache: Benchmark = {
  name: 'cache',
  description: "a step of a run with the teacher's outputs from a cache, against one with the teacher",
  defaultRounds: 9,
  run,
}
