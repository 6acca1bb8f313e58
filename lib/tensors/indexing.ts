import { realFor, requireFits, type NestedData, type TypedArray } from './elements.js'
import { AlambicError, argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import { tensor, Tensor } from './tensor.js'
import type { DType, Scalar } from './types.js'

/** A range of indices, as Python's `start:stop:step`. Made by {@link slice}. */
export class Slice {
  readonly start: number | undefined
  readonly stop: number | undefined
  readonly step: number

  constructor(start?: number | null, stop?: number | null, step: number | null = 1) {
    this.start = bound('start', start)
    this.stop = bound('stop', stop)
    this.step = step ?? 1
    if (!Number.isSafeInteger(this.step) || this.step < 1)
      throw argumentError('slice: step', 'an integer of at least 1', step)
  }
}

function bound(name: string, value: number | null | undefined): number | undefined {
  if (value === null || value === undefined) return undefined
  if (!Number.isSafeInteger(value)) throw argumentError(`slice: ${name}`, 'an integer', value)
  return value
}

/** `slice(2)` is Python's `:2`, `slice(1, 3)` `1:3`, `slice(0, 10, 2)` `0:10:2`, `slice()` `:`. */
export function slice(): Slice
export function slice(stop: number | null | undefined): Slice
export function slice(
  start: number | null | undefined,
  stop: number | null | undefined,
  step?: number | null,
): Slice
export function slice(...bounds: (number | null | undefined)[]): Slice {
  if (bounds.length === 1) return new Slice(undefined, bounds[0])
  return new Slice(bounds[0], bounds[1], bounds[2])
}

/** Integers or booleans in arrays, nested for more dimensions. */
export type IndexArray = readonly (number | bigint | boolean | IndexArray)[]

/** What {@link Tensor.at} takes for a dimension. */
export type Index =
  number | bigint | boolean | Slice | null | '...' | ':' | Tensor | IndexArray | IntegerArray

type IntegerArray = Exclude<TypedArray, Float32Array | Float64Array>

/** What an index comes to: views are taken at once, picks all together at the end. */
type Step = { kind: 'select'; index: number } | Slice | null | '...' | ':' | Pick | boolean

/** A tensor of indices, or a mask. */
interface Pick {
  kind: 'pick'
  tensor: Tensor
  isMask: boolean
}

/** The tensor seen through the indices that are views, and what picks elements of it. */
interface Resolved {
  view: Tensor
  /** As `aten::index` takes them: null where a dimension is taken whole, one mask for all of its dimensions. */
  picks: (Tensor | null)[]
}

export function indexTensor(source: Tensor, indices: readonly Index[]): Tensor {
  return scope(() => {
    const { view, picks } = resolve('at', source, indices)
    if (picks.length > 0) return view.index(picks)
    return view === source ? view.alias() : view
  })
}

export function setIndexed(source: Tensor, indices: readonly Index[], value: Tensor | Scalar): void {
  scope(() => {
    const { view, picks } = resolve('setAt', source, indices)
    const filling = toFilling(source, value)
    if (picks.length > 0) view.indexPut_(picks, filling)
    else view.copy_(broadcastable(filling, view))
  })
}

/** The value as a tensor of the destination's dtype, without leading dimensions of size 1, which count for nothing. */
function toFilling(source: Tensor, value: Tensor | Scalar): Tensor {
  const { dtype, device } = source
  if (!(value instanceof Tensor)) {
    requireFits('setAt: value', value, dtype)
    return tensor(realFor(dtype, value), { dtype, device })
  }
  const { shape } = value
  const leading = shape.findIndex(size => size !== 1)
  const kept = leading < 0 ? [] : shape.slice(leading)
  const trimmed = kept.length === shape.length ? value : value.reshape(kept)
  return trimmed.to({ dtype, device })
}

function broadcastable(value: Tensor, view: Tensor): Tensor {
  const from = value.shape
  const to = view.shape
  const offset = to.length - from.length
  if (offset < 0 || from.some((size, i) => size !== 1 && size !== to[offset + i]))
    throw new AlambicError(
      'ERR_SHAPE_MISMATCH',
      `setAt: expected a value that broadcasts to (${to.join(', ')}), got (${from.join(', ')})`,
    )
  return value
}

function resolve(what: string, source: Tensor, indices: readonly Index[]): Resolved {
  const steps = expandEllipsis(
    what,
    Array.from(indices, index => toStep(what, index, source)), // a hole is as undefined
    source.ndim,
  )
  const picks: (Tensor | null)[] = []
  let view = source
  /** Of `view`; the dimension of `source` that it is, is another one behind selections and added dimensions. */
  let dimension = 0
  let sourceDimension = 0
  const pick = (index: Tensor, dimensions: number) => {
    picks.push(index)
    dimension += dimensions
  }
  for (const step of steps) {
    if (typeof step === 'boolean') {
      view = view.unsqueeze(dimension)
      pick(tensor(step ? [0n] : [], { dtype: 'int64', device: view.device }), 1)
    } else if (step === null) {
      view = view.unsqueeze(dimension++)
      picks.push(null)
    } else if (step instanceof Slice) {
      view = range(view, dimension++, step)
      sourceDimension++
      picks.push(null)
    } else if (typeof step === 'string') {
      dimension++
      sourceDimension++
      picks.push(null)
    } else if (step.kind === 'select') {
      view = select(what, view, dimension, sourceDimension++, step.index)
    } else {
      if (step.isMask) requireMaskShape(what, view, dimension, sourceDimension, step.tensor)
      const dimensions = step.isMask ? step.tensor.ndim : 1
      pick(step.tensor, dimensions)
      sourceDimension += dimensions
    }
  }
  while (picks.at(-1) === null) picks.pop() // says nothing, and leads libtorch 1.13 astray
  return { view, picks }
}

const integerDtypes = new Set<DType>(['int8', 'int16', 'int32', 'int64', 'uint16', 'uint32', 'uint64'])

function toStep(what: string, index: Index, source: Tensor): Step {
  if (typeof index === 'number' || typeof index === 'bigint') return { kind: 'select', index: Number(index) }
  if (index === null || typeof index === 'boolean' || index instanceof Slice) return index
  if (index === '...' || index === ':') return index
  if (index instanceof Tensor) return tensorStep(what, index)
  const pick = toIndices(what, index, source)
  return { kind: 'pick', tensor: pick, isMask: pick.dtype === 'bool' }
}

function tensorStep(what: string, index: Tensor): Step {
  const { dtype } = index
  const isMask = dtype === 'bool' || dtype === 'uint8'
  if (!isMask && !integerDtypes.has(dtype))
    throw new AlambicError(
      'ERR_INDEX',
      `${what}: expected a tensor of integers or of booleans as index, got ${dtype}`,
    )
  // Of int32 libtorch makes int64 as well, from 2.0 on.
  if (index.ndim > 0)
    return { kind: 'pick', tensor: dtype === 'int32' ? index.to({ dtype: 'int64' }) : index, isMask }
  return isMask ? Boolean(index.item()) : { kind: 'select', index: index.item() }
}

/** An array or typed array as indices or a mask. */
function toIndices(what: string, index: unknown, source: Tensor): Tensor {
  const { device } = source
  if (ArrayBuffer.isView(index) && !(index instanceof DataView)) {
    const made = tensor(index as unknown as Int32Array)
    if (integerDtypes.has(made.dtype) || made.dtype === 'uint8') return made.to({ dtype: 'int64', device })
    throw argumentError(`${what}: index`, 'a typed array of integers', index)
  }
  if (!Array.isArray(index))
    throw argumentError(
      what,
      "an integer, a boolean, slice(), null, '...', ':', a tensor or an array as index",
      index,
    )
  const elements = index.flat(Infinity) as unknown[]
  const isMask = elements.length > 0 && elements.every(each => typeof each === 'boolean')
  const wrong = elements.find(
    each => typeof each !== 'boolean' && typeof each !== 'bigint' && !Number.isSafeInteger(each),
  )
  if (wrong !== undefined || elements.includes(undefined))
    throw typeof wrong === 'number'
      ? new AlambicError('ERR_INDEX', `${what}: expected integers in an array of indices, got ${wrong}`)
      : argumentError(`${what}: index`, 'an array of integers or booleans', index)
  return tensor(index as NestedData, { dtype: isMask ? 'bool' : 'int64', device })
}

function expandEllipsis(what: string, steps: readonly Step[], dimensions: number): Step[] {
  const position = steps.indexOf('...')
  const named = steps.reduce<number>((count, step) => count + dimensionsOf(step), 0)
  if (named > dimensions)
    throw new AlambicError(
      'ERR_INDEX',
      `${what}: expected at most ${dimensions} indices for a tensor of that many dimensions, got ${named}`,
    )
  if (position < 0) return [...steps]
  if (steps.indexOf('...', position + 1) >= 0) throw argumentError(what, "one '...' at most", steps)
  const whole = Array<Step>(dimensions - named).fill(':')
  return [...steps.slice(0, position), ...whole, ...steps.slice(position + 1)]
}

/** Of the indexed tensor. */
function dimensionsOf(step: Step): number {
  if (step === null || step === '...' || typeof step === 'boolean') return 0
  return typeof step === 'object' && 'kind' in step && step.kind === 'pick' && step.isMask
    ? step.tensor.ndim
    : 1
}

function select(
  what: string,
  view: Tensor,
  dimension: number,
  sourceDimension: number,
  index: number,
): Tensor {
  const size = view.size(dimension)
  if (!Number.isInteger(index) || index < -size || index >= size)
    throw new AlambicError(
      'ERR_INDEX',
      `${what}: expected an integer from ${-size} to ${size - 1} for dimension ${sourceDimension} of size ${size}, got ${index}`,
    )
  return view.select(dimension, index)
}

function range(view: Tensor, dimension: number, { start, stop, step }: Slice): Tensor {
  return view.slice({ dim: dimension, start: start ?? null, end: stop ?? null, step })
}

function requireMaskShape(
  what: string,
  view: Tensor,
  dimension: number,
  sourceDimension: number,
  mask: Tensor,
): void {
  mask.shape.forEach((size, i) => {
    const expected = view.size(dimension + i)
    if (size !== expected)
      throw new AlambicError(
        'ERR_INDEX',
        `${what}: expected a mask of size ${expected} for dimension ${sourceDimension + i}, got a mask of (${mask.shape.join(', ')})`,
      )
  })
}
