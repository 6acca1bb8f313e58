/**
 * Keeps the weights of the best epoch, and stops when three epochs in a row were not better.
 *
 *     npx tsx examples/keep-best.ts
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { data, evaluate, loadStateDict, manualSeed, models, saveStateDict, trainClassifier } from 'alambic'

const kind = { size: 16, classes: 4 }
const train = new data.DataLoader(data.proceduralImages({ count: 600, seed: 1, ...kind }), {
  batchSize: 50,
  shuffle: true,
})
const validation = new data.DataLoader(data.proceduralImages({ count: 400, seed: 2, ...kind }), {
  batchSize: 200,
})
const folder = await mkdtemp(join(tmpdir(), 'alambic-best-'))

manualSeed(1)
const model = new models.ConvNet({ widths: [8, 16, 32], classes: 4 })
const stop = new AbortController()
const best = { epoch: 0, accuracy: -1 }

const { history, stopped } = await trainClassifier(model, train, validation, {
  epochs: 12,
  lr: 5e-3,
  signal: stop.signal,
  onEpoch: async ({ epoch, accuracy = 0 }) => {
    if (accuracy > best.accuracy) {
      Object.assign(best, { epoch, accuracy })
      await saveStateDict(model.stateDict(), join(folder, 'best.safetensors'))
    } else if (epoch - best.epoch >= 3) stop.abort()
  },
})

model.loadStateDict(await loadStateDict(join(folder, 'best.safetensors')))
const accuracy = await evaluate(model, validation)
console.log(`${history.length} epochs${stopped ? ', stopped early' : ''}; the best was epoch ${best.epoch}`)
console.log(`Its weights are right in ${accuracy.toFixed(2)} %, as then: ${best.accuracy.toFixed(2)} %`)

await rm(folder, { recursive: true })
