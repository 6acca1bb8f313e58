/** `alambic init`: a recipe to begin with. */
import { Command } from 'commander'
import type { InitFlags } from './run/init.js'

export function initCommand(): Command {
  return (
    new Command('init')
      .description('write a commented recipe to begin with; asks what it is for where there is a terminal')
      .argument('[file]', 'the file to write', 'recipe.yaml')
      .option('--data <name>', 'data set, such as cifar100 or procedural')
      .option('--dir <dir>', 'folder with its files')
      .option('--teacher <model>', 'network of the teacher; none: the student learns from the labels alone')
      .option('--teacher-weights <file>', "the teacher's weights")
      .option('--student <model>', 'network of the student')
      .option('--method <name>', 'method of distillation')
      .option('--yes', 'ask nothing')
      .option('--force', 'write over a file that is there')
      // Loaded there: `alambic --help` needs no libtorch.
      .action(async (file: string, flags: InitFlags) => (await import('./run/init.js')).init(file, flags))
  )
}
