/** What a file may be that holds no weights, or holds them packed: said by its name, with the way on. */
import { displayText } from './file-error.js'
import type { ByteSource } from './source.js'

export interface OtherKind {
  found: string
  remedy: string
}

const TAR_BLOCK = 512

/** Files in a tar archive that a message names. */
const MAX_NAMES = 3

/** What a file is that is none of those that are read. */
export async function otherKind(source: ByteSource): Promise<OtherKind> {
  const head = await source.read(0, Math.min(TAR_BLOCK, source.size))
  if (head.length === 0)
    return { found: 'an empty file', remedy: 'get the file again: nothing of it is there' }
  const files = await tarNames(source, head)
  if (files !== undefined) return describeTar(source.name, files)
  const kind = kinds.find(({ is }) => is(head))
  if (kind !== undefined) return { found: kind.found, remedy: kind.remedy }
  return {
    found: (head.subarray(0, 8).toString('hex').match(/../g) ?? []).join(' '),
    remedy: 'check that this is the right file; a whole file has to be there',
  }
}

interface KnownKind extends OtherKind {
  is: (head: Buffer) => boolean
}

const unpack = 'unpack it, and load the file that is in it'

const kinds: readonly KnownKind[] = [
  { is: begins('1f8b'), found: 'gzip data', remedy: unpack },
  { is: begins('425a68'), found: 'bzip2 data', remedy: unpack },
  { is: begins('fd377a585a00'), found: 'xz data', remedy: unpack },
  { is: begins('28b52ffd'), found: 'zstd data', remedy: unpack },
  { is: begins('377abcaf271c'), found: 'a 7z archive', remedy: unpack },
  {
    is: head => text(head).startsWith('version https://git-lfs.github.com/spec/'),
    found: 'a pointer of Git LFS, which stands for the file',
    remedy: 'get the file itself with git lfs pull, or download it',
  },
  {
    is: head => /^\s*<(!doctype|html|\?xml)/i.test(text(head)),
    found: 'a page of HTML or XML',
    remedy: 'download the file again: this is what the server answered instead',
  },
  {
    is: begins('894844460d0a1a0a'),
    found: 'an HDF5 file, as Keras writes',
    remedy: 'convert it in Python to safetensors',
  },
  {
    is: begins('934e554d5059'),
    found: "an array of NumPy's (.npy)",
    remedy: 'convert it in Python to safetensors',
  },
  { is: begins('47475546'), found: 'a GGUF file', remedy: 'convert it in Python to safetensors' },
  {
    is: head => head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5,
    found: 'a pickle that torch.save did not write',
    remedy: 'load it in Python, and save the tensors with torch.save or safetensors',
  },
]

function begins(hex: string): (head: Buffer) => boolean {
  const start = Buffer.from(hex, 'hex')
  return head => head.subarray(0, start.length).equals(start)
}

function text(head: Buffer): string {
  return head.toString('latin1').replace(/^\u00ef\u00bb\u00bf/, '')
}

// ---- Tar -------------------------------------------------------------------------------------------------------------

/** The first files of a tar archive; undefined for another file. */
async function tarNames(source: ByteSource, first: Buffer): Promise<string[] | undefined> {
  if (!isTarHeader(first)) return undefined
  const names: string[] = []
  let position = 0
  // Folders and the headers of other headers are passed by; an archive of nothing else is not walked to its end.
  for (let entries = 0; entries < 100 && names.length <= MAX_NAMES; entries++) {
    if (position + TAR_BLOCK > source.size) break
    const header = await source.read(position, TAR_BLOCK)
    if (!isTarHeader(header)) break
    const isFile = header[156] === 0x30 || header[156] === 0
    if (isFile) names.push(displayText(field(header, 0, 100)))
    const size = parseInt(field(header, 124, 12), 8)
    if (!(size >= 0)) break
    position += TAR_BLOCK * (1 + Math.ceil(size / TAR_BLOCK))
  }
  return names
}

/** By the sum of its bytes, which it holds itself; archives before POSIX have no other mark. */
function isTarHeader(block: Buffer): boolean {
  if (block.length < TAR_BLOCK || block[0] === 0) return false
  const stated = field(block, 148, 8).trim()
  if (!/^[0-7]+$/.test(stated)) return false
  let sum = 8 * 0x20
  for (let i = 0; i < TAR_BLOCK; i++) if (i < 148 || i >= 156) sum += block[i]!
  return sum === parseInt(stated, 8)
}

function field(header: Buffer, from: number, length: number): string {
  const bytes = header.subarray(from, from + length)
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? length : end)
}

function describeTar(path: string, files: readonly string[]): OtherKind {
  const shown = files.slice(0, MAX_NAMES).map(name => JSON.stringify(name))
  const list = shown.join(', ') + (files.length > MAX_NAMES ? ' …' : '')
  return {
    found: `a tar archive${files.length > 0 ? ` with ${list}` : ''}`,
    remedy: `unpack it (tar -xf ${JSON.stringify(displayText(path))}), and load the file that is in it`,
  }
}
