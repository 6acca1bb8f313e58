/**
 * Weights saved for Python and loaded from it, and a training that goes on from a checkpoint.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  loadCheckpoint,
  loadStateDict,
  models,
  optim,
  randn,
  saveCheckpoint,
  saveStateDict,
  type nn,
} from 'alambic'

const folder = await mkdtemp(join(tmpdir(), 'alambic-weights-'))

// Python: safetensors.torch.load_file('model.safetensors'), or torch.load('model.pt', weights_only=True).
const model = models.resnet20()
await saveStateDict(model.stateDict(), join(folder, 'model.safetensors'))
await saveStateDict(model.stateDict(), join(folder, 'model.pt'))

// The format is recognised by the content. Weights saved from DataParallel have a prefix: { prefix: 'module.' }.
const copy = models.resnet20()
copy.loadStateDict(await loadStateDict(join(folder, 'model.pt')))

// All keys that differ are in one error, and nothing was changed.
try {
  models.resnet32().loadStateDict(await loadStateDict(join(folder, 'model.safetensors')))
} catch (error) {
  console.log(String(error).slice(0, 120), '…')
}

// A checkpoint holds everything that is needed to go on.
const optimizer = new optim.Adam(model.parameters(), { lr: 1e-3 })
model
  .forward(randn([2, 3, 32, 32]))
  .sum()
  .backward()
optimizer.step()
const path = join(folder, 'checkpoint.pt')
await saveCheckpoint({ epoch: 1, state_dict: model.stateDict(), optimizer: optimizer.stateDict() }, path)

interface Checkpoint {
  epoch: number
  state_dict: nn.StateDict
  optimizer: optim.OptimizerStateDict
}
const checkpoint = await loadCheckpoint<Checkpoint>(path)
copy.loadStateDict(checkpoint.state_dict)
const resumed = new optim.Adam(copy.parameters())
resumed.loadStateDict(checkpoint.optimizer)
console.log(
  `Goes on after epoch ${checkpoint.epoch} with a learning rate of ${String(resumed.stateDict().param_groups[0]?.['lr'])}.`,
)

await rm(folder, { recursive: true })
