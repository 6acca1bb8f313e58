/** Lists networks. */

import Table from 'cli-table3'
import * as models from '../../models/index.js'
import type { Module } from '../../nn/module.js'
import { importModules } from '../import-modules.js'

interface Listed {
  name: string
  parameters: number
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
    const model = await models.create(each)
    list.push({ name: each, parameters: model.parameterCount(), layers: layersOf(model, name !== undefined) })
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(list, null, 2)}\n`)
  else if (name === undefined) process.stdout.write(`${tableOf(list)}\n`)
  else
    process.stdout.write(
      `${name}: ${list[0]!.parameters.toLocaleString('en-US')} parameters\n${list[0]!.layers.join('\n')}\n`,
    )
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
    table.push([name, parameters.toLocaleString('en-US'), layers.join(' ')])
  return table.toString()
}
