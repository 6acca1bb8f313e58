/** Networks by the names that recipes use. */
import { Registry, registerOptions, type RegisterOptions } from '../checks/registry.js'
import { argumentError, show } from '../errors.js'
import { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'

/** What a recipe's data says of the networks for it. Undefined where the data does not say it. */
export interface ModelContext {
  /** Number of classes. */
  classes?: number
  /** `[channels, height, width]` */
  inputShape?: readonly number[]
}

/** Makes a network of its options: `(N, C, H, W)` → logits `(N, classes)`. */
export type ModelFactory = (
  options: Record<string, unknown>,
  context: ModelContext,
) => Module<[Tensor], Tensor>

/** @internal */
export const registry = new Registry<ModelFactory>('models', 'model', registerOptions)

/**
 * Makes a network known under a name, for {@link create} and for recipes.
 *
 * @param factory is given the options as they are, and what the data of a recipe wants
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example models.register('tiny', ({ width = 8 }, { classes = 10 }) => new Tiny(width, classes))
 */
export function register(name: string, factory: ModelFactory, options?: RegisterOptions): void {
  registry.register(name, factory, options)
}

/** The names of all networks, in alphabetical order. */
export function names(): string[] {
  return registry.names()
}

/**
 * Makes a network by its name in recipes, with new weights.
 *
 * @param options those of the network's function or class; a depth that its name does not give is one of them
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest; the errors of the network
 * @example const student = models.create('resnet20', { classes: 100 })
 */
export function create(
  name: string,
  options: Record<string, unknown> = {},
  context: ModelContext = {},
): Module<[Tensor], Tensor> {
  const model: unknown = registry.get(name).make(registry.read(name, options), context)
  if (model instanceof Module) return model as Module<[Tensor], Tensor>
  throw argumentError(
    `models.create: what was registered as ${show(name)}`,
    'a function that returns a module',
    model,
  )
}
