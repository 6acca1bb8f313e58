import Table from 'cli-table3'
import type { EpochReport } from '../../distill/index.js'

/** A trained model, as measured. */
export interface Row {
  name: string
  parameters: number
  /** Epochs that were finished; fewer than planned when stopped. */
  history: EpochReport[]
  stopped: boolean
}

/** Accuracy after the last finished epoch, in percent. */
export function finalAccuracy(row: Row): number | undefined {
  return row.history.at(-1)?.accuracy
}

export function secondsPerEpoch({ history }: Row): number | undefined {
  if (history.length === 0) return undefined
  return history.reduce((sum, report) => sum + report.seconds, 0) / history.length
}

/** The results as text. `baseline` is the name of the row that others are compared with. */
export function renderTable(rows: readonly Row[], baseline: string, colors: boolean): string {
  const reference = rows.find(row => row.name === baseline)
  const table = new Table({
    head: ['model', 'accuracy', `vs ${baseline}`, 'parameters', 'epochs', 'time/epoch'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
    style: colors ? {} : { head: [], border: [] },
  })
  for (const row of rows)
    table.push([
      row.stopped ? `${row.name} (stopped)` : row.name,
      percent(finalAccuracy(row)),
      row === reference || row.name === 'teacher'
        ? ''
        : difference(finalAccuracy(row), reference && finalAccuracy(reference)),
      row.parameters.toLocaleString('en-US'),
      row.history.length,
      seconds(secondsPerEpoch(row)),
    ])
  return table.toString()
}

function percent(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(2)}%`
}

function difference(value: number | undefined, reference: number | undefined): string {
  if (value === undefined || reference === undefined) return '-'
  const points = value - reference
  return `${points < 0 ? '−' : '+'}${Math.abs(points).toFixed(2)}`
}

function seconds(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(1)} s`
}
