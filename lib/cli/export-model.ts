/** What `alambic export` does. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { AlambicError } from '../errors.js'
import { checkTarget, exportTorchScript } from '../export/torchscript.js'
import { nearest } from '../checks/names.js'
import { isPlainObject } from '../checks/realms.js'
import { randn } from '../tensors/factories.js'
import { loadStateDict } from '../io/index.js'
import { inspectWeights } from '../io/inspect.js'
import * as models from '../models/index.js'
import type { Module } from '../nn/module.js'
import { RunFolder } from '../run/folder.js'
import type { StudentDescription } from '../run/index.js'
import { importModules } from './import-modules.js'

export interface ExportFlags {
  output?: string
  model?: string
  input?: number[]
  import: string[]
  weights?: string
  entry?: string
  prefix?: string
  classes?: number
  freeze?: boolean
  training?: boolean
}

/** A network with its weights, and what it is recorded with. */
interface Subject {
  file: string
  name: string
  model: Module
  input: readonly number[]
  filled: string
}

export async function exportModel(fileOrRun: string, flags: ExportFlags): Promise<void> {
  const { freeze, training } = flags
  await importModules(flags.import)
  const isRun = existsSync(fileOrRun) && statSync(fileOrRun).isDirectory()
  const subject = isRun ? await studentOf(fileOrRun, flags) : await namedModel(fileOrRun, flags)
  const { file, name, model, input, filled } = subject
  checkTarget(file, { freeze, training })
  const warn = (line: string) => console.error(line)
  await exportTorchScript(model, [randn(input)], file, { freeze, training, warn })
  console.log(
    `${file}: ${name}, ${model.parameterCount().toLocaleString('en')} parameters, ${filled}; ` +
      'loaded again and compared',
  )
}

async function namedModel(file: string, flags: ExportFlags): Promise<Subject> {
  const { model: name, input, weights, entry, prefix, classes } = flags
  if (name === undefined || input === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `export: expected --model and --input, or the folder of a run; ${file} is no folder`,
    )
  checkTarget(file, flags)
  refuseUnknown(name)
  const model = models.create(name, { ...(classes !== undefined && { classes }), inChannels: input[1] })
  if (weights !== undefined) model.loadStateDict(await loadStateDict(weights, { entry }), { prefix })
  const filled = weights === undefined ? 'initial weights' : `weights of ${weights}`
  return { file, name, model, input, filled }
}

function refuseUnknown(model: string): void {
  const names = models.names()
  if (names.includes(model)) return
  const near = nearest(model, names, 3)
  throw new AlambicError(
    'ERR_ARGUMENT',
    `--model: there is no network ${JSON.stringify(model)}; ` +
      (near.length > 0 ? `near names: ${near.join(', ')}; ` : '') +
      `there are: ${names.join(', ')}`,
  )
}

/** By what its file says of it. */
async function studentOf(path: string, flags: ExportFlags): Promise<Subject> {
  const weights = flags.weights ?? new RunFolder(path).student
  const { metadata } = await inspectWeights(weights)
  const about: unknown = JSON.parse(metadata['alambic'] ?? 'null')
  const {
    model: name,
    modelOptions,
    classes,
    inputShape,
  } = (isPlainObject(about) ? about : {}) as StudentDescription
  const input = flags.input ?? (inputShape && [1, ...inputShape])
  if (name === undefined || input === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `${weights}: expected a student that says its network and input, as runs of recipes write it`,
    )
  const context = { ...(classes !== undefined && { classes: classes.length }), inputShape: input.slice(1) }
  const model = models.create(name, modelOptions, context)
  model.loadStateDict(await loadStateDict(weights))
  return {
    file: flags.output ?? join(path, 'student.pt'),
    name,
    model,
    input,
    filled: `weights of ${weights}`,
  }
}
