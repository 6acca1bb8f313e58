/** What `npm run bench -- --plot` draws is where the numbers say. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GrowthPoint } from '../bench/benchmark.js'
import { fitsOf } from '../bench/growth.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-plot-'))
const ratiosFile = join(folder, 'ratios.svg')
const growthFile = join(folder, 'ratios-growth.svg')
afterAll(() => rmSync(folder, { recursive: true }))

const batches = [16, 32, 64, 128]
const growth: GrowthPoint[] = [
  ...batches.map(x => ({
    what: 'loss, mse',
    along: 'batch, images',
    x,
    milliseconds: 2 * x + 5, // on a line
    megabytes: x === 128 ? 900 : 4 * x, // not
  })),
  ...[1, 2, 3].map(x => ({
    what: 'distillation step',
    along: 'levels of features',
    x,
    milliseconds: 80 + 4 * x ** 2,
    megabytes: 100,
  })),
]
const ratios = [0.5, 1, 2, 8].map(timesAsFast => ({ group: 'losses', name: `${timesAsFast}`, timesAsFast }))

interface Position {
  x: number
  y: number
}

/** Where the drawing has the points whose description contains a text, in order, within their panel. */
function pointsOf(file: string, text: string): Position[] {
  return marksOf(file, 'point', text).map(mark => {
    const [, x, y] = /translate\(([^,]+),([^)]+)\)/.exec(mark)!
    return { x: Number(x), y: Number(y) }
  })
}

/** The ends of the lines. */
function linesOf(file: string, text: string): [Position, Position][] {
  return marksOf(file, 'line mark', text).map(mark => {
    const [, x1, y1, x2, y2] = / d="M([^,]+),([^L]+)L([^,]+),([^"L]+)"/.exec(mark)!.map(Number)
    return [
      { x: x1!, y: y1! },
      { x: x2!, y: y2! },
    ]
  })
}

/** Elements with this role and description. */
function marksOf(file: string, role: string, text: string): string[] {
  const elements = readFileSync(file, 'utf8').match(/<path [^>]*>/g) ?? []
  return elements.filter(
    each =>
      each.includes(`aria-roledescription="${role}"`) &&
      /aria-label="([^"]*)"/.exec(each)?.[1]?.includes(text),
  )
}

/** Of three points in a row on a straight line, how far along the second is: (b − a) / (c − a). */
const along = (a: number, b: number, c: number) => (b - a) / (c - a)

// The packages for plots are not among those that a bundle for a GPU machine has.
describe.skipIf(!existsSync(fileURLToPath(new URL('../node_modules/vega', import.meta.url))))(
  '--plot',
  () => {
    beforeAll(async () => {
      const { plot } = await import('../bench/plot.js')
      await plot(ratiosFile, ratios, growth)
    })

    it('draws each measured point of growth to scale, in time and in memory', () => {
      const time = pointsOf(growthFile, 'milliseconds')
      const memory = pointsOf(growthFile, 'megabytes')
      expect(time).toHaveLength(growth.length)
      expect(memory).toHaveLength(growth.length)
      const [first, second, , last] = time as [Position, Position, Position, Position]
      expect(along(first.x, second.x, last.x)).toBeCloseTo(along(16, 32, 128), 4)
      expect(along(first.y, second.y, last.y)).toBeCloseTo(along(37, 69, 261), 4)
      const heights = memory.slice(0, 4).map(({ y }) => y)
      expect(along(heights[0]!, heights[1]!, heights[3]!)).toBeCloseTo(along(64, 128, 900), 4)
      expect(last.y).toBeLessThan(first.y) // upwards
    })

    it('draws the line of least squares through them, from the first to the last', () => {
      const points = pointsOf(growthFile, 'milliseconds').slice(0, 4)
      const lines = linesOf(growthFile, 'milliseconds')
      expect(lines).toHaveLength(1)
      const [from, to] = lines[0]!
      expect(from.x).toBeCloseTo(points[0]!.x, 2)
      expect(from.y).toBeCloseTo(points[0]!.y, 2)
      expect(to.x).toBeCloseTo(points[3]!.x, 2)
      expect(to.y).toBeCloseTo(points[3]!.y, 2)
    })

    it('draws it where least squares has it when the points are not on a line', () => {
      const points = pointsOf(growthFile, 'megabytes').slice(0, 4)
      const [[from, to]] = linesOf(growthFile, 'megabytes') as [[Position, Position]]
      const fitted = fitsOf(growth).find(fit => fit.field === 'megabytes')!
      const at = (x: number) => fitted.intercept + fitted.slope * x
      const height = (megabytes: number) =>
        points[0]!.y + along(64, megabytes, 900) * (points[3]!.y - points[0]!.y)
      expect(from.y).toBeCloseTo(height(at(16)), 2)
      expect(to.y).toBeCloseTo(height(at(128)), 2)
      expect(Math.abs(to.y - points[3]!.y)).toBeGreaterThan(1)
    })

    it('names both axes with their units, the series, and how well the lines fit', () => {
      const drawing = readFileSync(growthFile, 'utf8')
      for (const text of [
        'time, ms',
        'memory added, MiB',
        'batch, images',
        'levels of features',
        'loss, mse',
        'R² ≥ 1.000',
      ])
        expect(drawing).toContain(`>${text}</text>`)
    })

    it('has a ground of its own, so that its black text is read on any page', () => {
      for (const file of [ratiosFile, growthFile])
        expect(readFileSync(file, 'utf8')).toMatch(/<rect width="(\d+)" height="(\d+)" fill="white"\/>/)
    })

    it('draws ratios on a logarithmic scale', () => {
      const [half, one, two, eight] = pointsOf(ratiosFile, 'timesAsFast').map(({ x }) => x) as [
        number,
        number,
        number,
        number,
      ]
      expect(one - half).toBeCloseTo(two - one, 4)
      expect(eight - two).toBeCloseTo(2 * (two - one), 4)
      expect(two).toBeGreaterThan(one)
    })
  },
)

describe('fitsOf', () => {
  it('has slope, intercept and R² of least squares', () => {
    // Python: statistics.linear_regression([16, 32, 64, 128], [64, 128, 256, 900]), and correlation squared
    const [time, memory] = fitsOf(growth)
    expect(time).toMatchObject({ field: 'milliseconds', slope: 2, intercept: 5, determination: 1 })
    expect(memory!.slope).toBeCloseTo(7.584782608, 6)
    expect(memory!.intercept).toBeCloseTo(-118.086956521, 6)
    expect(memory!.determination).toBeCloseTo(0.958511577, 6)
  })

  it('leaves out the step along levels, which differ in size', () => {
    expect(fitsOf(growth).map(({ along }) => along)).toEqual(['batch, images', 'batch, images'])
  })
})
