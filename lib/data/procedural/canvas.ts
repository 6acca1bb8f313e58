import type { Random } from '../random.js'
import type { SignedDistance } from './shapes.js'

/** Red, green, blue from 0 to 1. */
export type Colour = readonly [number, number, number]

/** A plane wave: cycles per unit of x and of y, and the phase in cycles. */
interface Wave {
  x: number
  y: number
  phase: number
}

/** Two colours mixed by the product of two waves: stripes, checks or blotches, with soft or hard edges. */
export interface Texture {
  from: Colour
  to: Colour
  first: Wave
  second: Wave
  hard: boolean
}

/** Where a shape lies: its centre, its rotation, and what one unit of the shape measures along its own axes. */
export interface Placement {
  x: number
  y: number
  cos: number
  sin: number
  width: number
  height: number
}

/**
 * A square picture to paint on. Coordinates go from −1 to 1 from left to right and from top to bottom whatever the
 * size. As everywhere in the procedural images, arithmetic is limited to what IEEE 754 defines to the last bit.
 */
export class Canvas {
  /** Red, green and blue planes, row by row, `(3, size, size)`; 0 to 1 before {@link develop}. */
  readonly #planes: Float64Array

  constructor(readonly size: number) {
    this.#planes = new Float64Array(3 * size * size)
  }

  /** Covers the whole picture. */
  fill(texture: Texture): void {
    const { size } = this
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++) this.#blend(row, column, texture, 1)
  }

  /** Paints a shape over what is there, antialiased. */
  paint(shape: SignedDistance, at: Placement, texture: Texture): void {
    const pixelsPerUnit = this.size / 2
    const sharpness = pixelsPerUnit * Math.min(at.width, at.height)
    // No shape reaches farther than 1.14 units from its centre.
    const reach = 1.2 * Math.max(at.width, at.height)
    const [top, bottom] = this.#span(at.y - reach, at.y + reach)
    const [left, right] = this.#span(at.x - reach, at.x + reach)
    for (let row = top; row < bottom; row++) {
      const dy = (row + 0.5) / pixelsPerUnit - 1 - at.y
      for (let column = left; column < right; column++) {
        const dx = (column + 0.5) / pixelsPerUnit - 1 - at.x
        const distance = shape(
          (dx * at.cos + dy * at.sin) / at.width,
          (dy * at.cos - dx * at.sin) / at.height,
        )
        const cover = clamp(0.5 - distance * sharpness)
        if (cover > 0) this.#blend(row, column, texture, cover)
      }
    }
  }

  /**
   * Puts light that falls off in one direction and noise on the picture and writes it as bytes `(3, size, size)`.
   *
   * @param light Brightness in the middle, and what it gains per unit of x and of y.
   * @param noise Standard deviation of the noise per channel, 0 to 1.
   */
  develop(light: readonly [number, number, number], noise: number, random: Random, bytes: Uint8Array): void {
    const { size } = this
    const area = size * size
    for (let row = 0; row < size; row++) {
      const y = ((row + 0.5) * 2) / size - 1
      for (let column = 0; column < size; column++) {
        const x = ((column + 0.5) * 2) / size - 1
        const brightness = light[0] + light[1] * x + light[2] * y
        for (let at = row * size + column; at < 3 * area; at += area) {
          const value = this.#planes[at]! * brightness + noise * nearlyNormal(random)
          bytes[at] = Math.floor(clamp(value) * 255 + 0.5)
        }
      }
    }
  }

  #blend(row: number, column: number, { from, to, first, second, hard }: Texture, cover: number): void {
    const { size } = this
    const x = ((column + 0.5) * 2) / size - 1
    const y = ((row + 0.5) * 2) / size - 1
    let mix = 0.5 + 0.5 * wave(first, x, y) * wave(second, x, y)
    if (hard) mix = clamp((mix - 0.5) * 4 + 0.5)
    for (let channel = 0; channel < 3; channel++) {
      const at = (channel * size + row) * size + column
      const below = this.#planes[at]!
      const paint = from[channel]! + (to[channel]! - from[channel]!) * mix
      this.#planes[at] = below + (paint - below) * cover
    }
  }

  /** The pixels between two coordinates: the first, and the one after the last. */
  #span(low: number, high: number): [number, number] {
    const pixelsPerUnit = this.size / 2
    return [
      Math.max(0, Math.floor((low + 1) * pixelsPerUnit)),
      Math.min(this.size, Math.ceil((high + 1) * pixelsPerUnit)),
    ]
  }
}

const TURN = 4096
const SINE = sineTable()

/** Cosine and sine of a random angle. */
export function randomDirection(random: Random): [cos: number, sin: number] {
  const angle = random.below(TURN)
  return [SINE[(angle + TURN / 4) % TURN]!, SINE[angle]!]
}

function wave({ x: kx, y: ky, phase }: Wave, x: number, y: number): number {
  return SINE[((kx * x + ky * y + phase) * TURN) & (TURN - 1)]!
}

/** The sine of i / 4096 turns, by its Taylor series: `Math.sin` may differ in the last bit between engines. */
function sineTable(): Float64Array {
  const table = new Float64Array(TURN)
  const quarter = TURN / 4
  for (let step = 0; step <= quarter; step++) {
    const angle = (step / quarter) * (Math.PI / 2)
    let series = 1
    for (let term = 10; term >= 1; term--) series = 1 - (series * angle * angle) / (2 * term * (2 * term + 1))
    const sine = series * angle
    table[step] = sine
    table[2 * quarter - step] = sine
    table[2 * quarter + step] = -sine
    table[(TURN - step) % TURN] = -sine
  }
  table[0] = 0
  return table
}

/** Mean 0 and standard deviation 1, as the sum of four uniform bytes: cheap, and the same bits everywhere. */
function nearlyNormal(random: Random): number {
  const word = random.uint32()
  const sum = (word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24)
  // Four times the variance of a uniform byte, (256² − 1) / 12, under the root.
  return (sum - 510) / 147.80053
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 1 ? 1 : value
}
