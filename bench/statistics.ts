/** The value below which a share of the samples lies. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = Float64Array.from(samples).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}

export interface Line {
  slope: number
  intercept: number
  /** R²: the share of the variance that the line explains. */
  determination: number
}

/** The line of least squares. */
export function fitLine(xs: readonly number[], ys: readonly number[]): Line {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [x0, y0] = [mean(xs), mean(ys)]
  const xy = xs.reduce((sum, x, i) => sum + (x - x0) * (ys[i]! - y0), 0)
  const xx = xs.reduce((sum, x) => sum + (x - x0) ** 2, 0)
  const yy = ys.reduce((sum, y) => sum + (y - y0) ** 2, 0)
  const slope = xy / xx
  return { slope, intercept: y0 - slope * x0, determination: yy === 0 ? 1 : xy ** 2 / (xx * yy) }
}
