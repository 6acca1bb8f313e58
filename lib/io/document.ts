/** Recognises a file by its content, and reads what it says: values and records of tensors, without libtorch. */
import { AlambicError } from '../errors.js'
import { fileError } from './file-error.js'
import type { Value } from './pickle/values.js'
import { isShardIndex, readShards } from './shards.js'
import { otherKind } from './other-kinds.js'
import { isSafetensors, readSafetensors, type Metadata } from './safetensors.js'
import type { ByteSource } from './source.js'
import { isTorchLegacy, readTorchLegacy } from './torch-legacy.js'
import { openTorchArchive, readTorchArchive } from './torch-zip.js'
import { isZip } from './zip.js'

export type FileFormat =
  /** One file, or the index of several (`*.index.json`). */
  | 'safetensors'
  | 'index'
  /** `torch.save` since 1.6, and before. */
  | 'torch.save'
  | 'torch.save (old)'
  | 'TorchScript'

/** Enough to tell. */
const HEAD_BYTES = 64

/** @throws AlambicError `ERR_FILE_FORMAT` when it is none of them */
export async function recognise(source: ByteSource): Promise<FileFormat> {
  const head = await source.read(0, Math.min(HEAD_BYTES, source.size))
  if (isZip(head)) return (await openTorchArchive(source)).kind
  if (isTorchLegacy(head)) return 'torch.save (old)'
  // What is called so and damaged at its start is told what is wrong with it.
  if (isSafetensors(head, source.size) || source.name.endsWith('.safetensors')) return 'safetensors'
  if (isShardIndex(head)) return 'index'
  throw fileError(source.name, {
    offset: 0,
    expected: 'a file of safetensors or torch.save, or the index of several',
    ...(await otherKind(source)),
  })
}

export interface FileDocument {
  format: FileFormat
  value: Value
  /** Of safetensors. */
  metadata: Metadata
}

/**
 * Reads a file with weights; `source` must stay open while its tensors are loaded.
 *
 * @param open opens the other files of an index; they too must stay open
 * @throws AlambicError `ERR_FILE_FORMAT`, `ERR_UNSAFE_PICKLE`, `ERR_FILE_NOT_FOUND` for a file that an index names
 */
export async function readDocument(
  source: ByteSource,
  open: (path: string) => Promise<ByteSource>,
): Promise<FileDocument> {
  const format = await recognise(source)
  switch (format) {
    case 'safetensors': {
      const { tensors, metadata } = await readSafetensors(source)
      return { format, value: tensors, metadata }
    }
    case 'torch.save':
      return { format, value: await readTorchArchive(source, await openTorchArchive(source)), metadata: {} }
    case 'torch.save (old)':
      return { format, value: await readTorchLegacy(source), metadata: {} }
    case 'index': {
      const readShard = async (shard: ByteSource) => {
        if ((await recognise(shard)) === 'index')
          throw new AlambicError('ERR_FILE_FORMAT', `${shard.name}: expected weights, found another index`)
        return (await readDocument(shard, open)).value
      }
      return { format, value: await readShards(source, open, readShard), metadata: {} }
    }
    case 'TorchScript':
      throw new AlambicError(
        'ERR_FILE_FORMAT',
        `${source.name}: expected weights, found a TorchScript model; load it with loadTorchScript`,
      )
  }
}
