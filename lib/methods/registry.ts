/** Methods by the names that recipes use. */
import { callback, requireKind, text } from '../checks/options.js'
import { nearest } from '../checks/names.js'
import { Term } from '../distill/term.js'
import { AlambicError, argumentError, show } from '../errors.js'

/** Makes a term of its options. */
export type TermFactory = (options: Record<string, unknown>) => Term

const factories = new Map<string, TermFactory>()

/**
 * Makes a method known under a name, for {@link create} and for recipes. A class of your own is then used like ours.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example methods.register('logitsMse', options => new LogitsMse(options))
 */
export function register(name: string, factory: TermFactory): void {
  requireKind('methods.register: name', text, name)
  requireKind('methods.register: factory', callback, factory)
  if (name === '' || factories.has(name))
    throw argumentError('methods.register: name', 'a name that no other method has', name)
  factories.set(name, factory)
}

/** The names of all methods, in alphabetical order. */
export function names(): string[] {
  return [...factories.keys()].sort()
}

/**
 * Makes a method by its name in recipes.
 *
 * @param options those of the method's class
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest; the errors of the class
 * @example const kd = methods.create('kd', { temperature: 4 })
 */
export function create(name: string, options: Record<string, unknown> = {}): Term {
  const factory = factories.get(name)
  if (factory === undefined) throw unknownMethod(name)
  const term: unknown = factory(options)
  if (term instanceof Term) return term
  throw argumentError(
    `methods.create: what was registered as ${show(name)}`,
    'a function that returns a term',
    term,
  )
}

function unknownMethod(name: unknown): AlambicError {
  const known = names()
  const near = typeof name === 'string' ? nearest(name, known, 1)[0] : undefined
  return new AlambicError(
    'ERR_ARGUMENT',
    `methods: there is no method ${show(name)}; ` +
      (near === undefined ? `there are: ${known.join(', ')}` : `did you mean ${show(near)}?`),
  )
}
