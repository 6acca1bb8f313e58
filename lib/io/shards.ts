/** Weights in several files, with an index: `{ "weight_map": { "layer.weight": "model-00001-of-00002.safetensors" } }`. */
import { dirname, join } from 'node:path'
import { fileError } from './file-error.js'
import { Dict, type Value } from './pickle/values.js'
import { TensorRecord } from './records.js'
import type { ByteSource } from './source.js'

const MAX_INDEX_BYTES = 100_000_000
const MAX_SHARDS = 10_000

export function isShardIndex(head: Buffer): boolean {
  return /^\s*\{\s*"/.test(head.toString('latin1'))
}

/**
 * All tensors that the index lists, under their names.
 *
 * @throws AlambicError `ERR_FILE_FORMAT` for an index that does not fit its files, `ERR_FILE_NOT_FOUND`
 */
export async function readShards(
  index: ByteSource,
  open: (path: string) => Promise<ByteSource>,
  read: (shard: ByteSource) => Promise<Value>,
): Promise<Dict> {
  const weightMap = await readWeightMap(index)
  const shards = new Map<string, Dict>()
  const dict = new Dict()
  for (const [key, file] of Object.entries(weightMap)) {
    let shard = shards.get(file)
    if (shard === undefined) {
      const value = await read(await open(join(dirname(index.name), file)))
      shard = value instanceof Dict ? value : new Dict()
      shards.set(file, shard)
    }
    const tensor = shard.map.get(key)
    if (!(tensor instanceof TensorRecord))
      throw fileError(index.name, {
        offset: 0,
        expected: `${JSON.stringify(key)} in ${file}`,
        found: `${shard.map.size} others`,
        remedy: 'get the files again, all from one place',
      })
    dict.map.set(key, tensor)
  }
  return dict
}

async function readWeightMap(index: ByteSource): Promise<Record<string, string>> {
  const broken = (expected: string, found: string) =>
    fileError(index.name, { offset: 0, expected, found, remedy: 'check that this is an index of weights' })
  if (index.descriptor === undefined)
    throw broken('one file with weights', 'an index: give its path, so that the others are found beside it')
  if (index.size > MAX_INDEX_BYTES)
    throw broken(`an index of at most ${MAX_INDEX_BYTES} bytes`, `${index.size}`)
  let content: unknown
  try {
    content = JSON.parse((await index.read(0, index.size)).toString('utf8'))
  } catch (error) {
    throw broken('JSON', (error as Error).message.slice(0, 100))
  }
  const map = (content as { weight_map?: unknown } | null)?.weight_map
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw broken('an index with a weight_map', 'JSON without one')
  const files = new Set(Object.values(map as Record<string, unknown>))
  if (files.size > MAX_SHARDS) throw broken(`at most ${MAX_SHARDS} files`, `${files.size}`)
  for (const file of files)
    if (typeof file !== 'string' || !/^[^/\\\0]+$/.test(file) || file === '.' || file === '..')
      throw broken('names of files beside the index', JSON.stringify(file) ?? 'nothing')
  return map as Record<string, string>
}
