/** What is looked at before libtorch is given a file. */
import { AlambicError } from '../errors.js'

/** @throws AlambicError `ERR_FILE_FORMAT` */
export function checkTorchScript(bytes: Uint8Array, name: string): void {
  const kind = kindOf(bytes)
  if (kind !== 'TorchScript')
    throw new AlambicError(
      'ERR_FILE_FORMAT',
      `${name}: expected TorchScript (a file of torch.jit.save), got ${kind}`,
    )
}

function kindOf(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'an empty file'
  if (!startsWith(bytes, [0x50, 0x4b, 0x03, 0x04]))
    return startsWith(bytes, [0x80]) ? 'a pickle' : 'something else'
  return 'TorchScript'
}

function startsWith(bytes: Uint8Array, start: readonly number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte)
}
