/**
 * What is looked at before libtorch is given a file. libtorch believes what an archive says of itself: sizes of
 * tensors beyond their storage, pickles and sources nested without end would bring the process down.
 */
import { AlambicError } from '../errors.js'
import { fileError } from '../io/file-error.js'
import { kindBesideModels } from '../io/other-kinds.js'
import { torchVocabulary, type StorageReference } from '../io/pickle/torch.js'
import { unpickle, type Vocabulary } from '../io/pickle/unpickler.js'
import { Dict, PySet, Tuple, type Value } from '../io/pickle/values.js'
import { Malformed, StorageRecord } from '../io/records.js'
import { checkRange, type ByteSource } from '../io/source.js'
import { openTorchArchive, refuseBigEndian, type TorchArchive } from '../io/torch-zip.js'
import { isZip } from '../io/zip.js'
import { checkSource } from './source-check.js'

/** Modules, dicts and tuples inside of one another: the deepest known networks have about 60. */
const maxNesting = 400

const maxPickleBytes = 2 ** 28
const maxSourceBytes = 2 ** 26

/**
 * @param bytes of the whole file
 * @throws AlambicError `ERR_FILE_FORMAT`
 */
export async function checkTorchScript(bytes: Uint8Array, name: string): Promise<void> {
  const source = sourceOf(bytes, name)
  if (!isZip(bytes))
    throw fileError(name, {
      offset: 0,
      expected: 'TorchScript (a file of torch.jit.save)',
      ...(await kindBesideModels(source)),
    })
  const archive = await openTorchArchive(source)
  const { zip, prefix, kind } = archive
  if (kind !== 'TorchScript')
    throw new AlambicError(
      'ERR_FILE_FORMAT',
      `${name}: expected TorchScript (a file of torch.jit.save), found a file of torch.save; load weights with ` +
        'loadStateDict, or save a model in Python with torch.jit.save(torch.jit.script(model), path)',
    )
  for (const needed of ['data.pkl', 'constants.pkl']) zip.entry(prefix + needed)
  await zip.verifyAll()
  await refuseBigEndian(source, archive.zip, archive.prefix)
  await checkPickle(source, archive, 'data.pkl', 'data')
  await checkPickle(source, archive, 'constants.pkl', 'constants')
  await checkCode(source, archive)
}

/** Bytes in memory, read so that the event loop turns between pieces. */
function sourceOf(bytes: Uint8Array, name: string): ByteSource {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const source: ByteSource = {
    name,
    size: buffer.length,
    descriptor: undefined,
    async read(offset, length) {
      checkRange(source, offset, length)
      if (length > 1 << 20) await new Promise(resolve => setImmediate(resolve))
      return buffer.subarray(offset, offset + length)
    },
    close: () => Promise.resolve(),
  }
  return source
}

// ---- Pickles -------------------------------------------------------------------------------------------------------------

/** Reads a pickle as libtorch will, with records of tensors in the place of tensors. */
async function checkPickle(
  source: ByteSource,
  archive: TorchArchive,
  name: string,
  folder: string,
): Promise<void> {
  const { zip, prefix } = archive
  const { offset, size } = zip.entry(prefix + name)
  if (size > maxPickleBytes)
    throw fileError(source.name, {
      offset,
      expected: `a pickle of at most ${maxPickleBytes} bytes`,
      found: `${size}`,
    })
  const vocabulary = scriptVocabulary(reference => storageOf(archive, folder, reference))
  try {
    const { value } = unpickle(await zip.read(prefix + name), vocabulary, source.name, offset)
    checkNesting(value)
  } catch (error) {
    if (error instanceof Malformed)
      throw fileError(source.name, { offset, expected: error.expected, found: error.found })
    if (error instanceof AlambicError && error.code === 'ERR_UNSAFE_PICKLE')
      throw new AlambicError('ERR_FILE_FORMAT', error.message.replace(/; pickles are read.*$/, ''), {
        cause: error,
      })
    throw error
  }
}

/** Names of a TorchScript file: its own classes, and what its pickles need besides tensors. */
function scriptVocabulary(storage: (reference: StorageReference) => StorageRecord): Vocabulary {
  const tensors = torchVocabulary(storage)
  const rebuild = tensors.find('torch._utils._rebuild_tensor_v2')!.call!
  const known: Record<string, (args: readonly Value[]) => Value> = {
    'torch._utils._rebuild_qtensor': args => rebuild(args.slice(0, 4)),
    'torch._utils._rebuild_sparse_tensor': args => new Tuple(args),
    'torch._utils._rebuild_sparse_csr_tensor': args => new Tuple(args),
    'torch.jit._pickle.restore_type_tag': ([value = null, type = null]) => {
      if (typeof type !== 'string' || bracketDepth(type) > 100)
        throw new Malformed('a type', 'something else')
      return value
    },
  }
  for (const list of ['intlist', 'doublelist', 'boollist', 'tensorlist'])
    known[`torch.jit._pickle.build_${list}`] = ([value = null]) => value
  return {
    find: name => {
      if (/^__torch__\.[\w.<>]+$/.test(name)) return { name, call: makeObject }
      if (Object.hasOwn(known, name)) return { name, call: known[name]! }
      return tensors.find(name) ?? (isQuantizerName(name) ? { name } : undefined)
    },
    load: id => tensors.load(id),
    build(target, state) {
      if (!(target instanceof Dict) || target.map.size > 0) return false
      target.map.set('state', state)
      return true
    },
  }
}

/** Object or enumeration member: only how deep it goes matters. */
function makeObject(args: readonly Value[]): Value {
  const object = new Dict()
  if (args.length > 0) object.map.set('arguments', new Tuple(args))
  return object
}

function isQuantizerName(name: string): boolean {
  return /^torch\.per_(tensor|channel)_affine(_float_qparams)?$/.test(name)
}

function storageOf(
  { zip, prefix }: TorchArchive,
  folder: string,
  { key, dtype, bytes, view }: StorageReference,
): StorageRecord {
  const name = `${prefix}${folder}/${key}`
  const entry = zip.entries.get(name)
  if (view !== undefined) throw new Malformed('a whole storage', 'a part of one')
  if (entry === undefined || entry.size < bytes)
    throw new Malformed(
      `an entry ${JSON.stringify(name)} of ${bytes} bytes`,
      entry === undefined ? 'none' : `one of ${entry.size} bytes`,
    )
  return new StorageRecord(key, dtype, bytes)
}

/** libtorch walks and releases values by recursion. */
function checkNesting(root: Value): void {
  const heights = new Map<Value, number>()
  const open = new Map<Value, { children: Value[]; next: number; height: number }>()
  const enter = (value: Value) => open.set(value, { children: childrenOf(value), next: 0, height: 0 })
  const path: Value[] = [root]
  enter(root)
  while (path.length > 0) {
    const value = path.at(-1)!
    const state = open.get(value)!
    const child = state.children[state.next++]
    if (child === undefined) {
      path.pop()
      open.delete(value)
      heights.set(value, state.height)
      const parent = open.get(path.at(-1) ?? null)
      if (parent) parent.height = Math.max(parent.height, state.height + 1)
      continue
    }
    const known = heights.get(child)
    if (open.has(child)) throw new Malformed('values', 'one that contains itself')
    if (path.length + (known ?? 0) > maxNesting)
      throw new Malformed(`values nested at most ${maxNesting} deep`, 'more')
    if (known !== undefined) state.height = Math.max(state.height, known + 1)
    else {
      path.push(child)
      enter(child)
    }
  }
}

/** Those that are containers themselves. */
function childrenOf(value: Value): Value[] {
  if (Array.isArray(value)) return value.filter(isContainer)
  if (value instanceof Dict) return [...value.map.keys(), ...value.map.values()].filter(isContainer)
  if (value instanceof Tuple || value instanceof PySet) return value.items.filter(isContainer)
  return []
}

function isContainer(value: Value): boolean {
  return Array.isArray(value) || value instanceof Dict || value instanceof Tuple || value instanceof PySet
}

function bracketDepth(text: string): number {
  let [depth, deepest] = [0, 0]
  for (const character of text) {
    if (character === '[' || character === '(') deepest = Math.max(deepest, ++depth)
    else if (character === ']' || character === ')') depth--
  }
  return deepest
}

// ---- Code ----------------------------------------------------------------------------------------------------------------

async function checkCode(source: ByteSource, { zip, prefix }: TorchArchive): Promise<void> {
  const names = [...zip.entries.keys()].filter(
    name => name.startsWith(`${prefix}code/`) && name.endsWith('.py'),
  )
  for (const name of names) {
    const { offset, size } = zip.entry(name)
    const problem =
      size > maxSourceBytes
        ? { expected: `at most ${maxSourceBytes} bytes of source`, found: `${size}` }
        : checkSource((await zip.read(name)).toString('latin1'))
    if (problem) throw fileError(source.name, { offset, ...problem })
  }
}
