/** `alambic train` and `alambic resume`: runs from recipes. */
import { Command, InvalidArgumentError } from 'commander'
import type { ResumeFlags, TrainFlags } from './run/train.js'

export function trainCommand(): Command {
  return (
    withOverrides(new Command('train'))
      .description('train as a recipe says; the run is kept in a folder and can be resumed')
      .argument('<recipe>', 'a recipe: YAML or JSON')
      .option(
        '--folder <dir>',
        'where the run is kept (default: runs/NAME, with /seed-N for each of several seeds)',
      )
      .option('--seed <n,…>', "seeds instead of the recipe's; each makes a run", parseSeeds)
      .option('--check', 'only look for mistakes in the recipe')
      .option('--json', 'print the results as JSON, and progress on standard error')
      // Loaded there: `alambic --help` needs no libtorch.
      .action(async (recipe: string, flags: TrainFlags) =>
        (await import('./run/train.js')).train(recipe, flags),
      )
  )
}

export function resumeCommand(): Command {
  return withOverrides(new Command('resume'))
    .description('go on with a run where it was interrupted')
    .argument('<run>', 'the folder of the run, or that of the runs of several seeds')
    .option('--json', 'print the results as JSON, and progress on standard error')
    .action(async (run: string, flags: ResumeFlags) => (await import('./run/train.js')).resume(run, flags))
}

/** What is changed in a recipe from outside. */
export function withOverrides(command: Command): Command {
  return command
    .option(
      '--set <key=value>',
      'change a value of the recipe, such as optimizer.lr=0.1 (repeatable)',
      collect,
      [],
    )
    .option(
      '--import <file>',
      'a module that registers methods, networks … of your own (repeatable)',
      collect,
      [],
    )
}

/** For options that can be given several times. */
export function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

export function parseSeeds(text: string): number[] {
  const seeds = text.split(',').map(each => (each.trim() === '' ? NaN : Number(each)))
  if (!seeds.every(seed => Number.isSafeInteger(seed) && seed >= 0))
    throw new InvalidArgumentError('Expected integers of at least 0, such as 1,2,3.')
  return seeds
}
