/** What a Node user would pick without Alambic: TensorFlow.js, installed into the cache when this is run first. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StudentWithFeatureExtraction, trainClassifier } from '../lib/index.js'
import { cacheFolder } from '../lib/native/libtorch.js'
import type { Benchmark, BenchmarkContext, BenchmarkResult } from './benchmark.js'
import { contest } from './contest.js'
import { PacedTraining } from './paced-training.js'
import { makeBatch } from './pairs.js'
import { formatMilliseconds, formatTable } from './table.js'

const version = '4.22.0'
const secondsAtMost = 240

/** The folder in which `@tensorflow/tfjs` is, or why it is not there. */
function install(): { folder: string } | { reason: string } {
  const folder = join(cacheFolder(), `tfjs-${version}`)
  if (existsSync(join(folder, 'node_modules', '@tensorflow', 'tfjs'))) return { folder }
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{}')
  const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', `@tensorflow/tfjs@${version}`]
  const { status, stderr } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8', timeout: 300_000 })
  return status === 0 ? { folder } : { reason: stderr.trim().split('\n').at(-1) || 'npm install did not end' }
}

async function run({ rounds, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  progress('installing TensorFlow.js')
  const installed = install()
  if ('reason' in installed) return { data: null, table: `not installed: ${installed.reason}` }
  const student = new StudentWithFeatureExtraction()
  const training = new PacedTraining(
    (batches, paced) => trainClassifier(student, batches, null, paced),
    makeBatch({ batch: 1, size: 32 }),
  )
  const { alambic } = await contest({ alambic: { run: () => training.step() } }, { rounds, warmups: 3 })
  await training.stop()
  progress('one step of TensorFlow.js')
  const tfjs = stepOf(installed.folder)
  const times = tfjs && tfjs / alambic
  return {
    data: { alambic, tfjs, version },
    table: formatTable(
      ['one step of a small student, one image', 'ms'],
      [
        ['Alambic', formatMilliseconds(alambic)],
        [
          `TensorFlow.js ${version}`,
          tfjs === null ? `more than ${secondsAtMost} s` : formatMilliseconds(tfjs),
        ],
        ['TensorFlow.js / Alambic', times?.toFixed(0) ?? '–'],
      ],
      1,
    ),
  }
}

function stepOf(folder: string): number | null {
  const script = fileURLToPath(new URL('tfjs-step.js', import.meta.url))
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [script, folder], {
    encoding: 'utf8',
    timeout: secondsAtMost * 1000,
  })
  if (error && 'code' in error && error.code === 'ETIMEDOUT') return null
  if (status !== 0) throw error ?? new Error(stderr)
  return (JSON.parse(stdout.slice(stdout.lastIndexOf('{'))) as { milliseconds: number }).milliseconds
}

export const tfjs: Benchmark = {
  name: 'tfjs',
  description:
    'a training step of a small student on one image, against TensorFlow.js (its JavaScript backend)',
  defaultRounds: 9,
  run,
}
