/** How fast batches come: bytes in memory to normalised floats, in a new order each epoch. */
import { data } from '../lib/index.js'
import type { Benchmark, BenchmarkContext, BenchmarkResult } from './benchmark.js'
import { absent, contest } from './contest.js'
import { bytesFloor } from './floors.js'
import { PythonPeer } from './python.js'
import { formatTable, formatTimes } from './table.js'

const [count, size, batch] = [4096, 32, 64]
const imageElements = 3 * size * size

interface DataResult {
  images: string
  /** Images per second. */
  node: number
  python: number | null
  floor: number
  timesAsFast: number | null
}

function makeLoader(augmented: boolean): data.DataLoader {
  const pixels = Uint8Array.from({ length: count * imageElements }, (_, i) => (i * 7919) % 251)
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10)
  const images = new data.ImageDataset({
    pixels,
    labels,
    shape: [3, size, size],
    mean: [0.49, 0.48, 0.45],
    std: [0.25, 0.24, 0.26],
    augment: augmented ? { horizontalFlip: true, cropPadding: 4 } : {},
  })
  return new data.DataLoader(images, { batchSize: batch, shuffle: true })
}

async function timeEpoch(loader: data.DataLoader): Promise<number> {
  const start = performance.now()
  for await (const { data: images, labels } of loader) {
    images.dispose()
    labels.dispose()
  }
  return performance.now() - start
}

async function measure(
  augmented: boolean,
  { python, rounds, floors }: BenchmarkContext,
): Promise<DataResult> {
  const loader = makeLoader(augmented)
  const peer = python && new PythonPeer(python, 'data.py')
  try {
    await peer?.ask({ count, size, batch, augmented })
    const times = await contest(
      {
        node: { run: () => timeEpoch(loader) },
        python:
          peer === null
            ? absent
            : { run: async () => (await peer.ask<{ milliseconds: number }>({})).milliseconds },
      },
      { rounds, warmups: 2 },
    )
    const perSecond = (milliseconds: number) => (1000 * count) / milliseconds
    return {
      images: augmented ? 'cropped and flipped' : 'normalised',
      node: perSecond(times.node),
      python: peer && perSecond(times.python),
      floor: perSecond(bytesFloor(floors, count * imageElements * (1 + 4))),
      timesAsFast: peer && times.python / times.node,
    }
  } finally {
    peer?.close()
  }
}

async function run(context: BenchmarkContext): Promise<BenchmarkResult> {
  const results = [await measure(false, context), await measure(true, context)]
  const thousands = (rate: number | null) => (rate === null ? '–' : `${(rate / 1000).toFixed(1)} k`)
  return {
    data: results,
    table: formatTable(
      ['images per second', 'Node', 'Python', 'times as fast', 'floor'],
      results.map(({ images, node, python, timesAsFast, floor }) => [
        images,
        thousands(node),
        thousands(python),
        formatTimes(timesAsFast),
        thousands(floor),
      ]),
      1,
    ),
    ratios: results.flatMap(({ images, timesAsFast }) =>
      timesAsFast === null ? [] : [{ group: 'data', name: `images, ${images}`, timesAsFast }],
    ),
  }
}

export const dataLoading: Benchmark = {
  name: 'data',
  description: `batches of ${batch} images 3×${size}×${size} from bytes in memory, against torch's DataLoader without workers`,
  defaultRounds: 9,
  run,
}
