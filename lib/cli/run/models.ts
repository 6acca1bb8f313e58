/** Lists networks. */

import Table from 'cli-table3'
import * as models from '../../models/index.js'
import { AlambicError, show } from '../../errors.js'
import type { Module } from '../../nn/module.js'
import { importModules } from '../import-modules.js'

interface Listed {
  name: string
  /** null where options say how many. */
  parameters: number | null
  /** Paths where features can be taken. */
  layers: string[]
}

export async function listModels(
  name: string | undefined,
  flags: { import: string[]; json?: boolean },
): Promise<void> {
  await importModules(flags.import)
  const list: Listed[] = []
  for (const each of name === undefined ? models.names() : [name]) {
    list.push({ name: each, ...describe(each, name !== undefined) })
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(list, null, 2)}\n`)
  else if (name === undefined) process.stdout.write(`${tableOf(list)}\n`)
  else
    process.stdout.write(
      `${name}: ${list[0]!.parameters!.toLocaleString('en-US')} parameters\n${list[0]!.layers.join('\n')}\n`,
    )
}

/** Some networks are made only with options. */
function describe(name: string, isDeep: boolean): Pick<Listed, 'parameters' | 'layers'> {
  let model: Module
  try {
    model = models.create(name)
  } catch (error) {
    if (!isDeep) return { parameters: null, layers: [] }
    if (error instanceof AlambicError) throw error
    throw new AlambicError('ERR_ARGUMENT', `models: ${name} cannot be made: ${show(error)}`, { cause: error })
  }
  return { parameters: model.parameterCount(), layers: layersOf(model, isDeep) }
}

function layersOf(model: Module, isDeep: boolean): string[] {
  const paths = model.namedModules().map(([path]) => path)
  return paths.filter(path => path !== '' && (isDeep || !path.includes('.')))
}

function tableOf(list: readonly Listed[]): string {
  const table = new Table({
    head: ['network', 'parameters', 'layers'],
    colAligns: ['left', 'right', 'left'],
    style: { head: [], border: [] },
  })
  for (const { name, parameters, layers } of list)
    table.push([name, parameters?.toLocaleString('en-US') ?? 'with options only', layers.join(' ')])
  return table.toString()
}
