import { access, constants, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AlambicError } from '../../errors.js'
import type { Row } from './table.js'

/**
 * Whether {@link writePlot} will be able to: to be asked before hours of training.
 *
 * @throws AlambicError `ERR_ARGUMENT` when the packages vega and vega-lite are not installed, `ERR_FILE_NOT_FOUND` for a
 *   place that cannot be written to
 */
export async function checkPlot(path: string): Promise<void> {
  await loadVega()
  const existing = await stat(path).catch(() => undefined)
  const place = existing === undefined ? dirname(path) : path
  try {
    if (existing?.isDirectory()) throw new Error('it is a folder')
    await access(place, constants.W_OK)
  } catch (error) {
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `--plot: expected a file that can be written, got ${path}: ${(error as Error).message}`,
      { cause: error },
    )
  }
}

/**
 * Draws accuracy over epochs, a line per model, into an SVG file.
 *
 * @throws AlambicError `ERR_ARGUMENT` when the packages vega and vega-lite are not installed
 */
export async function writePlot(path: string, rows: readonly Row[], title: string): Promise<void> {
  const [vega, vegaLite] = await loadVega()
  const values = rows.flatMap(({ name, history }) =>
    history.map(({ epoch, accuracy }) => ({ model: name, epoch, accuracy })),
  )
  const { spec } = vegaLite.compile({
    title,
    width: 560,
    height: 320,
    background: 'white',
    data: { values },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'epoch', type: 'quantitative', axis: { tickMinStep: 1, title: 'epoch' } },
      y: { field: 'accuracy', type: 'quantitative', scale: { zero: false }, axis: { title: 'accuracy, %' } },
      color: { field: 'model', type: 'nominal', sort: rows.map(row => row.name) },
    },
  })
  const view = new vega.View(vega.parse(spec), { renderer: 'none' })
  await writeFile(path, await view.toSVG())
}

async function loadVega(): Promise<[typeof import('vega'), typeof import('vega-lite')]> {
  try {
    return [await import('vega'), await import('vega-lite')]
  } catch (error) {
    throw new AlambicError(
      'ERR_ARGUMENT',
      'the plot needs the packages vega and vega-lite: npm install vega vega-lite; or leave it out with --no-plot',
      {
        cause: error,
      },
    )
  }
}
