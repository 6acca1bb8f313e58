/** Measures the student of a run. */
import { existsSync, statSync } from 'node:fs'
import Table from 'cli-table3'
import { DataLoader } from '../../data/loader.js'
import { Unaugmented } from '../../data/dataset.js'
import type { Dataset } from '../../data/dataset.js'
import { assess, type Assessment } from '../../distill/assess.js'
import { AlambicError } from '../../errors.js'
import { loadStateDict } from '../../io/load.js'
import { Module } from '../../nn/module.js'
import { dividedData } from '../../run/data.js'
import { RunFolder } from '../../run/folder.js'
import type { DistillerOptions } from '../../run/index.js'
import { readRecipe, runsIn } from './train.js'

export interface EvaluateFlags {
  set: string[]
  import: string[]
  weights?: string
  on?: 'test' | 'validation' | 'train'
  json?: boolean
}

export async function evaluateRun(path: string, flags: EvaluateFlags): Promise<void> {
  const isFolder = existsSync(path) && statSync(path).isDirectory()
  const folders = isFolder ? runsIn(path).map(each => new RunFolder(each)) : [null]
  if (folders.length === 0)
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${path}: expected the folder of a run, with its recipe.yaml`,
    )
  const measured = []
  for (const folder of folders) measured.push(await evaluateOne(path, folder, flags))
  if (flags.json)
    process.stdout.write(
      `${JSON.stringify(isFolder && measured.length > 1 ? measured : measured[0], null, 2)}\n`,
    )
}

async function evaluateOne(path: string, folder: RunFolder | null, flags: EvaluateFlags): Promise<object> {
  const weights = flags.weights ?? folder?.student
  if (weights === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `evaluate: ${path}: expected the folder of a run, or --weights beside a recipe`,
    )
  const recipe = await readRecipe(folder?.recipe ?? path, flags)
  const options = await recipe.build(recipe.seeds[0])
  options.student.loadStateDict(await loadStateDict(weights))
  const [part, dataset] = partOf(options, flags.on)
  const loader = new DataLoader(new Unaugmented(dataset), { batchSize: options.evaluationBatchSize ?? 256 })
  const { teacher, teacherInput } = options
  const isSingle = teacher instanceof Module
  if (!isSingle && (teacher ?? null) !== null)
    process.stderr.write('agreement and KL are of one teacher, and the recipe has several\n')
  const result = await assess(options.student, loader, {
    ...(isSingle && { teacher }),
    ...(isSingle && teacherInput !== undefined && { teacherInput: teacherInput as never }),
  })
  if (!flags.json)
    process.stdout.write(`${weights} on the ${part} data, ${result.samples} samples\n${render(result)}\n`)
  return { weights, on: part, ...result }
}

function partOf(options: DistillerOptions, wanted: EvaluateFlags['on']): [string, Dataset] {
  const [train, validation] = dividedData(options)
  const parts = { test: options.test ?? null, validation, train }
  const name = wanted ?? (parts.test !== null ? 'test' : 'validation')
  const dataset = parts[name]
  if (dataset !== null) return [name, dataset]
  const there = Object.entries(parts).flatMap(([part, data]) => (data === null ? [] : [part]))
  throw new AlambicError(
    'ERR_ARGUMENT',
    `evaluate: the recipe has no ${name} data; --on ${there.join(' or --on ')}`,
  )
}

function render({ top1, top5, loss, calibrationError, agreement, divergence }: Assessment): string {
  const table = new Table({ style: { head: [], border: [] } })
  table.push(
    ['top 1', `${top1.toFixed(2)}%`],
    ['top 5', `${top5.toFixed(2)}%`],
    ['cross-entropy', loss.toFixed(4)],
    ['expected calibration error', `${calibrationError.toFixed(2)}%`],
  )
  if (agreement !== undefined) table.push(['agreement with the teacher', `${agreement.toFixed(2)}%`])
  if (divergence !== undefined) table.push(['KL from the teacher', divergence.toFixed(4)])
  return table.toString()
}
