/** What `alambic export` does. */
import { AlambicError } from '../errors.js'
import { checkTarget, exportTorchScript } from '../export/torchscript.js'
import { randn } from '../tensors/factories.js'
import { loadStateDict } from '../io/index.js'
import * as models from '../models/index.js'
import { nearest } from '../checks/names.js'
import type { Module } from '../nn/module.js'

export interface ExportFlags {
  model: string
  input: number[]
  weights?: string
  entry?: string
  prefix?: string
  classes?: number
  freeze?: boolean
  training?: boolean
}

/** What makes a network: `resnet20`, `wrn_16_2` … */
const makers = Object.fromEntries(
  Object.entries(models).filter(([name]) => /^[a-z]/.test(name)),
) as unknown as Record<string, (options: { classes?: number; inChannels?: number }) => Module>

export async function exportModel(file: string, flags: ExportFlags): Promise<void> {
  const { input, weights, entry, prefix, freeze, training } = flags
  checkTarget(file, { freeze, training })
  const model = makeModel(flags)
  if (weights !== undefined) model.loadStateDict(await loadStateDict(weights, { entry }), { prefix })
  const warn = (line: string) => console.error(line)
  await exportTorchScript(model, [randn(input)], file, { freeze, training, warn })
  const filled = weights === undefined ? 'initial weights' : `weights of ${weights}`
  console.log(
    `${file}: ${flags.model}, ${model.parameterCount().toLocaleString('en')} parameters, ${filled}; ` +
      'loaded again and compared',
  )
}

function makeModel({ model, classes, input }: ExportFlags): Module {
  const make = Object.hasOwn(makers, model) ? makers[model] : undefined
  if (make !== undefined) return make({ classes, inChannels: input[1] })
  const names = Object.keys(makers)
  const near = nearest(model, names, 3)
  throw new AlambicError(
    'ERR_ARGUMENT',
    `--model: there is no network ${JSON.stringify(model)}; ` +
      (near.length > 0 ? `near names: ${near.join(', ')}; ` : '') +
      `there are: ${names.join(', ')}`,
  )
}
