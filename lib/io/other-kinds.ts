/** What a file may be that is of another kind than the one that was asked for: said by its name, with the way on. */
import { extname } from 'node:path'
import { AlambicError, show } from '../errors.js'
import { displayText } from './file-error.js'
import { isSafetensors } from './safetensors.js'
import { isShardIndex } from './shards.js'
import type { ByteSource } from './source.js'
import { isTorchLegacy } from './torch-legacy.js'

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

/** What a file is in whose place a model in TorchScript was expected. */
export async function kindBesideModels(source: ByteSource): Promise<OtherKind> {
  const head = await source.read(0, Math.min(TAR_BLOCK, source.size))
  const found = isTorchLegacy(head.subarray(0, 64))
    ? 'a file of torch.save'
    : isSafetensors(head, source.size)
      ? 'safetensors'
      : isShardIndex(head)
        ? 'JSON, as the index of several files of weights'
        : undefined
  if (found === undefined) return otherKind(source)
  return { found, remedy: `it has weights, but no model: make the model, and ${loadWeights}` }
}

/** Entries of a zip archive that tell what it is; `names` without the folder that all are in. */
export function zipKind(names: readonly string[]): OtherKind | undefined {
  const has = (name: string) => names.includes(name)
  const ends = (pattern: RegExp) => names.some(name => pattern.test(name))
  if (has('model.json') && !has('data.pkl') && !has('constants.pkl'))
    return {
      found: 'TorchScript of PyTorch 1.0 to 1.2 (with model.json), which is not read',
      remedy: "save it anew with a newer PyTorch: torch.jit.save(torch.jit.load('old.pt'), 'new.pt')",
    }
  if (has('archive_format') || has('serialized_exported_program.json') || ends(/^models\/[^/]*\.json$/))
    return {
      found: 'a program of torch.export (.pt2), which is not read',
      remedy: saveInPython,
    }
  if (names.length > 0 && names.every(name => name.endsWith('.npy')))
    return { found: "arrays of NumPy's (.npz)", remedy: convert }
  if (ends(/(^|\.)weights\.h5$/)) return { found: 'a model of Keras (.keras)', remedy: convert }
  if (has('MAR-INF/MANIFEST.json') || ends(/(^|\/)MANIFEST\.json$/))
    return { found: 'an archive of TorchServe (.mar)', remedy: unpack }
  return undefined
}

// ---- Names -----------------------------------------------------------------------------------------------------------

/** Endings that mean another kind of file to everyone who sees the name. */
const otherEndings: Readonly<Record<string, string>> = {
  '.onnx': 'ONNX',
  '.safetensors': 'safetensors',
  '.h5': 'HDF5',
  '.hdf5': 'HDF5',
  '.keras': 'Keras',
  '.tflite': 'TensorFlow Lite',
  '.pb': 'TensorFlow',
  '.pt2': 'torch.export',
  '.mlmodel': 'Core ML',
  '.mlpackage': 'Core ML',
  '.gguf': 'GGUF',
  '.npy': 'NumPy',
  '.npz': 'NumPy',
  '.json': 'JSON',
}

/**
 * @param who for messages: the function that would write TorchScript
 * @throws AlambicError `ERR_ARGUMENT` for a path whose ending means another kind of file
 */
export function requireScriptPath(who: string, path: string): void {
  const kind = otherEndings[extname(path).toLowerCase()]
  if (kind === undefined) return
  const others =
    kind === 'safetensors'
      ? '; weights alone are written by saveStateDict'
      : kind === 'ONNX'
        ? "; ONNX is made in Python, by torch.onnx.export of the module's forward"
        : ''
  throw new AlambicError(
    'ERR_ARGUMENT',
    `${who}: expected a path for TorchScript, such as one that ends with .pt, .pts, .ts or .jit, got ${show(path)}, ` +
      `the name of a file of ${kind}${others}`,
  )
}

// ---- By the first bytes ----------------------------------------------------------------------------------------------

interface KnownKind extends OtherKind {
  is: (head: Buffer) => boolean
}

const unpack = 'unpack it, and load the file that is in it'
const convert = 'convert it in Python to safetensors'
const loadWeights = 'load them with loadStateDict'
const saveInPython =
  'save what it was made of in Python: the model with torch.jit.save, or its weights with torch.save or safetensors'

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
    remedy: convert,
  },
  {
    is: begins('934e554d5059'),
    found: "an array of NumPy's (.npy)",
    remedy: convert,
  },
  { is: begins('47475546'), found: 'a GGUF file', remedy: convert },
  { is: head => text(head).slice(4, 8) === 'TFL3', found: 'a model of TensorFlow Lite', remedy: convert },
  { is: isOnnx, found: 'a model in ONNX, which is not read', remedy: saveInPython },
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

/**
 * ONNX has no mark. A message of its protocol begins with the version, a small number in field 1, and goes on with the
 * name of its maker (2), the graph (7), or another of its fields up to 25. TensorFlow's, of version 1, looks alike.
 */
function isOnnx(head: Buffer): boolean {
  const [first, version, next] = head
  if (first !== 0x08 || version === undefined || version < 2 || version > 32 || next === undefined)
    return false
  return [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72].includes(next)
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
