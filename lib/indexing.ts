import { AlambicError, argumentError } from './errors.js'
import { scope } from './memory.js'
import { tensor, Tensor } from './tensor.js'

/** A range of indices, as Python's `start:stop:step`. Made by {@link slice}. */
export class Slice {
  constructor(
    readonly start?: number,
    readonly stop?: number,
    readonly step: number = 1,
  ) {
    if (!Number.isInteger(step) || step < 1)
      throw argumentError('slice: step', 'an integer of at least 1', step)
  }
}

/** `slice(2)` is Python's `:2`, `slice(1, 3)` `1:3`, `slice(0, 10, 2)` `0:10:2`, `slice()` `:`. */
export function slice(): Slice
export function slice(stop: number): Slice
export function slice(start: number | undefined, stop: number | undefined, step?: number): Slice
export function slice(...bounds: (number | undefined)[]): Slice {
  if (bounds.length === 1) return new Slice(undefined, bounds[0])
  return new Slice(bounds[0], bounds[1], bounds[2])
}

/** What {@link Tensor.at} takes for a dimension. */
export type Index = number | Slice | null | '...' | ':' | Tensor | readonly number[] | readonly boolean[]

/** The tensor seen through the indices that are views, and the ones that pick elements, by dimension of that view. */
interface Resolved {
  view: Tensor
  /** Null where the dimension is taken whole. */
  picks: (Tensor | null)[]
}

export function indexTensor(source: Tensor, indices: readonly Index[]): Tensor {
  return scope(() => {
    const { view, picks } = resolve(source, indices)
    if (picks.length > 0) return view.index(picks)
    return view === source ? view.alias() : view
  })
}

export function setIndexed(
  source: Tensor,
  indices: readonly Index[],
  value: Tensor | number | boolean,
): void {
  scope(() => {
    const { view, picks } = resolve(source, indices)
    const filling =
      value instanceof Tensor ? value : tensor(value, { dtype: source.dtype, device: source.device })
    if (picks.length > 0) view.indexPut_(picks, filling)
    else view.copy_(filling)
  })
}

function resolve(source: Tensor, indices: readonly Index[]): Resolved {
  const expanded = expandEllipsis(indices, source.ndim)
  const picks: (Tensor | null)[] = []
  let view = source
  let dimension = 0
  for (const index of expanded) {
    if (typeof index === 'number') {
      view = select(view, dimension, index)
      continue
    }
    if (index === null) view = view.unsqueeze(dimension)
    else if (index instanceof Slice) view = range(view, dimension, index)
    else if (index !== ':') {
      const pick = toPick(index, view)
      picks[dimension] = pick
      dimension += pick.dtype === 'bool' ? pick.ndim : 1 // a mask covers as many dimensions as it has
      continue
    }
    dimension++
  }
  return { view, picks: Array.from(picks, pick => pick ?? null) }
}

function expandEllipsis(indices: readonly Index[], dimensions: number): Index[] {
  const position = indices.indexOf('...')
  const named = indices.reduce<number>((count, index) => count + dimensionsOf(index), 0)
  if (named > dimensions)
    throw new AlambicError(
      'ERR_INDEX',
      `at: expected at most ${dimensions} indices for a tensor of that many dimensions, got ${named}`,
    )
  if (position < 0) return [...indices]
  if (indices.indexOf('...', position + 1) >= 0) throw argumentError('at', "one '...' at most", indices)
  const whole = Array<Index>(dimensions - named).fill(':')
  return [...indices.slice(0, position), ...whole, ...indices.slice(position + 1)]
}

function dimensionsOf(index: Index): number {
  if (index === null || index === '...') return 0
  return index instanceof Tensor && index.dtype === 'bool' ? index.ndim : 1
}

function select(view: Tensor, dimension: number, index: number): Tensor {
  const size = view.size(dimension)
  if (!Number.isInteger(index) || index < -size || index >= size)
    throw new AlambicError(
      'ERR_INDEX',
      `at: expected an integer from ${-size} to ${size - 1} for dimension ${dimension} of size ${size}, got ${index}`,
    )
  return view.select(dimension, index)
}

function range(view: Tensor, dimension: number, { start, stop, step }: Slice): Tensor {
  return view.slice({ dim: dimension, start: start ?? null, end: stop ?? null, step })
}

function toPick(index: Tensor | readonly number[] | readonly boolean[] | string, view: Tensor): Tensor {
  if (index instanceof Tensor) return index
  if (!Array.isArray(index))
    throw argumentError('at', "an integer, slice(), null, '...', ':', a tensor or an array", index)
  const dtype = typeof index[0] === 'boolean' ? 'bool' : 'int64'
  return tensor(index as number[], { dtype, device: view.device })
}
