/**
 * How far below 0 a learning rate may come by rounding, from one of the given size: it counts as 0. What is further
 * below is an error.
 */
export function roundingOf(lr: number): number {
  return 1e-12 * lr
}
