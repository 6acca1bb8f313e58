/** `alambic models`: the networks that recipes and `export` know by name. */
import { Command } from 'commander'
import { collect } from './train.js'

export function modelsCommand(): Command {
  return (
    new Command('models')
      .description('list the networks that a recipe can name, with their parameters and layers')
      .argument('[name]', 'only this one, with all paths of its layers')
      .option('--import <file>', 'a module that registers networks of your own (repeatable)', collect, [])
      .option('--json', 'print the list as JSON')
      // Loaded there: `alambic --help` needs no libtorch.
      .action(async (name: string | undefined, flags: { import: string[]; json?: boolean }) =>
        (await import('./run/models.js')).listModels(name, flags),
      )
  )
}
