/**
 * Signed distances to plane shapes of about unit radius: negative inside, positive outside, zero on the outline, and
 * near the outline close enough to the true distance to antialias by. Only operations that IEEE 754 defines to the
 * last bit are used (`+ − × ÷ √`), never `Math.sin` and the like, so that pictures are the same bytes everywhere.
 */
export type SignedDistance = (x: number, y: number) => number

const { abs, max, min, sqrt } = Math

const COS_30 = 0.8660254037844386
const COS_36 = 0.8090169943749475
const SIN_36 = 0.5877852522924731

export const disc: SignedDistance = (x, y) => sqrt(x * x + y * y) - 0.92

export const ring: SignedDistance = (x, y) => abs(sqrt(x * x + y * y) - 0.72) - 0.2

export const halfDisc: SignedDistance = (x, y) => max(sqrt(x * x + (y + 0.4) * (y + 0.4)) - 0.98, -y - 0.4)

/** A disc with a smaller disc bitten out of its side. */
export const crescent: SignedDistance = (x, y) => {
  const bitten = sqrt((x - 0.45) * (x - 0.45) + y * y) - 0.72
  return max(sqrt(x * x + y * y) - 0.95, -bitten)
}

/** Equilateral. */
export const triangle: SignedDistance = (x, y) => max(abs(x) * COS_30 + y * 0.5, -y) - 0.54

export const square: SignedDistance = (x, y) => max(abs(x), abs(y)) - 0.78

export const hexagon: SignedDistance = (x, y) => max(abs(y), abs(x) * COS_30 + abs(y) * 0.5) - 0.84

/** A plus sign with arms 0.56 wide. */
export const cross: SignedDistance = (x, y) => max(max(abs(x), abs(y)) - 0.95, min(abs(x), abs(y)) - 0.28)

/** Two bars that meet at a right angle. */
export const corner: SignedDistance = (x, y) => max(max(abs(x), abs(y)) - 0.8, min(x, y) + 0.25)

const STAR_NOTCH = 0.46
const STAR_EDGE_X = 1 - STAR_NOTCH * COS_36
const STAR_EDGE_Y = STAR_NOTCH * SIN_36
const STAR_EDGE_LENGTH = sqrt(STAR_EDGE_X * STAR_EDGE_X + STAR_EDGE_Y * STAR_EDGE_Y)

/** Five points: the plane folds onto the half point beside the y axis, where one edge is left. */
export const star: SignedDistance = (x, y) => {
  x = abs(x)
  for (let fold = 0; fold < 2; fold++) {
    const beyond = max(COS_36 * x - SIN_36 * y, 0)
    x = abs(x - 2 * beyond * COS_36)
    y += 2 * beyond * SIN_36
  }
  return (STAR_EDGE_X * x + STAR_EDGE_Y * (y - 1)) / STAR_EDGE_LENGTH
}

/** Not a class: what lies about in the picture and in front of the figure. */
export const bar: SignedDistance = (x, y) => max(abs(x) - 1, abs(y) - 0.18)
