#!/usr/bin/env node
/** The command `alambic`. Each subcommand is a file beside this one. */
import { Command } from 'commander'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AlambicError } from '../errors.js'
import { packageRoot } from '../native/loader.js'
import { completionCommand } from './completion.js'
import { compareCommand, demoCommand } from './demo.js'
import { doctorCommand } from './doctor.js'
import { evaluateCommand } from './evaluate.js'
import { exportCommand } from './export.js'
import { initCommand } from './init.js'
import { inspectCommand } from './inspect.js'
import { modelsCommand } from './models.js'
import { setupCommand } from './setup.js'
import { resumeCommand, trainCommand } from './train.js'

const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
  version: string
  description: string
}

const program = new Command('alambic')
  .description(manifest.description)
  .version(manifest.version)
  .addCommand(demoCommand())
  .addCommand(initCommand())
  .addCommand(trainCommand())
  .addCommand(resumeCommand())
  .addCommand(evaluateCommand())
  .addCommand(compareCommand())
  .addCommand(modelsCommand())
  .addCommand(inspectCommand())
  .addCommand(exportCommand())
  .addCommand(doctorCommand())
  .addCommand(setupCommand())

program.addCommand(completionCommand(program))

// Whoever reads the output may stop reading, such as `head`: that is no reason to end a run.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof AlambicError)) throw error
  console.error(`alambic: ${error.message} (${error.code})`)
  process.exitCode = 1
}
