/** What is kept of a teacher's outputs: one row per sample in each of a few columns. */
import type { Taught } from '../data/dataset.js'
import { itemSize } from '../io/dtypes.js'
import type { Tensor } from '../tensors/tensor.js'
import type { DType } from '../tensors/types.js'
import type { CacheSettings } from './options.js'

/** One of a teacher's outputs. */
export interface Part {
  /** `output`, `embedding`, or `features.` and the layer's path. */
  readonly name: string
  /** Of one sample. */
  readonly shape: readonly number[]
  readonly dtype: DType
  /** In what it is kept. */
  readonly kept: DType
  /** Whether the channels of an image lie beside each other in memory, and so in the file. */
  readonly isChannelsLast: boolean
  /** So many of the largest logits are kept; null for all. */
  readonly topK: number | null
}

/** A tensor of a shard: `(rows, …shape)`. */
export interface Column {
  readonly name: string
  readonly shape: readonly number[]
  readonly dtype: DType
}

/** A batch's rows by the names of their columns. */
export type Rows = Readonly<Record<string, Tensor>>

const featurePrefix = 'features.'

/**
 * @param samples in the batch
 * @returns the parts; or why they cannot be kept
 */
export function layoutOf(
  taught: Taught,
  samples: number,
  { topK, dtype }: Pick<CacheSettings, 'topK' | 'dtype'>,
): readonly Part[] | string {
  const tensors = tensorsByPart(taught)
  const other = tensors.find(([, { shape }]) => shape[0] !== samples)
  if (other !== undefined)
    return `${other[0]} has the shape (${other[1].shape.join(', ')}) for ${samples} samples, and no row for each`
  return tensors.map(([name, tensor]) => {
    const isFloating = /^b?float/.test(tensor.dtype)
    const isLogits = name === 'output' && tensor.ndim === 2 && isFloating
    return {
      name,
      shape: tensor.shape.slice(1),
      dtype: tensor.dtype,
      kept: isFloating ? (dtype ?? tensor.dtype) : tensor.dtype,
      isChannelsLast: isChannelsLast(tensor),
      topK: isLogits && topK !== undefined && topK < tensor.size(1) ? topK : null,
    }
  })
}

function tensorsByPart({ output, features, embedding }: Taught): [name: string, tensor: Tensor][] {
  return [
    ['output', output],
    ...Object.entries(features).map(([path, each]): [string, Tensor] => [`${featurePrefix}${path}`, each]),
    ...(embedding === undefined ? [] : ([['embedding', embedding]] as [string, Tensor][])),
  ]
}

function isChannelsLast(tensor: Tensor): boolean {
  return tensor.ndim === 4 && !tensor.isContiguous() && tensor.isContiguous({ memoryFormat: 'channelsLast' })
}

/** The columns of a part. */
function columnsOf({ name, shape, kept, isChannelsLast, topK }: Part): Column[] {
  if (topK !== null)
    return [
      { name: `${name}.values`, shape: [topK], dtype: kept },
      { name: `${name}.indices`, shape: [topK], dtype: 'int32' },
      { name: `${name}.rest`, shape: [1], dtype: kept },
    ]
  const [channels, height, width] = shape
  return [{ name, shape: isChannelsLast ? [height!, width!, channels!] : shape, dtype: kept }]
}

export function columns(parts: readonly Part[]): Column[] {
  return parts.flatMap(columnsOf)
}

/** Bytes of one row. */
export function rowBytes(parts: readonly Part[]): number {
  return columns(parts).reduce(
    (sum, { shape, dtype }) => sum + shape.reduce((product, size) => product * size, itemSize(dtype)),
    0,
  )
}

/** The rows of a batch. */
export function pack(parts: readonly Part[], taught: Taught): Rows {
  const tensors = Object.fromEntries(tensorsByPart(taught))
  return Object.assign({}, ...parts.map(part => packPart(part, tensors[part.name]!))) as Rows
}

function packPart({ name, kept, isChannelsLast, topK }: Part, tensor: Tensor): Rows {
  if (topK !== null) return packLargest(name, tensor, topK, kept)
  return { [name]: (isChannelsLast ? tensor.permute([0, 2, 3, 1]) : tensor).to(kept).contiguous() }
}

/** What the classes that are left out have in common is a logit with which they keep the sum of their probabilities. */
function packLargest(name: string, logits: Tensor, topK: number, kept: DType): Rows {
  const wide = logits.to('float32')
  const [values, indices] = wide.topk(topK)
  const others = wide.scatter(1, indices, -Infinity).logsumexp([1], { keepdim: true })
  return {
    [`${name}.values`]: values.to(kept),
    [`${name}.indices`]: indices.to('int32'),
    [`${name}.rest`]: others.sub(Math.log(logits.size(1) - topK)).to(kept),
  }
}

/**
 * What a teacher gave, from its rows.
 *
 * @param parts those that are wanted
 */
export function unpack(parts: readonly Part[], rows: Rows): Taught {
  const tensors = Object.fromEntries(parts.map(part => [part.name, unpackPart(part, rows)]))
  const { output, embedding } = tensors
  const features = Object.entries(tensors).flatMap(([name, each]): [string, Tensor][] =>
    name.startsWith(featurePrefix) ? [[name.slice(featurePrefix.length), each]] : [],
  )
  return { output: output!, features: Object.fromEntries(features), embedding }
}

function unpackPart({ name, shape, dtype, isChannelsLast, topK }: Part, rows: Rows): Tensor {
  if (topK !== null) return unpackLargest(name, shape[0]!, rows).to(dtype)
  const tensor = rows[name]!.to(dtype)
  return isChannelsLast ? tensor.permute([0, 3, 1, 2]) : tensor
}

function unpackLargest(name: string, classes: number, rows: Rows): Tensor {
  const [values, indices, rest] = ['values', 'indices', 'rest'].map(column => rows[`${name}.${column}`]!)
  return rest!.expand([-1, classes]).scatter(1, indices!.to('int64'), values!)
}

/** The parts that a step takes: the output always, features and the embedding where they are asked for. */
export function partsFor(
  parts: readonly Part[],
  { layers, embedding }: { layers: readonly string[]; embedding: boolean },
): readonly Part[] {
  const wanted = new Set(['output', ...layers.map(path => `${featurePrefix}${path}`)])
  if (embedding) wanted.add('embedding')
  return parts.filter(({ name }) => wanted.has(name))
}

/** `logits (100), 3 features and the embedding` */
export function describeParts(parts: readonly Part[]): string {
  const output = parts.find(({ name }) => name === 'output')!
  const features = parts.filter(({ name }) => name.startsWith(featurePrefix)).length
  const logits = `logits (${output.shape.join(', ')})`
  const names = [output.topK === null ? logits : `the ${output.topK} largest of ${logits}`]
  if (features > 0) names.push(features === 1 ? '1 feature' : `${features} features`)
  if (parts.some(({ name }) => name === 'embedding')) names.push('the embedding')
  const last = names.pop()!
  return names.length === 0 ? last : `${names.join(', ')} and ${last}`
}
