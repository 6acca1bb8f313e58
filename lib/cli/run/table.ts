import Table from 'cli-table3'
import type { EpochReport } from '../../distill/index.js'
import { percent } from './results.js'

/** A trained model, as measured. */
export interface Row {
  name: string
  parameters: number
  /** Epochs that were finished; fewer than planned when stopped. */
  history: EpochReport[]
  stopped: boolean
  /** In percent, on data that were looked at once, at the end; null when stopped. */
  testAccuracy: number | null
}

export function secondsPerEpoch({ history }: Row): number | undefined {
  if (history.length === 0) return undefined
  return history.reduce((sum, report) => sum + report.seconds, 0) / history.length
}

/** The results as text. `baseline` is the name of the row that others are compared with. */
export function renderTable(rows: readonly Row[], baseline: string, colors: boolean): string {
  const reference = rows.find(row => row.name === baseline)
  const table = new Table({
    head: ['model', 'test accuracy', `vs ${baseline}`, 'parameters', 'epochs', 'time/epoch'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
    style: colors ? {} : { head: [], border: [] },
  })
  for (const row of rows)
    table.push([
      row.stopped ? `${row.name} (stopped)` : row.name,
      percent(row.testAccuracy),
      row === reference || row.name === 'teacher'
        ? ''
        : difference(row.testAccuracy, reference?.testAccuracy ?? null),
      row.parameters.toLocaleString('en-US'),
      row.history.length,
      seconds(secondsPerEpoch(row)),
    ])
  return table.toString()
}

function difference(value: number | null, reference: number | null): string {
  if (value === null || reference === null) return '-'
  const points = value - reference
  return `${points < 0 ? '−' : '+'}${Math.abs(points).toFixed(2)}`
}

function seconds(value: number | undefined): string {
  return value === undefined ? '-' : `${value.toFixed(1)} s`
}
