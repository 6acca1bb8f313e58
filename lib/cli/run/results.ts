/** Results as text: last, best and mean of the last ten are always told apart. */
import Table from 'cli-table3'
import type { RunResult } from '../../run/index.js'

export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? '-' : `${value.toFixed(2)}%`
}

const weightsOf = { best: 'weights of the best epoch', last: 'last weights', ema: 'moving average' }

export function renderResult(result: RunResult): string {
  const { best, comparedBy, last, meanOfLastTen, testAccuracy, chosen, epochs, seconds, changes, folder } =
    result
  const rows: [name: string, value: string][] =
    comparedBy === null
      ? []
      : [
          [`last epoch, on the ${comparedBy} data`, percent(last)],
          [
            `best epoch`,
            `${percent(best?.accuracy)} (epoch ${best?.epoch ?? '-'}${best?.isAverage ? ', moving average' : ''})`,
          ],
          ['mean of the last ten', percent(meanOfLastTen)],
        ]
  if (testAccuracy !== null)
    rows.push([
      `test data${comparedBy === 'test' ? '' : ', once'}, with the ${weightsOf[chosen]}`,
      percent(testAccuracy),
    ])
  const width = Math.max(...rows.map(([name]) => name.length), 0)
  const lines = [
    `${epochs.length} epochs, ${seconds.toFixed(0)} s${result.endedEarly ? ', ended by patience' : ''}`,
    ...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`),
    ...(comparedBy === 'test'
      ? ['epochs were compared by the test data: the best is too high by chance']
      : []),
    ...changes.map(change => `changed by hand: ${change}`),
    ...(folder === null ? [] : [`kept in ${folder}`]),
  ]
  return lines.join('\n')
}

/** Mean and sample standard deviation. */
export function spread(values: readonly number[]): { mean: number; deviation: number | null } {
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length
  if (values.length < 2) return { mean, deviation: null }
  const squares = values.reduce((sum, each) => sum + (each - mean) ** 2, 0)
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) }
}

function spreadText(values: readonly (number | null | undefined)[]): string {
  const there = values.filter(value => value !== null && value !== undefined)
  if (there.length === 0) return '-'
  const { mean, deviation } = spread(there)
  return deviation === null ? mean.toFixed(2) : `${mean.toFixed(2)} ± ${deviation.toFixed(2)}`
}

/** The runs of one recipe. */
export interface ComparedRuns {
  name: string
  parameters: number
  results: RunResult[]
}

/** Accuracies in percent, mean ± standard deviation over the seeds. */
export function renderComparison(rows: readonly ComparedRuns[], colors: boolean): string {
  const results = rows.flatMap(row => row.results)
  const comparedBy = results.find(result => result.comparedBy !== null)?.comparedBy ?? 'validation'
  const seeds = Math.max(...rows.map(row => row.results.length))
  const table = new Table({
    head: ['recipe', 'parameters', 'test', `best (${comparedBy})`, 'last', 'mean of last ten', 'seconds'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: colors ? {} : { head: [], border: [] },
  })
  for (const { name, parameters, results } of rows)
    table.push([
      name,
      parameters.toLocaleString('en-US'),
      spreadText(results.map(result => result.testAccuracy)),
      spreadText(results.map(result => result.best?.accuracy)),
      spreadText(results.map(result => result.last)),
      spreadText(results.map(result => result.meanOfLastTen)),
      spreadText(results.map(result => result.seconds)),
    ])
  const notes = [
    `accuracy in %, ${seeds === 1 ? 'one seed' : `mean ± standard deviation over ${seeds} seeds`}`,
    ...(comparedBy === 'test'
      ? ['epochs were compared by the test data: their best is too high by chance']
      : []),
    ...rows.flatMap(({ name, results }) =>
      results.flatMap(({ changes }) => changes.map(change => `${name}, changed by hand: ${change}`)),
    ),
  ]
  return `${table.toString()}\n${notes.join('\n')}`
}
