/** `alambic inspect` for TorchScript: the tree of modules, with the shape at every tap. */
import Table from 'cli-table3'
import { printable } from './printable.js'
import {
  inspectScript,
  loadTorchScript,
  type InspectedModule,
  type ScriptSummary,
  type TapShape,
} from '../script/index.js'

export interface InspectScriptFlags {
  /** One text per argument of forward. */
  input?: readonly string[]
  json?: boolean
}

export async function showScript(
  file: string,
  { input = [], json = false }: InspectScriptFlags,
): Promise<void> {
  const model = await loadTorchScript(file, { device: 'cpu' })
  const summary = inspectScript(model, input)
  console.log(json ? JSON.stringify({ file, ...summary }, null, 2) : formatScript(file, summary))
}

export function formatScript(
  file: string,
  { type, training, parameters, methods, modules, output }: ScriptSummary,
): string {
  const table = new Table({
    head: ['module', 'type', 'parameters', 'calls', output ? 'gives, with this input' : 'gives'],
    colAligns: ['left', 'left', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  })
  for (const module of modules)
    table.push([
      module.path === '' ? '(the model)' : printable(module.path),
      printable(module.type),
      module.parameters.toLocaleString('en-US'),
      module.calls === 0 ? '' : String(module.calls),
      module.path === '' && output ? output.map(tensorText).join('\n') : givesText(module),
    ])
  return [
    `${printable(file)}: TorchScript, ${printable(type)} in ${training ? 'training' : 'evaluation'} mode, ` +
      `${parameters.toLocaleString('en-US')} parameters`,
    ...methods.map(
      ({ name, arguments: all, returns }) =>
        `  ${printable(name)}(${all.map(argument => printable(`${argument.name}: ${argument.type}`)).join(', ')}) -> ${printable(returns)}`,
    ),
    table.toString(),
  ].join('\n')
}

/** Calls that give the same are one line. */
function givesText({ gives, taps }: InspectedModule): string {
  if (gives === undefined) return ''
  if (taps === undefined) return printable(gives)
  if (taps.length === 0) return 'did not run'
  const texts = taps.map(tensors => tensors.map(tensorText).join('\n') || 'no tensor')
  const runs = new Map<string, number>()
  for (const text of texts) runs.set(text, (runs.get(text) ?? 0) + 1)
  return Array.from(runs, ([text, count]) => (count === 1 ? text : `${count} × ${text}`)).join('\n')
}

/** With the path where it is not the module's own. */
function tensorText({ path, dtype, shape }: TapShape): string {
  const steps = path.slice(path.indexOf('['))
  const which = path.includes('[') ? `${printable(steps)} ` : ''
  return `${which}${dtype} (${shape.join(', ')})`
}
