/**
 * Writes the numbers of a training to a file, one line of JSON per epoch, and passes the log lines to a function of your own.
 *
 *     npx tsx examples/log-elsewhere.ts
 */
import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { data, formatEpoch, manualSeed, models, trainClassifier } from 'alambic'

const kind = { size: 16, classes: 4 }
const train = new data.DataLoader(data.proceduralImages({ count: 400, seed: 1, ...kind }), {
  batchSize: 50,
  shuffle: true,
})
const validation = new data.DataLoader(data.proceduralImages({ count: 200, seed: 2, ...kind }), {
  batchSize: 200,
})
const folder = await mkdtemp(join(tmpdir(), 'alambic-log-'))
const file = join(folder, 'metrics.jsonl')

manualSeed(1)
const model = new models.ConvNet({ widths: [8, 16], classes: 4 })
await trainClassifier(model, train, validation, {
  epochs: 3,
  lr: 5e-3,
  log: line => {
    process.stderr.write(`${new Date().toISOString()} ${line}\n`) // null for silence
  },
  logEvery: 1,
  onStep: ({ epoch, step, steps, loss }) => {
    if (step === steps) console.log(`epoch ${epoch}: step ${step} of ${steps}, loss ${loss.toFixed(4)}`)
  },
  onEpoch: async report => {
    await appendFile(file, `${JSON.stringify(report)}\n`)
  },
})

const lines = (await readFile(file, 'utf8')).trim().split('\n')
for (const line of lines) console.log(formatEpoch(JSON.parse(line) as Parameters<typeof formatEpoch>[0]))
await rm(folder, { recursive: true })
