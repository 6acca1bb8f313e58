/** What networks have to know of the data. */
import { namedParts } from './named.js'
import type { DataFacts } from '../../data/registry.js'
import type { ModelContext } from '../../models/registry.js'
import type { Dataset } from '../../data/dataset.js'
import { ImageDataset } from '../../data/image-dataset.js'

export function contextOf({ classes, inputShape }: DataFacts): ModelContext {
  return {
    ...(classes !== undefined && { classes: classes.length }),
    ...(inputShape !== undefined && { inputShape }),
  }
}

/**
 * Options of a network with the number of classes and channels of the data, where it has such options and they were not
 * given.
 */
export function filledOptions(
  model: string,
  options: Record<string, unknown>,
  { classes, inputShape }: ModelContext,
): Record<string, unknown> {
  const kinds = namedParts.student.registry.find(model)?.options ?? {}
  const fromData = { classes, inChannels: inputShape?.[0] }
  const filled = { ...options }
  for (const [name, value] of Object.entries(fromData))
    if (value !== undefined && Object.hasOwn(kinds, name)) filled[name] ??= value
  return filled
}

/** What a data set that has been read says of itself, and otherwise what was known before. */
export function factsFrom(set: Dataset, before: DataFacts): DataFacts {
  const own: DataFacts =
    set instanceof ImageDataset
      ? { inputShape: set.shape, mean: set.mean, std: set.std }
      : { inputShape: before.inputShape ?? shapeOf(set) }
  return { ...before, ...own, ...(set.classes !== undefined && { classes: set.classes }), length: set.length }
}

/** Of the first sample. */
function shapeOf(set: Dataset): readonly number[] | undefined {
  if (set.length === 0) return undefined
  const { data, labels, indices, targets } = set.batch([0])
  const shape = data.shape.slice(1)
  for (const each of [data, labels, indices, targets]) each?.dispose()
  return shape
}
