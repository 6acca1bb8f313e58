import { Random } from '../random.js'
import { Canvas } from './canvas.js'
import { paintScene } from './scene.js'

/**
 * `count` pictures of the first `classes` figures in turn. Picture i depends on the seed, i, the size and the number of
 * classes only: fewer pictures of the same seed are the first of more.
 *
 * @returns pixels `(count, 3, size, size)` and labels `(count)`
 */
export function renderImages(
  count: number,
  seed: number,
  size: number,
  classes: number,
): { pixels: Uint8Array; labels: Uint8Array } {
  const bytesPerImage = 3 * size * size
  const pixels = new Uint8Array(count * bytesPerImage)
  const labels = Uint8Array.from({ length: count }, (_, index) => index % classes)
  const canvas = new Canvas(size)
  for (let index = 0; index < count; index++) {
    const bytes = pixels.subarray(index * bytesPerImage, (index + 1) * bytesPerImage)
    paintScene(canvas, labels[index]!, new Random(seed, index), bytes)
  }
  return { pixels, labels }
}
