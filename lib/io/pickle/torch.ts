/**
 * The names that a saved state dict or checkpoint needs, and what each stands for: about what Python's
 * `torch.load(weights_only=True)` allows. Calling one makes a record; nothing else happens.
 */
import type { DType } from '../../tensors/types.js'
import { fromStorageClass, isDType, itemSize } from '../dtypes.js'
import { Malformed, StorageRecord, TensorRecord, type TensorFields } from '../records.js'
import { kindOf, Reference, type Global, type Vocabulary } from './unpickler.js'
import { Bytes, Complex128, Dict, PySet, Tuple, Unknown, type Value } from './values.js'

/** How a pickle refers to a storage that lies outside of it. */
export interface StorageReference {
  key: string
  dtype: DType
  bytes: number
  /** In elements, for a part of a storage (old files). */
  view?: { key: string; offset: number; size: number }
}

/** @param storage gives the record for a reference: the same one for the same key */
export function torchVocabulary(storage: (reference: StorageReference) => StorageRecord): Vocabulary {
  return {
    passesUnknown: true,
    find: name => (Object.hasOwn(globals, name) ? { name, ...globals[name] } : dtypeOrStorage(name)),
    load: id => moduleClass(id) ?? storage(storageReference(id)),
  }
}

type Call = NonNullable<Global['call']>

const globals: Record<string, { call?: Call }> = {
  'collections.OrderedDict': { call: args => dictOf(args) },
  'collections.Counter': { call: args => dictOf(args) },
  'collections.defaultdict': { call: ([, ...items]) => dictOf(items) },
  'builtins.dict': { call: args => dictOf(args) },
  'builtins.list': { call: ([items = []]) => itemsOf(items) },
  'builtins.set': { call: ([items = []]) => new PySet(itemsOf(items)) },
  'builtins.frozenset': { call: ([items = []]) => new PySet(itemsOf(items)) },
  'builtins.complex': { call: ([re = 0, im = 0]) => new Complex128(number(re), number(im)) },
  'builtins.bytearray': { call: ([bytes = new Bytes(new Uint8Array())]) => expectBytes(bytes) },
  'builtins.bytes': { call: ([bytes = new Bytes(new Uint8Array())]) => expectBytes(bytes) },
  '_codecs.encode': { call: encodeLatin1 },

  'torch.Size': { call: ([items = []]) => new Tuple(itemsOf(items)) },
  'torch.device': { call: deviceName },
  'torch.serialization._get_layout': { call: ([name = null]) => text(name) },
  'torch.Tensor': {},
  'torch.nn.parameter.Parameter': {},
  'torch.nn.Parameter': {},

  'torch._utils._rebuild_tensor': { call: rebuildTensor },
  'torch._utils._rebuild_tensor_v2': { call: rebuildTensor },
  'torch._utils._rebuild_tensor_v3': { call: rebuildUntyped },
  'torch._utils._rebuild_parameter': { call: ([data]) => tensor(data) },
  'torch._utils._rebuild_parameter_with_state': { call: ([data]) => tensor(data) },
  'torch._tensor._rebuild_from_type_v2': { call: rebuildFromType },
}

/** `torch.float32` is a dtype; `torch.FloatStorage` and `torch.storage.UntypedStorage` are storages. */
function dtypeOrStorage(name: string): Global | undefined {
  const [module, last] = splitName(name)
  if (module === 'torch' && isDType(last)) return { name }
  return storageType(name) === undefined ? undefined : { name }
}

function storageType(name: string): DType | undefined {
  const [module, last] = splitName(name)
  if (module !== 'torch' && module !== 'torch.storage' && module !== 'torch.cuda') return undefined
  return last === 'UntypedStorage' ? 'uint8' : fromStorageClass(last)
}

function splitName(name: string): [module: string, last: string] {
  const dot = name.lastIndexOf('.')
  return [name.slice(0, dot), name.slice(dot + 1)]
}

/** The dtype that a global such as `torch.float32` names. */
export function dtypeNamed({ name }: Global): DType | undefined {
  const [module, last] = splitName(name)
  return module === 'torch' && isDType(last) ? last : undefined
}

// ---- Storages ------------------------------------------------------------------------------------------------------------

/** `('module', class, file, source)`: how old files name the class of a whole module. */
function moduleClass(id: Value): Unknown | undefined {
  const [kind, type] = id instanceof Tuple ? id.items : []
  if (kind !== 'module') return undefined
  if (type instanceof Unknown) return type
  throw new Malformed('the class of a module', kindOf(type ?? null))
}

/** Protocol 0 has the text that Python prints: `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 6)`. */
const printedStorage = /^\('storage', <class '([\w.]+)'>, '([^'\\]*)', '[^'\\]*', (\d+)(?:, None)?\)$/

function printedReference(text: string): StorageReference {
  const [, type = '', key, numel] = printedStorage.exec(text) ?? []
  const dtype = storageType(type)
  if (key === undefined || dtype === undefined) throw new Malformed('a storage', 'another text')
  return { key, dtype, bytes: size(Number(numel)) * itemSize(dtype) }
}

/** `('storage', class, key, location, numel)`, in old files with a view after it; the location does not matter. */
function storageReference(id: Value): StorageReference {
  if (typeof id === 'string') return printedReference(id)
  const [kind, type, key, , numel, view] = id instanceof Tuple ? id.items : []
  const dtype = type instanceof Reference ? storageType(type.global.name) : undefined
  if (kind !== 'storage' || dtype === undefined) throw new Malformed('a storage', kindOf(id))
  const reference = { key: keyText(key), dtype, bytes: size(numel) * itemSize(dtype) }
  if (view === undefined || view === null) return reference
  const [viewKey, offset, viewSize] = view instanceof Tuple ? view.items : []
  return { ...reference, view: { key: keyText(viewKey), offset: size(offset), size: size(viewSize) } }
}

function keyText(value: Value | undefined): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw new Malformed('the key of a storage', kindOf(value ?? null))
}

// ---- Tensors -------------------------------------------------------------------------------------------------------------

/** `(storage, offset, size, stride, requires_grad, backward_hooks, metadata)`; what is behind the strides may be missing. */
function rebuildTensor([storage, offset, shape, strides, , , metadata]: readonly Value[]): TensorRecord {
  const memory = expectStorage(storage)
  return new TensorRecord({ ...viewOf(memory, offset, shape, strides), ...flagsOf(metadata) })
}

/** The same with the dtype before the metadata: for dtypes without a class of storages. */
function rebuildUntyped(args: readonly Value[]): TensorRecord {
  const [storage, offset, shape, strides, , , type, metadata] = args
  const dtype = type instanceof Reference ? dtypeNamed(type.global) : undefined
  if (dtype === undefined) throw new Malformed('a dtype', kindOf(type ?? null))
  return new TensorRecord({
    ...viewOf(expectStorage(storage), offset, shape, strides),
    ...flagsOf(metadata),
    dtype,
  })
}

/** `(function, class, arguments, state)`: a tensor or parameter with attributes of its own, which are left out. */
function rebuildFromType([rebuild, type, args]: readonly Value[]): Value {
  const isTensor = type instanceof Reference && /^torch\.(Tensor|nn\..*Parameter)$/.test(type.global.name)
  if (!isTensor || !(rebuild instanceof Reference) || !(args instanceof Tuple))
    throw new Malformed('a tensor', type instanceof Reference ? type.global.name : kindOf(type ?? null))
  const { name, call } = rebuild.global
  if (call === undefined || !name.startsWith('torch._utils.')) throw new Malformed('a tensor', name)
  return call(args.items)
}

function viewOf(storage: StorageRecord, offset?: Value, shape?: Value, strides?: Value): TensorFields {
  return {
    storage,
    dtype: storage.dtype,
    offset: size(offset),
    shape: sizes(shape),
    strides: sizes(strides),
  }
}

function flagsOf(metadata: Value | undefined): Pick<TensorFields, 'isConjugate' | 'isNegative'> {
  if (!(metadata instanceof Dict)) return {}
  return { isConjugate: metadata.map.get('conj') === true, isNegative: metadata.map.get('neg') === true }
}

function expectStorage(value: Value | undefined): StorageRecord {
  if (value instanceof StorageRecord) return value
  throw new Malformed('a storage', kindOf(value ?? null))
}

function tensor(value: Value | undefined): TensorRecord {
  if (value instanceof TensorRecord) return value
  throw new Malformed('a tensor', kindOf(value ?? null))
}

function sizes(value: Value | undefined): number[] {
  return itemsOf(value ?? null).map(size)
}

function size(value: Value | undefined): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new Malformed('a size', typeof value === 'object' ? kindOf(value) : String(value))
}

// ---- Plain values ----------------------------------------------------------------------------------------------------------

function dictOf([items]: readonly Value[]): Dict {
  const dict = new Dict()
  if (items === undefined) return dict
  if (items instanceof Dict) {
    for (const [key, value] of items.map) dict.map.set(key, value)
    return dict
  }
  for (const pair of itemsOf(items)) {
    const [key, value, ...more] = itemsOf(pair)
    if (key === undefined || value === undefined || more.length > 0)
      throw new Malformed('a pair', kindOf(pair))
    dict.map.set(key, value)
  }
  return dict
}

function itemsOf(value: Value): Value[] {
  if (Array.isArray(value)) return [...value]
  if (value instanceof Tuple || value instanceof PySet) return [...value.items]
  throw new Malformed('a list or tuple', kindOf(value))
}

function number(value: Value): number {
  if (typeof value === 'number') return value
  throw new Malformed('a number', kindOf(value))
}

function text(value: Value): string {
  if (typeof value === 'string') return value
  throw new Malformed('a string', kindOf(value))
}

function expectBytes(value: Value): Bytes {
  if (value instanceof Bytes) return value
  throw new Malformed('bytes', kindOf(value))
}

/** How protocol 2 writes bytes: as text, to be encoded again. */
function encodeLatin1([content = null, encoding = null]: readonly Value[]): Bytes {
  if (text(encoding) !== 'latin1') throw new Malformed('bytes as latin1', text(encoding))
  return new Bytes(Buffer.from(text(content), 'latin1'))
}

function deviceName([type = null, index]: readonly Value[]): string {
  return index === undefined || index === null ? text(type) : `${text(type)}:${number(index)}`
}
