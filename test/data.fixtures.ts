import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll } from 'vitest'
import { AlambicError } from '../lib/errors.js'

/** The bytes of an idx file, big-endian, with a header that may lie. */
export function idxBytes(
  typeCode: number,
  shape: readonly number[],
  payload: Uint8Array | readonly number[],
): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length)
  header[2] = typeCode
  header[3] = shape.length
  shape.forEach((size, index) => header.writeUInt32BE(size, 4 + 4 * index))
  return Buffer.concat([header, Buffer.from(payload)])
}

/** `length` bytes that differ from their neighbours. */
export function someBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 37 + 11) & 255)
}

const folders: string[] = []

/** A folder of its own with these files, removed after the test file. */
export async function folderWith(files: Record<string, Uint8Array> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'alambic-data-'))
  folders.push(folder)
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), bytes)
  }
  return folder
}

afterAll(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true })
})

/** The error that `action` fails with; fails itself when there is none or another kind. */
export async function failure(action: () => unknown): Promise<AlambicError> {
  try {
    await action()
  } catch (error) {
    if (error instanceof AlambicError) return error
    throw error
  }
  throw new Error('expected an AlambicError, but nothing was thrown')
}
