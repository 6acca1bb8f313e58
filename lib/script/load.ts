import { readFile } from 'node:fs/promises'
import { AlambicError, argumentError } from '../errors.js'
import { native } from '../native/loader.js'
import { device, dtype, readOptions, type Kinds } from '../checks/options.js'
import { bytesOf, givenBytes } from '../checks/realms.js'
import type { Device, DType } from '../tensors/types.js'
import { checkTorchScript } from './archive.js'
import { wrapScript, type ScriptModule } from './script-module.js'

export interface LoadTorchScriptOptions {
  /** Where its tensors go. Default: the device in the file, or the CPU if there is no GPU. */
  device?: Device
  /** Converts its floating point parameters and buffers. Default: as they were saved. */
  dtype?: DType
}

const loadOptions: Kinds<LoadTorchScriptOptions> = { device, dtype }

/**
 * Loads a model that Python saved with `torch.jit.save`, scripted or traced, without blocking the event loop. The
 * model has the mode (training or evaluation) in which it was saved.
 *
 * @param source a file's path, or its bytes
 * @throws AlambicError `ERR_FILE_NOT_FOUND`; `ERR_FILE_FORMAT` for anything but valid TorchScript; `ERR_DEVICE`,
 *   `ERR_DTYPE`
 * @example const teacher = await loadTorchScript('teacher.pt', { device: 'cuda' })
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what goes in and out is known to who loads it
export async function loadTorchScript<Inputs extends any[] = any[], Output = any>(
  source: ScriptSource,
  options: LoadTorchScriptOptions = {},
): Promise<ScriptModule<Inputs, Output>> {
  const { device, dtype } = readOptions('loadTorchScript', options, loadOptions)
  const name = typeof source === 'string' ? source : 'the buffer'
  const bytes = await readSource(source)
  await checkTorchScript(bytes, name)
  const script = await native.loadScript(bytes, name, device, dtype)
  return wrapScript(script) as ScriptModule<Inputs, Output>
}

type ScriptSource = string | Uint8Array | ArrayBuffer | SharedArrayBuffer

/** Bytes that nobody else changes. */
async function readSource(source: ScriptSource): Promise<Uint8Array> {
  // The slice of a Buffer would be a view of it.
  const bytes = givenBytes(source)
  if (bytes !== undefined) return Uint8Array.prototype.slice.call(bytesOf(bytes))
  if (typeof source !== 'string' || source.includes('\0'))
    throw argumentError('source', "a file's path or its bytes", source)
  try {
    return await readFile(source)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EISDIR' || code === 'ENOTDIR')
      throw new AlambicError(
        'ERR_FILE_NOT_FOUND',
        `loadTorchScript: expected a readable file, got ${source} (${code})`,
        {
          cause: error,
        },
      )
    throw error
  }
}
