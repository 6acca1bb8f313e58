/** Methods by the names that recipes use. */
import { Registry, registerOptions, type RegisterOptions } from '../checks/registry.js'
import { Term } from '../distill/term.js'
import { argumentError, show } from '../errors.js'

/** Makes a term of its options. */
export type TermFactory = (options: Record<string, unknown>) => Term

/** @internal */
export const registry = new Registry<TermFactory>('methods', 'method', registerOptions)

/**
 * Makes a method known under a name, for {@link create} and for recipes. A class of your own is then used like ours.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example methods.register('logitsMse', options => new LogitsMse(options))
 */
export function register(name: string, factory: TermFactory, options?: RegisterOptions): void {
  registry.register(name, factory, options)
}

/** The names of all methods, in alphabetical order. */
export function names(): string[] {
  return registry.names()
}

/**
 * Makes a method by its name in recipes.
 *
 * @param options those of the method's class
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest; the errors of the class
 * @example const kd = methods.create('kd', { temperature: 4 })
 */
export function create(name: string, options: Record<string, unknown> = {}): Term {
  const term: unknown = registry.get(name).make(registry.read(name, options))
  if (term instanceof Term) return term
  throw argumentError(
    `methods.create: what was registered as ${show(name)}`,
    'a function that returns a term',
    term,
  )
}
