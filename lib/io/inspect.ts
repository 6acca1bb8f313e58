import type { DType } from '../tensors/types.js'
import { itemSize } from './dtypes.js'
import { readDocument, recognise, type FileFormat } from './document.js'
import { keyText, stateDictRecords } from './load.js'
import { Dict, Tuple, Unknown, type Value } from './pickle/values.js'
import { contiguousStrides } from './records.js'
import type { Metadata } from './safetensors.js'
import { openSource, type ByteSource, type FileOrBytes } from './source.js'

export interface TensorSummary {
  key: string
  dtype: DType
  shape: number[]
  /** Elements to skip along each dimension; only where the elements are not in row-major order. */
  strides?: number[]
  /** Of its elements. */
  bytes: number
  /** The first key that has the same storage; only where there is one. */
  sharesWith?: string
}

export interface WeightsSummary {
  file: string
  format: FileFormat
  /** In the order of the file. */
  tensors: TensorSummary[]
  /** What else a checkpoint holds: numbers and strings by their dotted keys. */
  values: Record<string, number | string | boolean>
  /** Objects of classes that are not known, such as `argparse.Namespace`, by their dotted keys. They were not made. */
  unknown: Record<string, string>
  /** Strings in the header of safetensors. */
  metadata: Metadata
  totals: {
    tensors: number
    elements: number
    /** Of all storages, each once. */
    bytes: number
    fileBytes: number
  }
}

/** The kind of a file, by its content. @throws AlambicError `ERR_FILE_FORMAT`, `ERR_FILE_NOT_FOUND` */
export async function fileFormat(file: FileOrBytes): Promise<FileFormat> {
  const source = await openSource(file)
  try {
    return await recognise(source)
  } finally {
    await source.close()
  }
}

/**
 * What a file of weights holds, without loading it: only its header or pickle is read, so checksums of the data are not
 * checked.
 *
 * @throws AlambicError as `loadStateDict`
 */
export async function inspectWeights(file: FileOrBytes): Promise<WeightsSummary> {
  return withDocument(file, ({ format, value, metadata }, sources) => {
    const { name } = sources[0]!
    const fileBytes = sources.reduce((sum, { size }) => sum + size, 0)
    const { list, elements, bytes } = summaries(value, name)
    const totals = { tensors: list.length, elements, bytes, fileBytes }
    return { file: name, format, tensors: list, ...otherValues(value), metadata, totals }
  })
}

/** Shows `look` what a file says of its content, and the files that it is in, itself first. */
async function withDocument<T>(
  file: FileOrBytes,
  look: (document: Awaited<ReturnType<typeof readDocument>>, sources: readonly ByteSource[]) => T,
): Promise<T> {
  const sources: ByteSource[] = []
  const open = async (input: FileOrBytes) => {
    const source = await openSource(input)
    sources.push(source)
    return source
  }
  try {
    return look(await readDocument(await open(file), open), sources)
  } finally {
    for (const source of sources) await source.close()
  }
}

function summaries(value: Value, file: string): { list: TensorSummary[]; elements: number; bytes: number } {
  const firsts = new Map<unknown, string>()
  const list: TensorSummary[] = []
  let elements = 0
  let bytes = 0
  for (const [key, { dtype, shape, strides, storage, numel }] of stateDictRecords(value, '', file, {
    isWhole: false,
  })) {
    const summary: TensorSummary = { key, dtype, shape, bytes: numel * itemSize(dtype) }
    if (numel > 1 && String(strides) !== String(contiguousStrides(shape))) summary.strides = strides
    let root = storage
    while (root.part !== undefined) root = root.part.of
    const first = firsts.get(root)
    if (first === undefined) {
      firsts.set(root, key)
      bytes += root.bytes
    } else summary.sharesWith = first
    elements += numel
    list.push(summary)
  }
  return { list, elements, bytes }
}

/** Enough to see what a checkpoint is about. */
const MAX_VALUES = 200
const MAX_DEPTH = 20

function otherValues(value: Value): Pick<WeightsSummary, 'values' | 'unknown'> {
  const found: [string, number | string | boolean][] = []
  const unknown: [string, string][] = []
  let visits = 0
  const visit = (value: Value, path: string, depth: number) => {
    if (found.length + unknown.length >= MAX_VALUES || depth > MAX_DEPTH || ++visits > 100_000) return
    if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean')
      found.push([path, value])
    else if (typeof value === 'bigint') found.push([path, String(value)])
    else if (value instanceof Unknown) unknown.push([path, value.what])
    else if (value instanceof Dict)
      for (const [key, child] of value.map)
        visit(child, path === '' ? keyText(key) : `${path}.${keyText(key)}`, depth + 1)
    else if (Array.isArray(value) || value instanceof Tuple)
      (Array.isArray(value) ? value : value.items).forEach((child, i) =>
        visit(child, path === '' ? String(i) : `${path}.${i}`, depth + 1),
      )
  }
  visit(value, '', 0)
  return { values: Object.fromEntries(found), unknown: Object.fromEntries(unknown) }
}

/**
 * The shapes of the tensors that `loadStateDict` would load, by their keys. Only the header or pickle is read.
 *
 * @param entry as that of `loadStateDict`
 * @throws AlambicError as `loadStateDict`
 */
export async function weightShapes(file: string, entry?: string): Promise<Map<string, number[]>> {
  return withDocument(file, ({ value }, sources) => {
    const records = stateDictRecords(value, entry, sources[0]!.name)
    return new Map(Array.from(records, ([key, { shape }]) => [key, [...shape]]))
  })
}
