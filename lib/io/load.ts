import { AlambicError, argumentError, show } from '../errors.js'
import type { StateDict } from '../nn/module.js'
import { readOptions, text, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import type { DType } from '../tensors/types.js'
import { isDType, requireDType } from './dtypes.js'
import { readDocument, type FileDocument } from './document.js'
import { materializeOptions, TensorMaker, type MaterializeOptions } from './materialize.js'
import { dtypeNamed } from './pickle/torch.js'
import { kindOf, Reference, unsafePickle } from './pickle/unpickler.js'
import { Bytes, Complex128, Dict, PySet, Tuple, Unknown, type Value } from './pickle/values.js'
import { StorageRecord, TensorRecord } from './records.js'
import { openSource, type ByteSource, type FileOrBytes } from './source.js'

export interface LoadOptions extends MaterializeOptions {
  /**
   * Where in the file the weights are, such as `'state_dict'` or `'models.student'`; `''` is the whole file. Default:
   * the whole file, except for a checkpoint with a model's tensors under `state_dict`, `model_state_dict` or `model`.
   * Where weights stand beside them, as tensors or in dicts such as `classifier`, it is the whole file; copies of the
   * model's tensors, such as an average of them, are none, nor are dicts in a file that `epoch`, `optimizer` and the like
   * show to be a checkpoint. Other tensors beside them do not count as weights if they are single numbers or the states of generators, such as
   * `best_acc` and `rng_state`, or if `epoch`, `optimizer` and the like show that the file is a checkpoint; tensors
   * with the usual names of weights, such as `weight`, always count.
   */
  entry?: string
}

export interface LoadCheckpointOptions extends MaterializeOptions {
  /**
   * The part to read, such as `'optimizer'`; objects of unknown classes in other parts are no error then. Default: the
   * whole file.
   */
  entry?: string
}

const loadOptions: Kinds<LoadOptions & LoadCheckpointOptions> = { ...materializeOptions, entry: text }

/**
 * The tensors of a file by their dotted keys. The file is safetensors (also several, by their `*.index.json`), or one
 * of `torch.save`, new or old; the format is recognised by content. Dicts in dicts are flattened with dots; other
 * values are left out.
 *
 * A pickle is read, never run. Objects of other classes, such as an `argparse.Namespace` or a NumPy number, are left
 * out too; if tensors are inside them, or there are no other tensors, the file is refused, and the error names the
 * class. Tensors that shared memory when they were saved share it again; they record no gradients. The caller releases
 * them.
 *
 * @param file a path, or the bytes of a file
 * @example model.loadStateDict(await loadStateDict('resnet20.th'), { prefix: 'module.' })
 * @throws AlambicError `ERR_FILE_NOT_FOUND`; `ERR_FILE_FORMAT` for a file that is damaged, of another kind, or
 *   big-endian; `ERR_UNSAFE_PICKLE`; `ERR_DTYPE` for a dtype that this libtorch does not have; `ERR_STATE_DICT` when
 *   there are no tensors, or no such entry
 */
export async function loadStateDict(file: FileOrBytes, options: LoadOptions = {}): Promise<StateDict> {
  const { entry, ...rest } = readOptions('loadStateDict', options, loadOptions)
  return withDocument(file, rest, async ({ value }, maker, name) => {
    const records = stateDictRecords(value, entry, name)
    const tensors: [string, Tensor][] = []
    for (const [key, record] of records) tensors.push([key, await maker.tensor(record, `${name}: ${key}`)])
    return [Object.fromEntries(tensors), tensors.map(([, tensor]) => tensor)]
  })
}

/**
 * The whole content of a file, for example a checkpoint with weights, the state of an optimizer and numbers. Dicts
 * become plain objects (keys that are numbers become strings), lists and tuples arrays, sets `Set`s, None null,
 * integers beyond 2^53 bigints, bytes `Buffer`s, complex numbers `{ re, im }`, dtypes and devices their names. Objects
 * of other classes are an `ERR_UNSAFE_PICKLE`, which names the class; if they are not in the part that you need, read
 * that with `entry`.
 *
 * @example const { model, optimizer, epoch } = await loadCheckpoint('checkpoint.pt')
 * @throws AlambicError as {@link loadStateDict}
 */
export async function loadCheckpoint<T = unknown>(
  file: FileOrBytes,
  options: LoadCheckpointOptions = {},
): Promise<T> {
  const { entry = '', ...rest } = readOptions('loadCheckpoint', options, loadOptions)
  return withDocument(file, rest, async ({ value }, maker, name) => {
    const converter = new Converter(maker, name, value)
    return [(await converter.convert(findEntry(value, entry, name), entry, 0)) as T, converter.tensors]
  })
}

/** Reads a document, and makes tensors of it while its files are open; releases them when that fails. */
async function withDocument<T>(
  file: FileOrBytes,
  options: MaterializeOptions,
  body: (document: FileDocument, maker: TensorMaker, name: string) => Promise<[result: T, tensors: Tensor[]]>,
): Promise<T> {
  if (options.dtype !== undefined) checkDType(options.dtype)
  const sources: ByteSource[] = []
  const open = async (input: FileOrBytes) => {
    const source = await openSource(input)
    sources.push(source)
    return source
  }
  const maker = new TensorMaker(options)
  let kept: Tensor[] = []
  try {
    const source = await open(file)
    const [result, tensors] = await body(await readDocument(source, open), maker, source.name)
    kept = tensors
    return result
  } finally {
    maker.finish(new Set(kept))
    for (const source of sources) await source.close()
  }
}

/** What floating point tensors are converted to: to a dtype without fractions they would lose what they hold. */
function checkDType(dtype: DType): void {
  if (!isDType(dtype))
    throw new AlambicError('ERR_DTYPE', `dtype: expected a dtype such as 'float32', got ${show(dtype)}`)
  if (!/^(float|bfloat|complex)/.test(dtype))
    throw new AlambicError('ERR_DTYPE', `dtype: expected a floating point dtype, got ${show(dtype)}`)
  requireDType(dtype, 'dtype')
}

// ---- Finding the state dict ------------------------------------------------------------------------------------------------

/** Where training scripts put a model's weights. */
const USUAL_ENTRIES = ['state_dict', 'model_state_dict', 'model']

/** What they put beside them, in lower case. */
const BOOKKEEPING =
  /^(epochs?|iter(ation)?s?|(global_)?steps?|optim(izer)?s?(_state)?(_dict)?|opt|(lr_)?sched(uler)?s?(_state)?(_dict)?|(grad_)?scaler|amp|args|arch|config|cfg|hyper_parameters|meta|pytorch-lightning_version|(best_?)?(acc(uracy)?|prec|loss)[_@]?\d*)$/

/** How layers call their tensors. */
const WEIGHT_NAME = /(^|[._])(weight|bias|running_mean|running_var|num_batches_tracked|gamma|beta)(_\w+)?$/

/** A file that makes more of itself by naming one dict many times is not walked to the end. */
const MAX_VISITS = 1_000_000
const MAX_DEPTH = 200

/**
 * The records of a state dict by their dotted keys.
 *
 * @throws AlambicError `ERR_STATE_DICT`; `ERR_UNSAFE_PICKLE` where tensors are in an object that is not known, or there
 *   are none and such an object
 * @param options.isWhole false passes by the tensors in objects that are not known
 */
export function stateDictRecords(
  value: Value,
  entry: string | undefined,
  file: string,
  { isWhole = true }: { isWhole?: boolean } = {},
): Map<string, TensorRecord> {
  const whole = value
  const root = entry === undefined ? usualEntry(value) : findEntry(value, entry, file)
  const records = new Map<string, TensorRecord>()
  let visits = 0
  let unknown: { object: Unknown; path: string } | undefined
  const searched = new Set<Value>()
  const visit = (value: Value, path: string, depth: number) => {
    if (++visits > MAX_VISITS || depth > MAX_DEPTH)
      throw new AlambicError('ERR_FILE_FORMAT', `${file}: the values are nested too deep, or in circles`)
    if (value instanceof TensorRecord) {
      if (records.has(path)) throw ambiguous(file, path)
      records.set(path, value)
    } else if (value instanceof Unknown) {
      unknown ??= { object: value, path }
      if (isWhole && holdsTensors(value, searched)) throw refusal(file, value, path, whole)
    } else
      for (const [key, child] of childrenOf(value))
        visit(child, path === '' ? key : `${path}.${key}`, depth + 1)
  }
  if (!(root instanceof TensorRecord)) visit(root, '', 0)
  if (records.size > 0 || (root instanceof Dict && root.map.size === 0)) return records
  if (unknown !== undefined) throw refusal(file, unknown.object, unknown.path, whole)
  throw new AlambicError(
    'ERR_STATE_DICT',
    `${file}: expected a dict of tensors${entry ? ` at ${show(entry)}` : ''}, found ${describe(root)}; ` +
      'loadCheckpoint() reads whatever a file holds',
  )
}

function ambiguous(file: string, key: string): AlambicError {
  return new AlambicError(
    'ERR_STATE_DICT',
    `${file}: two tensors would both be called ${show(key)}; choose one part with { entry }`,
  )
}

function usualEntry(value: Value): Value {
  if (!(value instanceof Dict)) return value
  const found = USUAL_ENTRIES.filter(name => value.map.get(name) instanceof Dict)
  if (found.length !== 1) return value
  const isCheckpoint = Array.from(value.map.keys()).some(
    key => typeof key === 'string' && BOOKKEEPING.test(key.toLowerCase()),
  )
  const entry = value.map.get(found[0]!) as Dict
  const own = shapesByName(entry)
  const searched = new Set<Value>([entry])
  const hasWeights = Array.from(value.map).some(([key, child]) =>
    child instanceof TensorRecord
      ? isWeight(keyText(key), child, isCheckpoint)
      : !isCheckpoint && holdsOtherWeights(child, keyText(key), own, searched),
  )
  return hasWeights ? value : entry
}

/**
 * Whether a part of a file has weights by their names. Copies of the entry's `own` tensors, such as averages of them, are
 * none.
 */
function holdsOtherWeights(
  value: Value,
  path: string,
  own: ReadonlyMap<string, string>,
  searched: Set<Value>,
  depth = 0,
): boolean {
  if (searched.has(value) || depth > MAX_DEPTH) return false
  searched.add(value)
  if (isSame(shapesByName(value), own)) return false
  return childrenOf(value).some(([key, child]) => {
    const name = `${path}.${key}`
    if (child instanceof TensorRecord) return WEIGHT_NAME.test(name)
    return holdsOtherWeights(child, name, own, searched, depth + 1)
  })
}

function isSame(shapes: ReadonlyMap<string, string>, own: ReadonlyMap<string, string>): boolean {
  if (shapes.size === 0 || shapes.size !== own.size) return false
  return Array.from(shapes).every(([name, shape]) => own.get(name) === shape)
}

/** Of the tensors that lie in a dict itself, as the names that a single GPU gives them. */
function shapesByName(value: Value): Map<string, string> {
  const shapes = new Map<string, string>()
  for (const [name, child] of childrenOf(value))
    if (child instanceof TensorRecord) shapes.set(name.replace(/^module\./, ''), String(child.shape))
  return shapes
}

/** Whether a tensor beside an entry for weights is one itself, rather than a number or a state of the training's. */
function isWeight(name: string, { shape, dtype, numel }: TensorRecord, isCheckpoint: boolean): boolean {
  if (WEIGHT_NAME.test(name)) return true
  const isNumber = numel <= 1
  const isGeneratorState = dtype === 'uint8' && shape.length === 1
  return !(isCheckpoint || isNumber || isGeneratorState)
}

/** Whether there are tensors in what an unknown object was made of; not in what was `searched` before. */
function holdsTensors(object: Unknown, searched: Set<Value>): boolean {
  const open: Value[] = [object]
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (value instanceof TensorRecord) return true
    if (typeof value !== 'object' || value === null || searched.has(value)) continue
    searched.add(value)
    for (const part of partsOf(value)) open.push(part)
  }
  return false
}

function partsOf(value: object & Value): Iterable<Value> {
  if (value instanceof Unknown) return value.parts
  if (value instanceof Dict) return value.map.values()
  if (Array.isArray(value)) return value
  return value instanceof Tuple || value instanceof PySet ? value.items : []
}

/** An object that is needed and not known; where other parts of the file can be had, the message says how. */
function refusal(file: string, { what, at }: Unknown, path: string, whole: Value): AlambicError {
  const error = unsafePickle(file, at, what, path)
  const others = childrenOf(whole).filter(([key, child]) => child instanceof Dict && !path.startsWith(key))
  if (others.length === 0) return error
  const names = others.slice(0, 8).map(([key]) => show(key))
  return new AlambicError(
    error.code,
    `${error.message}, or read another part with { entry }: ${names.join(', ')}`,
  )
}

/** Keys may hold dots themselves: the longest that fits is taken first. */
function findEntry(value: Value, entry: string, file: string): Value {
  if (typeof entry !== 'string') throw argumentError('entry', 'a string', entry)
  let found = value
  let rest = entry
  while (rest !== '') {
    const children = childrenOf(found).filter(([key]) => rest === key || rest.startsWith(`${key}.`))
    const best = children.sort(([a], [b]) => b.length - a.length)[0]
    if (best === undefined) throw noEntry(file, entry, found)
    found = best[1]
    rest = rest.slice(best[0].length + 1)
  }
  return found
}

function noEntry(file: string, entry: string, value: Value): AlambicError {
  const keys = childrenOf(value).map(([key]) => show(key))
  const offer =
    keys.length > 0 ? keys.slice(0, 20).join(', ') + (keys.length > 20 ? ' …' : '') : kindOf(value)
  return new AlambicError('ERR_STATE_DICT', `${file}: no entry ${show(entry)}; there are ${offer}`)
}

function childrenOf(value: Value): [string, Value][] {
  if (value instanceof Dict) return Array.from(value.map, ([key, child]) => [keyText(key), child])
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : []
  return items.map((child, i) => [String(i), child])
}

/** As JavaScript's objects have them; keys of other kinds, such as tuples, as a text for messages. */
export function keyText(key: Value): string {
  if (typeof key === 'string') return key
  return typeof key === 'object' && key !== null ? `(${kindOf(key)})` : String(key)
}

function describe(value: Value): string {
  if (value instanceof TensorRecord) return `one tensor, ${value.dtype} (${value.shape.join(', ')})`
  const keys = childrenOf(value).map(([key]) => key)
  return keys.length > 0
    ? `${kindOf(value)} with ${keys
        .slice(0, 8)
        .map(each => show(each))
        .join(', ')}`
    : kindOf(value)
}

// ---- Everything ------------------------------------------------------------------------------------------------------------

class Converter {
  readonly tensors: Tensor[] = []
  /** One object of the file is one object here, and none is converted twice. */
  private readonly converted = new Map<Value, unknown>()

  constructor(
    private readonly maker: TensorMaker,
    private readonly file: string,
    private readonly whole: Value,
  ) {}

  async convert(value: Value, path: string, depth: number): Promise<unknown> {
    if (typeof value !== 'object' || value === null) return value
    const known = this.converted.get(value)
    if (known !== undefined) return known
    if (depth > MAX_DEPTH)
      throw new AlambicError(
        'ERR_FILE_FORMAT',
        `${this.file}: the values are nested deeper than ${MAX_DEPTH}`,
      )
    const result = await this.make(value, path, depth)
    this.converted.set(value, result)
    return result
  }

  private async make(value: object & Value, path: string, depth: number): Promise<unknown> {
    const name = `${this.file}: ${path}`
    if (value instanceof Unknown) throw refusal(this.file, value, path, this.whole)
    if (value instanceof TensorRecord) return this.keep(await this.maker.tensor(value, name))
    if (value instanceof StorageRecord) return this.keep(await this.maker.storageTensor(value, name))
    if (value instanceof Dict) return this.object(value, path, depth)
    if (value instanceof PySet) return this.fill(value, new Set(), value.items, path, depth)
    if (value instanceof Tuple) return this.fill(value, [], value.items, path, depth)
    if (Array.isArray(value)) return this.fill(value, [], value, path, depth)
    if (value instanceof Bytes) return Buffer.from(value.bytes)
    if (value instanceof Complex128) return { re: value.re, im: value.im }
    return value instanceof Reference ? (dtypeNamed(value.global) ?? value.global.name) : value
  }

  private keep(tensor: Tensor): Tensor {
    this.tensors.push(tensor)
    return tensor
  }

  private async object({ map }: Dict, path: string, depth: number): Promise<unknown> {
    const entries: [string, unknown][] = []
    const keys = new Set<string>()
    for (const [key, child] of map) {
      const text = keyText(key)
      if (keys.has(text) || (typeof key === 'object' && key !== null))
        throw new AlambicError(
          'ERR_FILE_FORMAT',
          `${this.file}: ${path || 'the file'}: expected keys that are strings or numbers, each once, found ${typeof key === 'object' && key !== null ? `${kindOf(key)} as a key` : `${show(text)} twice`}`,
        )
      keys.add(text)
      entries.push([text, await this.convert(child, path === '' ? text : `${path}.${text}`, depth + 1)])
    }
    return Object.fromEntries(entries)
  }

  private async fill(
    value: Value,
    target: unknown[] | Set<unknown>,
    items: readonly Value[],
    path: string,
    depth: number,
  ): Promise<unknown> {
    // Known before it is filled: a list may hold itself.
    this.converted.set(value, target)
    for (const [i, item] of items.entries()) {
      const child = await this.convert(item, `${path}[${i}]`, depth + 1)
      if (Array.isArray(target)) target.push(child)
      else target.add(child)
    }
    return target
  }
}
