/** What a teacher and data are, as a digest: what was computed of the same may be used again. */
import { createHash, type Hash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { releaseBatch, Subset, type Batch, type Dataset } from '../data/dataset.js'
import { ImageDataset } from '../data/image-dataset.js'
import { checkBatch } from '../data/loader.js'
import { Random } from '../data/random.js'
import { TensorDataset } from '../data/tensor-dataset.js'
import { elementBytes } from '../io/bytes.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'

/** The event loop turns after so many bytes. */
const bytesPerTurn = 1 << 24

const samplesPerBatch = 256

/** Classes, options, code and numbers of a model. */
export async function fingerprintOfModel(model: Module): Promise<string> {
  const hash = createHash('sha256')
  addText(hash, [String(model), model.namedModules().map(([path, part]) => [path, codeOf(part)])])
  for (const [name, tensor] of [...model.namedParameters(), ...model.namedBuffers()]) {
    addText(hash, name)
    await addTensor(hash, tensor)
  }
  return hash.digest('hex')
}

/** The name of its class, and the text of its forward: of the class, as probes may be around the object's own. */
function codeOf(module: Module): unknown {
  const { forward } = Object.getPrototypeOf(module) as { forward?: unknown }
  return [module.constructor.name, String(forward)]
}

/**
 * What teachers see of a data set in all its views; labels are not part of it.
 *
 * @param seed of the views
 */
export async function fingerprintOfData(dataset: Dataset, seed: number): Promise<string> {
  const hash = createHash('sha256')
  await addData(hash, dataset, seed)
  return hash.digest('hex')
}

async function addData(hash: Hash, dataset: Dataset, seed: number): Promise<void> {
  if (isPlain(dataset, Subset)) {
    addText(hash, 'subset')
    await addBytes(hash, dataset.indices)
    await addData(hash, dataset.dataset, seed)
  } else if (isPlain(dataset, ImageDataset)) {
    const { shape, mean, std, augment, views } = dataset
    addText(hash, ['images', shape, mean, std, views === 1 && !augment.views ? null : [augment, seed]])
    await addBytes(hash, dataset.pixels)
  } else if (isPlain(dataset, TensorDataset)) {
    addText(hash, 'tensors')
    await addTensor(hash, dataset.data)
  } else await addBatches(hash, dataset, seed)
}

/** Whether it is of that class, and does what the class does. */
function isPlain<T extends Dataset>(dataset: Dataset, type: new (...args: never[]) => T): dataset is T {
  return Object.getPrototypeOf(dataset) === type.prototype && !Object.hasOwn(dataset, 'batch')
}

/** Of data sets of one's own all that they give. */
async function addBatches(hash: Hash, dataset: Dataset, seed: number): Promise<void> {
  addText(hash, ['batches', dataset.length, dataset.views])
  for (let number = 0; number < (dataset.views ?? 1); number++)
    for (let start = 0; start < dataset.length; start += samplesPerBatch) {
      const length = Math.min(samplesPerBatch, dataset.length - start)
      const batch = await makeBatch(
        dataset,
        Int32Array.from({ length }, (_, i) => start + i),
        number,
        seed,
      )
      await addTensor(hash, batch.data)
      releaseBatch(batch)
    }
}

/** As a loader would, in a view. */
export async function makeBatch(
  dataset: Dataset,
  indices: Int32Array,
  view: number,
  seed: number,
): Promise<Batch> {
  const random = new Random(seed, view)
  // A loader waits for data sets that take their time.
  const made = dataset.batch(indices, random, { number: view, seed }) as Batch | Promise<Batch>
  return checkBatch('batch() of the data set', await made)
}

function addText(hash: Hash, value: unknown): void {
  const text = JSON.stringify(value)
  hash.update(`${Buffer.byteLength(text)}:`).update(text)
}

async function addTensor(hash: Hash, tensor: Tensor): Promise<void> {
  addText(hash, [tensor.dtype, tensor.shape])
  for (const chunk of elementBytes(tensor)) {
    hash.update(chunk)
    if (chunk.length === bytesPerTurn) await setImmediate()
  }
}

async function addBytes(hash: Hash, array: Uint8Array | Int32Array): Promise<void> {
  addText(hash, array.length)
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
  for (let start = 0; start < bytes.length; start += bytesPerTurn) {
    hash.update(bytes.subarray(start, start + bytesPerTurn))
    await setImmediate()
  }
}

/** Of a few tensors by their names. */
export async function digestOfTensors(tensors: Readonly<Record<string, Tensor>>): Promise<string> {
  const hash = createHash('sha256')
  for (const name of Object.keys(tensors).sort()) {
    addText(hash, name)
    await addTensor(hash, tensors[name]!)
  }
  return hash.digest('hex')
}

/** A short digest of what JSON can say. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 32)
}
