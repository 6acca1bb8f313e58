/**
 * A training that ends after three of six epochs and goes on from its checkpoint: weights, optimizer, schedule, order of
 * the pictures, random numbers. It ends with the weights of a training without the interruption, bit for bit.
 *
 *     npx tsx examples/resume.ts
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  data,
  getRngState,
  loadCheckpoint,
  manualSeed,
  nn,
  optim,
  saveCheckpoint,
  setRngState,
  torch,
  trainClassifier,
  type Tensor,
} from 'alambic'

interface Checkpoint {
  epoch: number
  model: nn.StateDict
  optimizer: optim.OptimizerStateDict
  scheduler: optim.lrScheduler.SchedulerStateDict
  random: Tensor
}

const pictures = data.proceduralImages({ count: 300, seed: 1, size: 16, classes: 4 })

/** Trains to the end of an epoch, from the checkpoint on where there is one. */
async function train(lastEpoch: number, path: string, saved?: Checkpoint) {
  manualSeed(1)
  const model = new nn.Sequential(
    new nn.Flatten(),
    new nn.Linear(3 * 16 * 16, 32),
    new nn.ReLU(),
    new nn.Dropout(0.2),
    new nn.Linear(32, 4),
  )
  const loader = new data.DataLoader(pictures, { batchSize: 50, shuffle: true, seed: 3 })
  const done = saved?.epoch ?? 0
  let optimizer!: optim.Adam
  let scheduler!: optim.lrScheduler.StepLR
  if (saved) {
    model.loadStateDict(saved.model)
    loader.epoch = done
    setRngState(saved.random)
  }
  await trainClassifier(model, loader, null, {
    epochs: lastEpoch - done,
    log: null,
    optimizer: parameters => (optimizer = new optim.Adam(parameters, { lr: 1e-3 })),
    // The state comes last: a new schedule sets the learning rate with which it begins.
    scheduler: () => {
      scheduler = new optim.lrScheduler.StepLR(optimizer, 2, { gamma: 0.5 })
      if (saved) {
        optimizer.loadStateDict(saved.optimizer)
        scheduler.loadStateDict(saved.scheduler)
      }
      return scheduler
    },
    onEpoch: async ({ epoch, loss }) => {
      console.log(`epoch ${done + epoch}: loss ${loss.toFixed(4)}`)
      const checkpoint: Checkpoint = {
        epoch: done + epoch,
        model: model.stateDict(),
        optimizer: optimizer.stateDict(),
        scheduler: scheduler.stateDict(),
        random: getRngState(),
      }
      await saveCheckpoint(checkpoint, path)
    },
  })
  return model
}

const folder = await mkdtemp(join(tmpdir(), 'alambic-resume-'))
const path = join(folder, 'last.pt')
const whole = await train(6, join(folder, 'whole.pt'))

console.log('interrupted')
await train(3, path)
console.log('resumed')
const resumed = await train(6, path, await loadCheckpoint<Checkpoint>(path))

const weights = resumed.stateDict()
const isEqual = Object.entries(whole.stateDict()).every(([key, each]) => torch.equal(each, weights[key]!))
console.log(isEqual ? 'The weights are those of a training in one go.' : 'The weights differ.')
await rm(folder, { recursive: true })
if (!isEqual) process.exitCode = 1
