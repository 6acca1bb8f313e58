/** The parts of a run's data. */
import { randomSplit, type Dataset } from '../data/dataset.js'
import type { DistillerOptions } from './options.js'

/** What is trained on, and what epochs are compared by. */
export function dividedData({
  train,
  validation = null,
  seed = 0,
}: DistillerOptions): [train: Dataset, validation: Dataset | null] {
  if (typeof validation !== 'number') return [train, validation]
  const [rest, held] = randomSplit(train, [train.length - validation, validation], { seed })
  return [rest!, held!]
}
