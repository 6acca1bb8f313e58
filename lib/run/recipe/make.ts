/** Networks and terms of a recipe whose checks are done. */
import type { DataFacts } from '../../data/registry.js'
import type { ImageConversion } from '../../data/image-format.js'
import type { Term } from '../../distill/term.js'
import type { Classifier } from '../../distill/train.js'
import { loadStateDict } from '../../io/load.js'
import { create as createTerm } from '../../methods/registry.js'
import { create as createModel } from '../../models/registry.js'
import { loadTorchScript } from '../../script/load.js'
import { contextOf, filledOptions } from './facts.js'
import { optionsOf } from './named.js'
import type { ResolvedTeacher, ResolvedTerm } from './schema.js'

export type WeightsInRecipe = NonNullable<ResolvedTeacher['weights']>

type ModelInRecipe = Pick<ResolvedTeacher, 'model' | 'options' | 'weights' | 'torchscript' | 'input'>

/** A network with new weights, or one of TorchScript. */
export async function makeModel(given: ModelInRecipe, facts: DataFacts): Promise<Classifier> {
  if (given.torchscript !== undefined) return loadTorchScript(given.torchscript)
  const context = contextOf(facts)
  const { channels } = given.input?.to ?? {}
  const inputShape =
    channels === undefined || facts.inputShape === undefined
      ? facts.inputShape
      : [channels, ...facts.inputShape.slice(1)]
  const options = filledOptions(given.model!, given.options ?? {}, {
    ...context,
    ...(inputShape && { inputShape }),
  })
  return createModel(given.model!, options, context)
}

export async function loadWeights(model: Classifier, weights: WeightsInRecipe | undefined): Promise<void> {
  if (weights === undefined) return
  const { file, entry, prefix } = typeof weights === 'string' ? { file: weights } : weights
  const dict = await loadStateDict(file, { entry })
  try {
    model.loadStateDict(dict, { prefix })
  } finally {
    for (const each of Object.values(dict)) each.dispose()
  }
}

/** How a teacher's pictures are made of a batch; without it they are the same. */
export function inputOf({ input }: ModelInRecipe, { mean, std }: DataFacts): ImageConversion | undefined {
  if (input === undefined) return undefined
  return { from: input.from ?? { mean, std }, to: input.to }
}

export function makeTerm(term: ResolvedTerm): Term {
  return createTerm(term.method, optionsOf('term', term))
}
