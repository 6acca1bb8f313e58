/** `alambic evaluate`: what there is to say about a run's student. */
import { Command, Option } from 'commander'
import type { EvaluateFlags } from './run/evaluate.js'
import { withOverrides } from './train.js'

export function evaluateCommand(): Command {
  return withOverrides(new Command('evaluate'))
    .description("measure a run's student: top 1, top 5, loss, calibration, agreement with the teacher")
    .argument('<run>', 'the folder of the run, or a recipe with --weights')
    .option('--weights <file>', "other weights than the run's student.safetensors")
    .addOption(
      new Option('--on <part>', 'which part of the data (default: test, else validation)').choices([
        'test',
        'validation',
        'train',
      ]),
    )
    .option('--json', 'print the figures as JSON')
    .action(async (run: string, flags: EvaluateFlags) =>
      (await import('./run/evaluate.js')).evaluateRun(run, flags),
    )
}
