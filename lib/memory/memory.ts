/**
 * Who releases a tensor. In order of preference: `using` or `dispose()`, {@link scope}, and a FinalizationRegistry as
 * the backstop, which runs only when the event loop turns: a synchronous loop must not depend on it.
 */
import { types } from 'node:util'
import { AlambicError, argumentError } from '../errors.js'
import { callBuffer, claim } from '../native/call-buffer.js'
import { native } from '../native/loader.js'
import type { Handle } from '../native/contract.js'
import type { Tensor } from '../tensors/tensor.js'
import { callback, requireKind } from '../checks/options.js'
import { isMap, isPlainObject, isPromise, isSet } from '../checks/realms.js'
import type { Device } from '../tensors/types.js'

/** What was made in a scope, to be released at its end. @internal */
export interface OpenScope {
  readonly made: Tensor[]
  readonly outer: OpenScope | null
}

let current: OpenScope | null = null

/** Says to native code whether a scope is open: what garbage collection cannot free must not call for it. */
let scopeFlag: Uint8Array | undefined

function enter(scope: OpenScope | null): void {
  current = scope
  scopeFlag ??= native.scopeFlag()
  scopeFlag[0] = scope === null ? 0 : 1
}

// Read once: a member of the lazily loaded addon costs more than it.
let releaseHandle: typeof native.release = handle => {
  releaseHandle = native.release
  return releaseHandle(handle)
}

/** What {@link Tensor.dispose} does. @internal */
export function release(tensor: Tensor): void {
  if (tensor.handle !== 0) releaseHandle(tensor.handle)
  tensor.handle = 0
}

const backstop = new FinalizationRegistry<Handle>(handle => releaseHandle(handle))

/**
 * Tensors that the backstop does not know yet. Registering costs as much as a small operator, and most tensors are
 * disposed of soon. No finalizer runs before the event loop turns, and by then they are registered.
 */
const young: (Tensor | null)[] = new Array<null>(256).fill(null)
let youngCount = 0
let isScheduled = false

function watch(tensor: Tensor): void {
  if (youngCount === young.length) registerYoung()
  young[youngCount++] = tensor
  if (isScheduled) return
  isScheduled = true
  queueMicrotask(() => {
    isScheduled = false
    registerYoung()
  })
}

function registerYoung(): void {
  for (let i = 0; i < youngCount; i++) {
    const tensor = young[i]!
    if (tensor.handle !== 0) backstop.register(tensor, tensor.handle)
    young[i] = null
  }
  youngCount = 0
}

/** Every new tensor comes by here once. */
export function track(tensor: Tensor, scoped = true): void {
  if (current === null || !scoped) watch(tensor)
  else current.made.push(tensor)
}

/** Memory that this thread's live tensors hold. */
export interface Memory {
  /** Tensors that are not released yet. */
  tensors: number
  /** Distinct storages behind them: views share one. */
  storages: number
  /** Bytes of these storages, each counted once, on all devices. */
  bytes: number
  /** Bytes of CPU memory that no tensor uses, kept for later ones, in the whole process. */
  idle: number
}

/** The tensors of this thread that are not released, their bytes, and the idle memory. */
export function memory(): Memory {
  return native.memory()
}

/** Bytes of a GPU's memory that libtorch uses in the whole process. */
export interface DeviceMemory {
  /** In use: by tensors, autograd graphs, the state of optimizers, CUDA graphs. */
  allocated: number
  /** Taken from the GPU: memory in use, and memory kept for later tensors. */
  reserved: number
  /** The largest `allocated` since the process began. */
  peakAllocated: number
  /** The largest `reserved` since the process began. */
  peakReserved: number
}

/**
 * What libtorch's allocator counts on a GPU (Python's `torch.cuda.memory_stats`). Other processes cannot use
 * `reserved`; the CUDA context and NVIDIA's libraries take some hundred MiB more. `'cuda'` is the current GPU.
 *
 * @throws AlambicError `ERR_DEVICE` for a GPU that is not there, a libtorch for the CPU only, or a device that is no
 *   GPU of NVIDIA's; `ERR_NOT_IMPLEMENTED` where the CUDA library was not built (docs/cuda.md)
 */
export function deviceMemory(device: Device = 'cuda'): DeviceMemory {
  return native.deviceMemory(device)
}

/**
 * Sets how much freed CPU memory is kept for later tensors, in bytes: a training step needs the same sizes each time,
 * and new memory from the system takes longer than many operators. The memory that has been idle longest is freed
 * first; with 0 nothing is kept, and libtorch's own allocator is used. For all threads. Default: the environment
 * variable `ALAMBIC_IDLE_MEMORY`, in MiB; without it an eighth of the machine's (or container's) memory, at most 4 GiB,
 * and 0 under sanitizers and valgrind. If the application has set an allocator of its own, nothing is kept.
 *
 * @throws AlambicError `ERR_ARGUMENT` for anything but an integer of at least 0
 */
export function limitIdleMemory(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0)
    throw argumentError('limitIdleMemory: bytes', 'an integer of at least 0', bytes)
  native.limitIdleMemory(bytes)
}

/** Gives the idle memory of {@link memory} back to the system, for example after a training. */
export function releaseIdleMemory(): void {
  native.releaseIdleMemory()
}

/**
 * Runs `body` and releases every tensor made in it, except those in its result: a tensor, or tensors inside arrays,
 * plain objects, maps (keys and values) and sets, at any depth, also under symbols and in properties that are not
 * enumerable. Tensors in instances of other classes are not found, nor those that an array of more than 1000 elements
 * has under names of its own.
 * Parameters and buffers of modules made inside are not released, nor are tensors passed to {@link keep}. Scopes nest:
 * the result of the inner one belongs to the outer. A promise in the result may resolve to any of the tensors: then none
 * is released at the end, and garbage collection releases those that nobody gets.
 *
 * @throws AlambicError `ERR_ASYNC_CALLBACK` when `body` returns a promise or a generator: tensors made later would escape the
 *   scope
 */
export function scope<T>(body: () => T): T {
  requireKind('scope: body', callback, body)
  const outer = current
  const made: Tensor[] = []
  const leaving = new Set<Tensor>()
  let isAwaited = false
  enter({ made, outer })
  try {
    const result = body()
    refusePromise('scope', result)
    if (made.length > 0) isAwaited = collectTensors(result, tensor => leaving.add(tensor))
    return result
  } finally {
    enter(outer)
    settle(made, leaving, isAwaited)
  }
}

/**
 * A scope that is left and entered again, so that others may run between the parts of what is done in it: to them it is
 * not open. @internal
 */
export class DividedScope {
  readonly #made: Tensor[] = []

  /** A part. What it makes lives until {@link close}, unless a scope inside of it releases it. */
  run<T>(body: () => T): T {
    const outer = current
    enter({ made: this.#made, outer })
    try {
      const result = body()
      refusePromise('scope', result)
      return result
    } finally {
      enter(outer)
    }
  }

  /** Releases what was made, except the tensors in `result`, which belong to the scope around from then on. */
  close(result?: unknown): void {
    const leaving = new Set<Tensor>()
    collectTensors(result, tensor => leaving.add(tensor))
    settle(this.#made.splice(0), leaving)
  }
}

/**
 * Releases tensors in one native call, and hands those that leave to the scope around.
 *
 * @param isAwaited whether a promise may resolve to any of them: then the backstop releases what nobody gets
 */
function settle(made: readonly Tensor[], leaving: ReadonlySet<Tensor>, isAwaited = false): void {
  claim(made.length)
  let count = 0
  for (const tensor of made) {
    if (tensor.handle === 0) continue
    if (leaving.has(tensor)) track(tensor)
    else if (isAwaited) watch(tensor)
    else {
      callBuffer[count++] = tensor.handle
      tensor.handle = 0
    }
  }
  if (count > 0) native.releaseAll(count)
}

/** Takes a tensor out of its scope, so that your code has to dispose of it. Returns the tensor. */
export function keep<T extends Tensor>(tensor: T): T {
  if (current !== null && removeFrom(current, tensor)) watch(tensor)
  return tensor
}

function removeFrom({ made }: OpenScope, tensor: Tensor): boolean {
  const position = made.lastIndexOf(tensor)
  if (position >= 0) made.splice(position, 1)
  return position >= 0
}

/** The innermost scope, for {@link moveToScope}; null outside of any. @internal */
export function currentScope(): OpenScope | null {
  return current
}

/** A tensor made in a scope inside of `target` lives as long as what was made in `target` itself. @internal */
export function moveToScope(tensor: Tensor, target: OpenScope | null): void {
  for (let inner = current; inner !== null && inner !== target; inner = inner.outer) {
    if (!removeFrom(inner, tensor)) continue
    if (target === null) watch(tensor)
    else target.made.push(tensor)
    return
  }
}

/** Releases a tensor now if it was made in the innermost scope, which would do it at its end. @internal */
export function releaseEarly(tensor: Tensor): void {
  if (current !== null && removeFrom(current, tensor)) release(tensor)
}

/** Runs `body` outside all scopes: no scope releases the tensors that it makes. Returns its result. */
export function unscoped<T>(body: () => T): T {
  requireKind('unscoped: body', callback, body)
  const outer = current
  enter(null)
  try {
    return body()
  } finally {
    enter(outer)
  }
}

/** Grad mode and scopes belong to the thread, not to a chain of promises, nor to a generator that runs later. */
export function refusePromise(
  what: string,
  result: unknown,
  remedy = `put ${what}() inside the asynchronous function, around the synchronous parts`,
): void {
  if (isPromise(result))
    throw new AlambicError(
      'ERR_ASYNC_CALLBACK',
      `${what}: expected a synchronous callback, got one that returns a promise; ${remedy}`,
    )
  if (types.isGeneratorObject(result))
    throw new AlambicError(
      'ERR_ASYNC_CALLBACK',
      `${what}: expected a synchronous callback, got one that returns a generator, which runs only later; ` +
        'return what it yields, such as [...generator]',
    )
}

/**
 * Calls `visit` for the tensors in a value: where {@link scope} looks for them. Returns whether there is a promise, into
 * which nobody can look. @internal
 */
export function collectTensors(value: unknown, visit: (tensor: Tensor) => void): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (isTensor(value)) {
    visit(value)
    return false
  }
  let hasPromise = false
  // A set goes on to what is added while it is run through, and has nothing twice.
  const found = new Set<object>([value])
  for (const object of found)
    if (isTensor(object)) visit(object)
    else if (types.isPromise(object)) hasPromise = true
    else for (const part of partsOf(object)) if (typeof part === 'object' && part !== null) found.add(part)
  return hasPromise
}

/**
 * Elements, keys and values, also under symbols and of properties that are not enumerable. Instances of classes are not
 * looked into: what they hold may be anything.
 */
function partsOf(object: object): Iterable<unknown> {
  if (Array.isArray(object)) {
    const more = propertiesBeside(object)
    return more.length === 0 ? (object as unknown[]) : [...(object as unknown[]), ...more]
  }
  if (isPlainObject(object)) {
    const values = Object.values(object)
    const keys = Reflect.ownKeys(object)
    return keys.length === values.length ? values : values.concat(hiddenValues(object, keys))
  }
  const parts: unknown[] = []
  if (isSet(object)) object.forEach(each => parts.push(each))
  else if (isMap(object)) object.forEach((value, key) => parts.push(key, value))
  else return parts
  return parts.concat(valuesAt(object, Reflect.ownKeys(object)))
}

/** To list the names of a longer array's elements takes longer than to make the array. */
const LONGEST_LISTED = 1000

/** What an array holds beside its elements; of a very long one, under symbols only. */
function propertiesBeside(array: readonly unknown[]): unknown[] {
  if (array.length > LONGEST_LISTED) return valuesAt(array, Object.getOwnPropertySymbols(array))
  const keys = Reflect.ownKeys(array)
  return keys.length === array.length + 1 ? [] : valuesAt(array, keys.slice(keys.indexOf('length') + 1))
}

function hiddenValues(object: object, keys: readonly PropertyKey[]): unknown[] {
  const isShown = (key: PropertyKey) =>
    typeof key === 'string' && Object.prototype.propertyIsEnumerable.call(object, key)
  return valuesAt(
    object,
    keys.filter(key => !isShown(key)),
  )
}

/** Getters are not called. */
function valuesAt(object: object, keys: readonly PropertyKey[]): unknown[] {
  return keys.map(key => Reflect.getOwnPropertyDescriptor(object, key)?.value as unknown)
}

export { isPlainObject }

function isTensor(value: object): value is Tensor {
  return typeof (value as Tensor).handle === 'number' && typeof (value as Tensor).dispose === 'function'
}
