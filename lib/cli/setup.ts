/** `alambic setup`: what `npm run setup` is in a clone, for a package that npm installed. */
import { Command } from 'commander'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { packageRoot } from '../native/loader.js'

export function setupCommand(): Command {
  return new Command('setup')
    .description('find or install libtorch and build what is missing')
    .option('--yes', 'install missing tools and system packages without asking')
    .option('--verbose', 'show the output of the commands that it runs')
    .action((options: { yes?: boolean; verbose?: boolean }) => {
      const script = join(packageRoot, 'scripts', 'setup.js')
      const given = Object.keys(options).map(name => `--${name}`)
      const { status } = spawnSync(process.execPath, [script, ...given], { stdio: 'inherit' })
      process.exitCode = status ?? 1
    })
}
