#!/usr/bin/env node
/** The command `alambic`. Each subcommand is a file beside this one. */
import { Command } from 'commander'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AlambicError } from '../errors.js'
import { packageRoot } from '../native/loader.js'
import { compareCommand, demoCommand } from './demo.js'
import { doctorCommand } from './doctor.js'
import { exportCommand } from './export.js'
import { inspectCommand } from './inspect.js'
import { setupCommand } from './setup.js'

const manifest = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
  version: string
  description: string
}

const program = new Command('alambic')
  .description(manifest.description)
  .version(manifest.version)
  .addCommand(demoCommand())
  .addCommand(compareCommand())
  .addCommand(inspectCommand())
  .addCommand(exportCommand())
  .addCommand(doctorCommand())
  .addCommand(setupCommand())

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof AlambicError)) throw error
  console.error(`alambic: ${error.message} (${error.code})`)
  process.exitCode = 1
}
