import type { Random } from '../random.js'
import { randomDirection, type Canvas, type Colour, type Placement, type Texture } from './canvas.js'
import * as shapes from './shapes.js'

/** The classes, in the order of their labels. Some are easily taken for each other: disc and hexagon, for one. */
export const FIGURES = [
  { name: 'disc', shape: shapes.disc },
  { name: 'ring', shape: shapes.ring },
  { name: 'half disc', shape: shapes.halfDisc },
  { name: 'crescent', shape: shapes.crescent },
  { name: 'triangle', shape: shapes.triangle },
  { name: 'square', shape: shapes.square },
  { name: 'hexagon', shape: shapes.hexagon },
  { name: 'star', shape: shapes.star },
  { name: 'cross', shape: shapes.cross },
  { name: 'corner', shape: shapes.corner },
] as const

/**
 * How hard the pictures are. Lengths are in half pictures (1 is from the middle to the edge), colours from 0 to 1.
 * The values were chosen by training: `docs/data.md` says what nets of which size reach.
 */
const DIFFICULTY = {
  /** Least distance in RGB between what figure and ground are coloured around. */
  contrast: 0.6,
  /** How far a texture's two colours stray from that. */
  colourSpread: 0.15,
  /** Cycles per unit of a texture's waves. */
  frequency: [0.4, 2],
  figureRadius: [0.55, 0.85],
  figureShift: 0.18,
  /** Largest relative change of the proportions. */
  figureStretch: 0.08,
  litterChance: 0.5,
  litterRadius: [0.12, 0.3],
  occluderChance: 0.25,
  occluderRadius: [0.3, 0.8],
  occluderShift: 0.6,
  noise: [0.01, 0.05],
  brightness: [0.8, 1.1],
  brightnessSlope: 0.3,
} as const

/**
 * Paints one picture: a textured figure of the class in a random place, size, rotation and colour on a textured
 * ground, perhaps with litter behind it and a bar before it, in uneven light and with noise.
 */
export function paintScene(canvas: Canvas, label: number, random: Random, bytes: Uint8Array): void {
  const ground = randomColour(random)
  const figure = colourAgainst(ground, random)
  canvas.fill(randomTexture(ground, random))
  if (random.uniform() < DIFFICULTY.litterChance) paintLitter(canvas, figure, random)
  const { figureRadius, figureShift, figureStretch } = DIFFICULTY
  canvas.paint(
    FIGURES[label]!.shape,
    randomPlacement(figureRadius, figureShift, figureStretch, random),
    randomTexture(figure, random),
  )
  if (random.uniform() < DIFFICULTY.occluderChance) paintOccluder(canvas, ground, random)
  developScene(canvas, random, bytes)
}

/** A small bar or figure of any class, so that a bit of outline alone tells nothing. */
function paintLitter(canvas: Canvas, figure: Colour, random: Random): void {
  const shape = coin(random) ? shapes.bar : FIGURES[random.below(FIGURES.length)]!.shape
  const placement = randomPlacement(DIFFICULTY.litterRadius, 1, 0.2, random)
  canvas.paint(shape, placement, randomTexture(coin(random) ? figure : randomColour(random), random))
}

/** A bar that hides part of the figure; in the ground's colours it cuts the figure in two. */
function paintOccluder(canvas: Canvas, ground: Colour, random: Random): void {
  const placement = randomPlacement(DIFFICULTY.occluderRadius, DIFFICULTY.occluderShift, 0.1, random)
  canvas.paint(shapes.bar, placement, randomTexture(coin(random) ? ground : randomColour(random), random))
}

function developScene(canvas: Canvas, random: Random, bytes: Uint8Array): void {
  const { brightness, brightnessSlope, noise } = DIFFICULTY
  const light = [
    random.uniform(...brightness),
    random.uniform(-brightnessSlope, brightnessSlope),
    random.uniform(-brightnessSlope, brightnessSlope),
  ] as const
  canvas.develop(light, random.uniform(...noise), random, bytes)
}

function randomPlacement(
  radius: readonly [number, number],
  shift: number,
  stretch: number,
  random: Random,
): Placement {
  const [cos, sin] = randomDirection(random)
  const scale = random.uniform(...radius)
  const proportion = random.uniform(1 - stretch, 1 + stretch)
  const x = random.uniform(-shift, shift)
  const y = random.uniform(-shift, shift)
  return { x, y, cos, sin, width: scale * proportion, height: scale / proportion }
}

function randomTexture(around: Colour, random: Random): Texture {
  return {
    from: colourNear(around, random),
    to: colourNear(around, random),
    first: randomWave(random),
    second: randomWave(random),
    hard: coin(random),
  }
}

function randomWave(random: Random): Texture['first'] {
  const [cos, sin] = randomDirection(random)
  const frequency = random.uniform(...DIFFICULTY.frequency)
  return { x: frequency * cos, y: frequency * sin, phase: random.uniform() }
}

function randomColour(random: Random): Colour {
  return [random.uniform(), random.uniform(), random.uniform()]
}

function colourNear([red, green, blue]: Colour, random: Random): Colour {
  return [stray(red, random), stray(green, random), stray(blue, random)]
}

function stray(value: number, random: Random): number {
  const { colourSpread } = DIFFICULTY
  return Math.min(1, Math.max(0, value + random.uniform(-colourSpread, colourSpread)))
}

function colourAgainst(other: Colour, random: Random): Colour {
  for (;;) {
    const colour = randomColour(random)
    const [red, green, blue] = [colour[0] - other[0], colour[1] - other[1], colour[2] - other[2]]
    if (red * red + green * green + blue * blue >= DIFFICULTY.contrast * DIFFICULTY.contrast) return colour
  }
}

function coin(random: Random): boolean {
  return random.below(2) === 0
}
