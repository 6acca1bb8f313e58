/** Data sets by the names that recipes use. */
import { Registry, registerOptions, type RegisterOptions } from '../checks/registry.js'
import { callback, readOptions, requireKind, type Kinds } from '../checks/options.js'
import { isPromise } from '../checks/realms.js'
import { argumentError, show } from '../errors.js'
import { dataSet, type Dataset } from './dataset.js'

/** Which part of a data set. */
export type Split = 'train' | 'test'

/** Makes a part of a data set of its options; null where there is no such part. */
export type DatasetFactory = (
  options: Record<string, unknown>,
  context: { split: Split },
) => Dataset | null | Promise<Dataset | null>

/** What is known of a data set before it is read. What is left out is not known. */
export interface DataFacts {
  /** `[channels, height, width]` */
  inputShape?: readonly number[]
  /** Names of the classes, in the order of their labels. */
  classes?: readonly string[]
  /** What was subtracted from each channel, in the unit 0 to 1. */
  mean?: readonly number[]
  /** What each channel was divided by after that. */
  std?: readonly number[]
  /** Number of samples of the training part. */
  length?: number
}

/** What can be said of a data set besides. */
export interface RegisterDataOptions extends RegisterOptions {
  /**
   * What is known of it from its options alone. Recipes then check networks and terms before they read the data.
   * Default: nothing.
   */
  facts?: (options: Record<string, unknown>) => DataFacts
  /** Throws where a part's files are missing, without reading them. Default: the factory does, when it reads them. */
  checkFiles?: (options: Record<string, unknown>, context: { split: Split }) => Promise<void> | void
}

const registerDataOptions: Kinds<RegisterDataOptions> = {
  ...registerOptions,
  facts: callback,
  checkFiles: callback,
}

/** @internal */
export const registry = new Registry<DatasetFactory, Pick<RegisterDataOptions, 'facts' | 'checkFiles'>>(
  'data',
  'data set',
  registerDataOptions,
)

/**
 * Makes a data set known under a name, for {@link create} and for recipes.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example data.register('shapes', ({ count = 100 }, { split }) => makeShapes(count, split === 'train' ? 1 : 2))
 */
export function register(name: string, factory: DatasetFactory, options?: RegisterDataOptions): void {
  registry.register(name, factory, options)
}

/** The names of all data sets, in alphabetical order. */
export function names(): string[] {
  return registry.names()
}

const createOptions: Kinds<{ split: Split }> = {
  split: { expected: "'train' or 'test'", fits: value => value === 'train' || value === 'test' },
}

/**
 * Reads a data set by its name in recipes.
 *
 * @param options those of its loader, with `dir`; augmentation as in recipes: `augment: [{ crop: 4 }, 'flip']`
 * @param context.split Default: `'train'`.
 * @returns null where there is no such part
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest; the errors of the loader
 * @example const train = await data.create('cifar10', { dir: 'cifar', augment: ['flip'] })
 */
export async function create(
  name: string,
  options: Record<string, unknown> = {},
  context: { split?: Split } = {},
): Promise<Dataset | null> {
  const { split = 'train' } = readOptions('data.create', context as { split: Split }, createOptions)
  const made: unknown = registry.get(name).make(registry.read(name, options), { split })
  const set = isPromise(made) ? await made : made
  if (set === null) return null
  if (typeof set !== 'object')
    throw argumentError(`data.create: what was registered as ${show(name)}`, dataSet.expected, set)
  requireKind(`data.create: what was registered as ${show(name)}`, dataSet, set)
  return set as Dataset
}
