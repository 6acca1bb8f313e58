/** `alambic inspect`: what is in a file of weights, or in a model. */
import Table from 'cli-table3'
import { Command } from 'commander'
import { argumentError } from '../errors.js'
import type { TensorSummary, WeightsSummary } from '../io/inspect.js'
import { printable } from './printable.js'

export interface InspectFlags {
  json?: boolean
  /** Of a TorchScript model's forward: one text per argument. */
  input?: string[]
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description(
      'show what a file holds: keys, shapes and dtypes of safetensors and of what torch.save wrote; ' +
        'modules and methods of a TorchScript model, and with an input the shape at every tap',
    )
    .argument('<file>', 'the file, or the index (*.index.json) of several')
    .option('--json', 'print JSON')
    .option(
      '--input <sizes...>',
      "for a model: sizes of forward's arguments, such as 1,3,32,32 or 1,16:int64; numbers as they are",
    )
    .action(inspectFile)
}

/** By content, not by ending. What needs libtorch is loaded here: `alambic --help` needs none. */
async function inspectFile(file: string, flags: InspectFlags): Promise<void> {
  const { fileFormat } = await import('../io/inspect.js')
  switch (await fileFormat(file)) {
    case 'safetensors':
    case 'index':
    case 'torch.save':
    case 'torch.save (old)':
      if (flags.input) throw argumentError('input', 'a TorchScript model to give it to', file)
      await showWeights(file, flags)
      break
    case 'TorchScript':
      await (await import('./inspect-script.js')).showScript(file, flags)
  }
}

async function showWeights(file: string, { json }: InspectFlags): Promise<void> {
  const { inspectWeights } = await import('../io/inspect.js')
  const summary = await inspectWeights(file)
  console.log(json ? JSON.stringify(summary, null, 2) : formatWeights(summary))
}

export function formatWeights(summary: WeightsSummary): string {
  const { file, format, tensors, values, unknown, metadata, totals } = summary
  const hasNotes = tensors.some(tensor => noteOf(tensor) !== '')
  const table = new Table({
    head: ['key', 'shape', 'dtype', 'bytes', ...(hasNotes ? ['memory'] : [])],
    colAligns: ['left', 'left', 'left', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  })
  for (const tensor of tensors) {
    const row = [printable(tensor.key), shapeText(tensor), tensor.dtype, grouped(tensor.bytes)]
    table.push(hasNotes ? [...row, noteOf(tensor)] : row)
  }
  const others = [...Object.entries(values), ...Object.entries(metadata)].map(
    ([key, value]) => `${printable(key)}: ${printable(String(value)).slice(0, 100)}`,
  )
  return [
    `${printable(file)}: ${format}`,
    table.toString(),
    ...others,
    ...Object.entries(unknown).map(
      ([key, what]) => `${printable(key)}: ${printable(what).slice(0, 100)}, which is not read`,
    ),
    `${grouped(totals.tensors)} tensor${totals.tensors === 1 ? '' : 's'}, ${grouped(totals.elements)} elements, ${grouped(totals.bytes)} bytes ` +
      `in a file of ${grouped(totals.fileBytes)}`,
  ].join('\n')
}

function shapeText({ shape }: TensorSummary): string {
  return `(${shape.join(', ')})`
}

function noteOf({ strides, sharesWith }: TensorSummary): string {
  const notes = [
    ...(strides === undefined ? [] : [`strides (${strides.join(', ')})`]),
    ...(sharesWith === undefined ? [] : [`shared with ${printable(sharesWith)}`]),
  ]
  return notes.join(', ')
}

function grouped(value: number): string {
  return value.toLocaleString('en-US')
}
