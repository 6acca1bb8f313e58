import { Command, InvalidArgumentError, Option } from 'commander'
import type { CompareFlags } from './run/compare.js'
import { parseSeeds, withOverrides } from './train.js'

export interface DemoFlags {
  data: DataName
  dataDir?: string
  trainSize?: number
  methods: Method[]
  teacherEpochs?: number
  epochs?: number
  batchSize: number
  lr: number
  seed: number
  device: string
  plot?: string | false
  json?: boolean
}

const dataNames = ['procedural', 'fashion-mnist', 'mnist', 'cifar10'] as const
type DataName = (typeof dataNames)[number]

const allMethods = ['alone', 'logits', 'features', 'attention'] as const
type Method = (typeof allMethods)[number]

/** `alambic demo`: a teacher, a student alone, and students distilled from the teacher, on real images. */
export function demoCommand(): Command {
  return trainingCommand('demo', ['alone', 'features', 'attention']).description(
    'train a teacher, a student alone, and students distilled with features and with attention; compare them',
  )
}

/** `alambic compare`: recipes, or methods of distillation, beside each other on equal terms. */
export function compareCommand(): Command {
  return withOverrides(trainingCommand('compare', [...allMethods], 'comparison.svg'))
    .description(
      'train as several recipes say, from the same seeds, and print mean ± deviation; without recipes: one student ' +
        'without a teacher, with logits only, with features and with attention, from the same initial weights and ' +
        'data order, with a plot',
    )
    .argument(
      '[recipes...]',
      'recipes to compare; other options than the next four are for comparisons without',
    )
    .option('--seeds <n,…>', "seeds instead of the recipes'; each makes a run of each recipe", parseSeeds)
    .option('--folder <dir>', 'where the runs of recipes are kept (default: runs)')
    .action(async (recipes: string[], flags: DemoFlags & CompareFlags) => {
      if (recipes.length === 0) return runCommand(flags)
      const { compareRecipes } = await import('./run/compare.js')
      return compareRecipes(recipes, flags)
    })
}

function trainingCommand(name: string, methods: Method[], plot?: string): Command {
  return new Command(name)
    .addOption(new Option('--data <name>', 'data set').choices(dataNames).default('procedural'))
    .option('--data-dir <dir>', 'folder with the files of the data set')
    .option('--train-size <n>', 'use only so many training images', count)
    .addOption(
      new Option('--methods <list>', `comma-separated: ${allMethods.join(', ')}`)
        .argParser(parseMethods)
        .default(methods),
    )
    .option('--teacher-epochs <n>', 'epochs of the teacher', count)
    .option('--epochs <n>', 'epochs of each student', count)
    .option('--batch-size <n>', 'images per step', count, 64)
    .option('--lr <rate>', 'highest learning rate of Adam (one cycle)', rate, 4e-3)
    .option('--seed <n>', 'of the data, the initial weights and the order', wholeNumber, 1)
    .option('--device <device>', 'cpu, cuda or cuda:N', 'cpu')
    .option('--plot <file.svg>', 'draw accuracy over epochs', plot)
    .option('--no-plot', 'draw nothing')
    .option('--json', 'print the results as JSON, and progress on standard error')
    .action(runCommand)
}

// Loaded there: `alambic --help` needs no libtorch.
async function runCommand(flags: DemoFlags): Promise<void> {
  const { runDemo } = await import('./run/demo.js')
  await runDemo(flags)
}

function count(text: string): number {
  return integer(text, 1)
}

function wholeNumber(text: string): number {
  return integer(text, 0)
}

function integer(text: string, least: number): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
    throw new InvalidArgumentError(`expected an integer of at least ${least}.`)
  return value
}

function rate(text: string): number {
  const value = Number(text)
  if (!(value > 0 && value < Infinity)) throw new InvalidArgumentError('expected a number above 0.')
  return value
}

function parseMethods(text: string): Method[] {
  const names = text.split(',').map(name => name.trim())
  const unknown = names.find(name => !allMethods.includes(name as Method))
  if (unknown !== undefined)
    throw new InvalidArgumentError(
      `expected a list of ${allMethods.join(', ')}; got ${JSON.stringify(unknown)}.`,
    )
  return names as Method[]
}
