/** `alambic export`: one of the built-in networks, with weights from a file, as TorchScript. */
import { Command, InvalidArgumentError } from 'commander'
import type { ExportFlags } from './export-model.js'
import { collect } from './train.js'

export function exportCommand(): Command {
  return new Command('export')
    .description(
      'write the student of a run, or a built-in network with weights from a file, as TorchScript for Python and libtorch',
    )
    .argument('<file>', 'the file to write, such as student.pt; or the folder of a run')
    .option('-o, --output <file>', 'for a run: the file to write (default: student.pt in its folder)')
    .option('-m, --model <name>', 'the network, such as resnet20; a name that is none lists all')
    .option('-i, --input <shape>', 'an input to record the network with, such as 1,3,32,32', parseShape)
    .option(
      '--import <file>',
      "for a run: a module that registers the run's networks (repeatable)",
      collect,
      [],
    )
    .option(
      '-w, --weights <file>',
      'its weights: safetensors or what torch.save wrote (default: initial weights)',
    )
    .option('--entry <path>', 'where in the file the weights are, such as state_dict')
    .option('--prefix <text>', "what the file's keys begin with and the network's do not, such as module.")
    .option('--classes <number>', "outputs (default: the network's)", parseCount)
    .option('--freeze', 'for deployment: parameters become constants, batch norms part of convolutions')
    .option('--training', 'as it behaves in training, to be trained further')
    .action(run)
}

// Loaded there: `alambic --help` needs no libtorch.
async function run(file: string, flags: ExportFlags): Promise<void> {
  const { exportModel } = await import('./export-model.js')
  await exportModel(file, flags)
}

function parseShape(text: string): number[] {
  const shape = text.split(/[,x]/).map(Number)
  if (shape.length !== 4 || !shape.every(size => Number.isInteger(size) && size > 0))
    throw new InvalidArgumentError('Expected four sizes (N, C, H, W), such as 1,3,32,32.')
  return shape
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError('Expected an integer of at least 1.')
  return count
}
