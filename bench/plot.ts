/** The results as drawings: ratios as points, growth as points and the lines fitted to them. */
import { writeFile } from 'node:fs/promises'
import * as vega from 'vega'
import * as vegaLite from 'vega-lite'
import type { GrowthPoint, Ratio } from './benchmark.js'
import { fitsOf, type Fit } from './growth.js'

/** Writes the ratios into an SVG file, and growth into a second one beside it: `….svg` and `…-growth.svg`. */
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
        y: { field: 'name', type: 'nominal', sort: null, axis: { title: null, labelLimit: 0 } },
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
        ...[{ stroke: 'white', strokeWidth: 3 }, {}].map(halo => ({
          mark: { type: 'text', align: 'left', dx: 7, fontSize: 9, ...halo },
          encoding: { text: { field: 'timesAsFast', type: 'quantitative', format: '.2f' } },
        })),
      ],
    })),
  }
}

type Field = Fit['field']

const quantities: Record<Field, string> = { milliseconds: 'time, ms', megabytes: 'memory added, MiB' }

/** Told apart by people who see fewer colours; each series has a shape of its own besides. */
const colours = ['#0072b2', '#d55e00', '#009e73', '#aa4499']

function drawGrowth(growth: readonly GrowthPoint[]): object {
  const alongs = unique(growth.map(each => each.along))
  const kinds = unique(growth.map(kindOf))
  const whats = unique(growth.map(each => each.what))
  return {
    title: {
      text: 'Growth of time and memory: what was measured, and straight lines through it',
      offset: 14,
    },
    vconcat: kinds.flatMap(kind =>
      (Object.keys(quantities) as Field[]).map(field => ({
        title: { text: kind, anchor: 'start', fontSize: 11, offset: 0 },
        hconcat: alongs.map(along => {
          const points = growth.filter(each => each.along === along && kindOf(each) === kind)
          return drawPanel(points, along, field, whats)
        }),
        resolve: shared,
      })),
    ),
    resolve: shared,
    config: { axis: { gridColor: '#e8e8e8', tickCount: 5, titleFontWeight: 'normal', titleFontSize: 10 } },
  }
}

/** What takes similar times, and so has a scale: `loss` of `loss, mse`. */
function kindOf({ what }: GrowthPoint): string {
  return what.split(',')[0]!
}

/** One legend for all panels. */
const shared = { scale: { color: 'shared', shape: 'shared' } }

/** `whats`: all series of the drawing. */
function drawPanel(points: readonly GrowthPoint[], along: string, field: Field, whats: string[]): object {
  const fits = fitsOf(points).filter(fit => fit.field === field)
  const ends = fits.flatMap(({ what, from, to, slope, intercept }) =>
    [from, to].map(x => ({ what, x, [field]: intercept + slope * x })),
  )
  const series = { field: 'what', type: 'nominal', scale: { domain: whats } }
  return {
    title: { text: describeFits(fits), anchor: 'end', frame: 'group', fontSize: 10, fontWeight: 'normal' },
    width: 200,
    height: 140,
    layer: [
      { data: { values: ends }, mark: { type: 'line', strokeWidth: 1.5 } },
      {
        data: { values: points },
        mark: { type: 'point', filled: true, opacity: 1, size: 40 },
        encoding: { shape: { ...series, legend: legendBelow } },
      },
    ],
    encoding: {
      x: { field: 'x', type: 'quantitative', scale: { zero: true }, axis: { title: along, tickMinStep: 1 } },
      y: { field, type: 'quantitative', axis: { title: quantities[field] } },
      color: { ...series, scale: { domain: whats, range: colours }, legend: legendBelow },
    },
  }
}

const legendBelow = { title: null, orient: 'bottom', symbolSize: 60, labelLimit: 300 }

/** How well the worst of them fits. */
function describeFits(fits: readonly Fit[]): string {
  if (fits.length === 0) return ''
  return `R² ≥ ${roundDown(Math.min(...fits.map(({ determination }) => determination)))}`
}

/** To three digits. */
function roundDown(value: number): string {
  return (Math.floor(value * 1000) / 1000).toFixed(3)
}

function unique(values: string[]): string[] {
  return [...new Set(values)]
}
