/** What recipes call by name: methods, networks, data sets, optimizers, schedules. */
import { AlambicError, argumentError, show } from '../errors.js'
import { nearest } from './names.js'
import {
  callback,
  having,
  options as anObject,
  readOptions,
  requireKind,
  text,
  type Kind,
  type Kinds,
} from './options.js'

/** Says of options whether they are right: a schema of zod, or whatever has its `safeParse`. */
export interface OptionsSchema {
  safeParse(options: unknown):
    | { success: true; data: unknown }
    | {
        success: false
        error: {
          issues: readonly {
            path: readonly PropertyKey[]
            message: string
            /** Those that are unknown. */
            keys?: readonly string[]
          }[]
        }
      }
}

/** A kind for each option. */
export type OptionKinds = Readonly<Record<string, Kind>>

/** What is known of something that has a name, besides how it is made. */
export interface RegisterOptions {
  /** In a sentence; editors and lists show it. */
  description?: string
  /**
   * What options it takes, as a schema of zod. Recipes are then checked before anything is made, and the factory is
   * given what the schema gives. Default: the factory looks at them itself.
   */
  schema?: OptionsSchema
}

const schemaKind: Kind = having('a schema of zod', 'safeParse')

/** What users give to {@link Registry.register} besides. */
export const registerOptions: Kinds<RegisterOptions> = { description: text, schema: schemaKind }

/** An entry of a {@link Registry}. */
export interface Entry<Factory> extends RegisterOptions {
  readonly make: Factory
  /** Of those that come with the package, instead of a schema. */
  readonly options?: OptionKinds
}

/** Factories by name. `More` is what entries of this kind have besides. */
export class Registry<Factory extends (...args: never[]) => unknown, More extends object = object> {
  readonly #entries = new Map<string, Entry<Factory> & More>()

  /**
   * @param room of the package, for messages: `methods`
   * @param what one is: `method`
   * @param kinds what users may say of one
   */
  constructor(
    readonly room: string,
    readonly what: string,
    private readonly kinds: Kinds<RegisterOptions & More>,
  ) {}

  /** Of ours, whose options have kinds. */
  add(name: string, entry: Entry<Factory> & More): void {
    this.#entries.set(name, entry)
  }

  /** @throws AlambicError `ERR_ARGUMENT` for a name that is taken, and for what is no factory */
  register(name: string, factory: Factory, options: (RegisterOptions & More) | undefined): void {
    const who = `${this.room}.register`
    requireKind(`${who}: name`, text, name)
    requireKind(`${who}: factory`, callback, factory)
    const read = readOptions<RegisterOptions & More>(who, options, this.kinds)
    if (name === '' || this.#entries.has(name))
      throw argumentError(`${who}: name`, `a name that no other ${this.what} has`, name)
    this.#entries.set(name, { ...read, make: factory })
  }

  /** In alphabetical order. */
  names(): string[] {
    return [...this.#entries.keys()].sort()
  }

  find(name: string): (Entry<Factory> & More) | undefined {
    return this.#entries.get(name)
  }

  /** @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest */
  get(name: string): Entry<Factory> & More {
    const entry = this.#entries.get(name)
    if (entry === undefined) throw new AlambicError('ERR_ARGUMENT', `${this.room}: ${this.unknown(name)}`)
    return entry
  }

  /** What to say of a name that there is not. */
  unknown(name: unknown): string {
    const known = this.names()
    const near = typeof name === 'string' ? nearest(name, known, 1)[0] : undefined
    return (
      `there is no ${this.what} ${show(name)}; ` +
      (near === undefined ? `there are: ${known.join(', ')}` : `did you mean ${show(near)}?`)
    )
  }

  /**
   * The options that a factory is given: as a schema gives them.
   *
   * @throws AlambicError `ERR_ARGUMENT` where the schema does not take them
   */
  read(name: string, options: Record<string, unknown>): Record<string, unknown> {
    const { schema } = this.get(name)
    requireKind(`${this.room}: ${name}: options`, anObject, options)
    if (schema === undefined) return options
    const parsed = schema.safeParse(options)
    if (parsed.success) return parsed.data as Record<string, unknown>
    const [issue] = parsed.error.issues
    const path = [name, ...(issue?.path ?? [])].map(String).join('.')
    throw new AlambicError('ERR_ARGUMENT', `${this.room}: ${path}: ${issue?.message ?? 'not taken'}`)
  }
}
