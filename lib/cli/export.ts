/** `alambic export`: one of the built-in networks, with weights from a file, as TorchScript. */
import { Command, InvalidArgumentError } from 'commander'
import { AlambicError } from '../errors.js'
import { exportTorchScript } from '../export.js'
import { randn } from '../factories.js'
import { loadStateDict } from '../io/index.js'
import * as models from '../models/index.js'
import { nearest } from '../names.js'
import type { Module } from '../nn/module.js'

interface ExportFlags {
  model: string
  input: number[]
  weights?: string
  entry?: string
  prefix?: string
  classes?: number
  freeze?: boolean
  training?: boolean
}

/** What makes a network: `resnet20`, `wrn_16_2` … */
const makers = Object.fromEntries(
  Object.entries(models).filter(([name]) => /^[a-z]/.test(name)),
) as unknown as Record<string, (options: { classes?: number; inChannels?: number }) => Module>

export function exportCommand(): Command {
  return new Command('export')
    .description('write a built-in network, with weights from a file, as TorchScript for Python and libtorch')
    .argument('<file>', 'the file to write, such as student.pt')
    .requiredOption('-m, --model <name>', `the network: ${Object.keys(makers).join(', ')}`)
    .requiredOption(
      '-i, --input <shape>',
      'an input to record the network with, such as 1,3,32,32',
      parseShape,
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
    .action(exportModel)
}

async function exportModel(file: string, flags: ExportFlags): Promise<void> {
  const { input, weights, entry, prefix, freeze, training } = flags
  const model = makeModel(flags)
  if (weights !== undefined) model.loadStateDict(await loadStateDict(weights, { entry }), { prefix })
  const warn = (line: string) => console.error(line)
  await exportTorchScript(model, [randn(input)], file, { freeze, training, warn })
  const filled = weights === undefined ? 'initial weights' : `weights of ${weights}`
  console.log(
    `${file}: ${flags.model}, ${model.parameterCount().toLocaleString('en')} parameters, ${filled}; ` +
      'loaded again and compared',
  )
}

function makeModel({ model, classes, input }: ExportFlags): Module {
  const make = Object.hasOwn(makers, model) ? makers[model] : undefined
  if (make !== undefined) return make({ classes, inChannels: input[1] })
  const names = Object.keys(makers)
  const near = nearest(model, names, 3)
  throw new AlambicError(
    'ERR_ARGUMENT',
    `--model: there is no network ${JSON.stringify(model)}; ` +
      (near.length > 0 ? `near names: ${near.join(', ')}` : `there are: ${names.join(', ')}`),
  )
}

function parseShape(text: string): number[] {
  const shape = text.split(/[,x]/).map(Number)
  if (shape.length !== 4 || !shape.every(size => Number.isInteger(size) && size > 0))
    throw new InvalidArgumentError('Expected four sizes (N, C, H, W), such as 1,3,32,32.')
  return shape
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('Expected a positive integer.')
  return count
}
