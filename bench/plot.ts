/** The results as a drawing: ratios as points, growth as lines. */
import { writeFile } from 'node:fs/promises'
import * as vega from 'vega'
import * as vegaLite from 'vega-lite'
import type { GrowthPoint, Ratio } from './benchmark.js'

/** Writes an SVG file; growth goes into a second one beside it. */
export async function plot(
  path: string,
  ratios: readonly Ratio[],
  growth: readonly GrowthPoint[],
): Promise<void> {
  if (ratios.length > 0) await draw(path, drawRatios(ratios))
  if (growth.length > 0) await draw(path.replace(/(\.svg)?$/, '-growth.svg'), drawGrowth(growth))
}

async function draw(path: string, spec: object): Promise<void> {
  const complete = { background: 'white', ...spec } as vegaLite.TopLevelSpec
  const view = new vega.View(vega.parse(vegaLite.compile(complete).spec), { renderer: 'none' })
  await writeFile(path, await view.toSVG())
}

function drawRatios(ratios: readonly Ratio[]): object {
  const values = ratios.map(each => each.timesAsFast)
  const domain = [Math.min(0.5, ...values), Math.max(2, ...values) * 1.5]
  return {
    title: 'Times as fast as Python on the same libtorch',
    vconcat: unique(ratios.map(each => each.group)).map((group, i, groups) => ({
      title: { text: group, anchor: 'start', frame: 'group', fontSize: 11 },
      width: 420,
      height: { step: 14 },
      data: { values: ratios.filter(each => each.group === group) },
      encoding: {
        y: { field: 'name', type: 'nominal', sort: null, axis: { title: null, labelLimit: 400 } },
        x: {
          field: 'timesAsFast',
          type: 'quantitative',
          scale: { type: 'log', domain },
          axis: {
            title: null,
            labels: i === groups.length - 1,
            values: [0.5, 1, 2, 5, 10, 20, 50, 100],
            format: '~g',
            gridColor: { condition: { test: 'datum.value === 1', value: 'black' }, value: '#dddddd' },
          },
        },
      },
      layer: [
        { mark: { type: 'point', filled: true, opacity: 1, size: 45 } },
        {
          mark: { type: 'text', align: 'left', dx: 7, fontSize: 9 },
          encoding: { text: { field: 'timesAsFast', type: 'quantitative', format: '.2f' } },
        },
      ],
    })),
  }
}

function drawGrowth(growth: readonly GrowthPoint[]): object {
  const chart = (along: string, field: 'milliseconds' | 'megabytes') => ({
    width: 180,
    height: 140,
    data: { values: growth.filter(each => each.along === along && each[field] !== null) },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: along },
      y: { field, type: 'quantitative', title: field },
      color: { field: 'what', type: 'nominal', title: null, sort: unique(growth.map(each => each.what)) },
    },
  })
  const alongs = unique(growth.map(each => each.along))
  return {
    title: 'Growth of time and memory',
    vconcat: (['milliseconds', 'megabytes'] as const).map(field => ({
      hconcat: alongs.map(along => chart(along, field)),
    })),
  }
}

function unique(values: string[]): string[] {
  return [...new Set(values)]
}
