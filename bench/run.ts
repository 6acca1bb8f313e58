/** What a run costs over the bare loop, and whether a step waits for a checkpoint. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { data, Distiller, trainWithObjective } from '../lib/index.js'
import { atMost, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { contest } from './contest.js'
import { endlessRun, PacedEpochs, stepsPerTurn } from './paced-epochs.js'
import { pairs, type Pair } from './pairs.js'
import { median } from './statistics.js'
import { formatMilliseconds, formatTable } from './table.js'

function bareLoop(pair: Pair, compile: boolean): PacedEpochs {
  const { teacher, student, train, batchSize, ...options } = endlessRun(pair, compile)
  const loader = new data.DataLoader(train, { batchSize, shuffle: true })
  return new PacedEpochs(
    (onEpoch, signal) =>
      trainWithObjective(teacher, student, loader, null, { ...options, log: null, onEpoch, signal }),
    stepsPerTurn,
  )
}

/** @param steps gets the milliseconds between the ends of two steps, and whether a checkpoint was begun between them */
function wholeRun(
  pair: Pair,
  compile: boolean,
  folder: string,
  steps: { milliseconds: number; hasCheckpoint: boolean }[],
): PacedEpochs {
  const checkpoint = { everySteps: 2, everyEpochs: Number.MAX_SAFE_INTEGER }
  const run = new Distiller({ ...endlessRun(pair, compile), folder, checkpoint })
  let last = NaN
  let hasCheckpoint = false
  run.on('checkpoint', () => {
    hasCheckpoint = true
  })
  run.on('step', ({ step }) => {
    const now = performance.now()
    if (step > 1) steps.push({ milliseconds: now - last, hasCheckpoint })
    last = now
    hasCheckpoint = false
  })
  return new PacedEpochs((pause, signal) => run.on('epoch', pause).start({ signal }), stepsPerTurn)
}

interface RunCost {
  step: string
  bare: number
  run: number
  /** Of the bare loop's time. */
  share: number
  /** The longest step with a checkpoint, in steps. */
  longest: number
}

async function measure(pair: Pair, compile: boolean, rounds: number, folder: string): Promise<RunCost> {
  const steps: { milliseconds: number; hasCheckpoint: boolean }[] = []
  const [bare, run] = [bareLoop(pair, compile), wholeRun(pair, compile, folder, steps)]
  const times = await contest(
    { bare: { run: () => bare.step() }, run: { run: () => run.step() } },
    { rounds, warmups: 2 },
  )
  await Promise.all([bare.close(), run.close()])
  const usual = median(steps.map(({ milliseconds }) => milliseconds))
  const withCheckpoint = steps.filter(({ hasCheckpoint }) => hasCheckpoint)
  const longest = median(withCheckpoint.map(({ milliseconds }) => milliseconds)) / usual
  return { step: compile ? 'compiled' : 'eager', ...times, share: times.run / times.bare, longest }
}

async function run({ rounds, progress, wanted }: BenchmarkContext): Promise<BenchmarkResult> {
  const pair = pairs[0]!
  const results: RunCost[] = []
  for (const compile of [false, true]) {
    const name = compile ? 'compiled' : 'eager'
    if (!wanted(name)) continue
    progress(name)
    const folder = await mkdtemp(join(tmpdir(), 'alambic-bench-'))
    try {
      results.push(await measure(pair, compile, rounds, folder))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  return {
    data: results,
    table: formatTable(
      [`${pair.name}, batch ${pair.batch}`, 'bare loop', 'run', 'run / bare', 'step with a checkpoint'],
      results.map(({ step, bare, run, share, longest }) => [
        step,
        formatMilliseconds(bare),
        formatMilliseconds(run),
        share.toFixed(3),
        `${longest.toFixed(2)} steps`,
      ]),
      1,
    ),
    targets: results.flatMap(({ step, share, longest }) => [
      ...atMost(`a run over the bare loop, ${step}`, 1.02, share),
      ...atMost(`a step with a checkpoint, in steps, ${step}`, 2, longest),
    ]),
  }
}

export const runCost: Benchmark = {
  name: 'run',
  description: 'a run with metrics and checkpoints against the bare loop',
  defaultRounds: 15,
  run,
}
