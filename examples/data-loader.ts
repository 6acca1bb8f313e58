/**
 * Batches from built-in pictures and from a dataset of your own.
 *
 *     npx tsx examples/data-loader.ts
 */
import { data, memory, scope, tensor } from 'alambic'

// ---- Built-in pictures: split, augmented, shuffled -----------------------------------------------------------------

const images = data.proceduralImages({ count: 2000, seed: 1 })
const [train, validation] = images.split([0.9, 0.1]) as [data.ImageDataset, data.ImageDataset]
const loader = new data.DataLoader(train.with({ augment: { horizontalFlip: true, cropPadding: 2 } }), {
  batchSize: 64,
  shuffle: true,
  seed: 42,
})
console.log(String(loader))
console.log(`${loader.length} batches an epoch, ${validation.length} images kept for validation`)

for (let epoch = 0; epoch < 2; epoch++) {
  const start = performance.now()
  let brightness = 0
  for await (const { data: pictures, labels } of loader) {
    // This code asked for the batch, so it disposes of it; a scope releases the tensors computed from it.
    brightness += scope(() => pictures.mean().item())
    pictures.dispose()
    labels.dispose()
  }
  const speed = Math.round(train.length / ((performance.now() - start) / 1000))
  console.log(`epoch ${epoch}: mean brightness ${(brightness / loader.length).toFixed(4)}, ${speed} images/s`)
}

// ---- A dataset of your own: a length, and batches by index ---------------------------------------------------------

const parity: data.Dataset = {
  length: 1000,
  classes: ['even', 'odd'],
  batch: indices => ({
    data: tensor(Array.from(indices, index => [index & 1, (index >> 1) & 1, (index >> 2) & 1])),
    labels: tensor(Array.from(indices, index => BigInt(index % 2))),
  }),
}

for (const { data: bits, labels } of new data.DataLoader(parity, { batchSize: 4, shuffle: true })) {
  console.log(String(bits), String(labels))
  bits.dispose()
  labels.dispose()
  break
}

console.log(`tensors still alive: ${memory().tensors}`)
