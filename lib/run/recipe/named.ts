/** What recipes call by name, and what each entry takes. */
import { nearest } from '../../checks/names.js'
import type { Entry, OptionKinds, OptionsSchema, Registry } from '../../checks/registry.js'
import { unknownOption, type Kind } from '../../checks/options.js'
import { isPlainObject } from '../../checks/realms.js'
import { registry as data } from '../../data/registry.js'
import { show } from '../../errors.js'
import { registry as methods } from '../../methods/registry.js'
import { registry as models } from '../../models/registry.js'
import { registry as lrScheduler } from '../../optim/lrScheduler/registry.js'
import { registry as optim } from '../../optim/registry.js'
import type { Draft } from './draft.js'
import type { Path, Problems } from './problems.js'

/** The parts of a recipe that have a name. */
export type Named = 'data' | 'student' | 'teacher' | 'term' | 'optimizer' | 'schedule'

interface NamedPart {
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- only names and options are looked at
  registry: Registry<any>
  /** The key of the name. */
  key: string
  /** Keys that are not options; undefined where the options have a key of their own. */
  own: readonly string[] | undefined
}

export const namedParts: Record<Named, NamedPart> = {
  data: {
    registry: data,
    key: 'name',
    own: ['name', 'batchSize', 'evaluationBatchSize', 'dropLast', 'samples', 'validation', 'mixUp', 'cutMix'],
  },
  student: { registry: models, key: 'model', own: undefined },
  teacher: { registry: models, key: 'model', own: undefined },
  term: { registry: methods, key: 'method', own: ['method', 'weight', 'name', 'teacher'] },
  optimizer: { registry: optim, key: 'name', own: ['name'] },
  schedule: { registry: lrScheduler, key: 'name', own: ['name', 'interval', 'warmUp'] },
}

/** The options of a part: all keys but its own, or those under `options`. */
export function optionsOf(part: Named, section: Record<string, unknown>): Record<string, unknown> {
  const { own } = namedParts[part]
  if (own === undefined) return (section['options'] as Record<string, unknown> | undefined) ?? {}
  return Object.fromEntries(Object.entries(section).filter(([key]) => !own.includes(key)))
}

/** The path of the options. */
export function optionsPath(part: Named, path: Path): Path {
  return namedParts[part].own === undefined ? [...path, 'options'] : path
}

/**
 * Checks the name and the options of a part. Problems are said at their places.
 *
 * @returns the options with the defaults of the entry, and absolute paths; undefined where something is wrong
 */
export function checkNamed(
  part: Named,
  path: Path,
  draft: Draft,
  problems: Problems,
): Record<string, unknown> | undefined {
  const { registry, key } = namedParts[part]
  const section = draft.at(path)
  if (!isPlainObject(section)) return undefined
  const name = section[key]
  if (typeof name !== 'string') return undefined
  const entry = registry.find(name)
  if (entry === undefined) {
    const at = [...path, key]
    const suggestion = nearest(name, registry.names(), 1)[0]
    problems.add(draft.place(at), at, registry.unknown(name), { value: name, suggestion })
    return undefined
  }
  const options = optionsOf(part, section)
  if (!isPlainObject(options)) return undefined
  return new OptionCheck(`${registry.what} ${name}`, optionsPath(part, path), draft, problems).check(
    options,
    entry,
  )
}

/** The options of one part. */
class OptionCheck {
  private isGood = true

  constructor(
    private readonly what: string,
    private readonly path: Path,
    private readonly draft: Draft,
    private readonly problems: Problems,
  ) {}

  check(
    options: Record<string, unknown>,
    { options: kinds, schema }: Pick<Entry<() => unknown>, 'options' | 'schema'>,
  ): Record<string, unknown> | undefined {
    const result = this.absolute(options, kinds ?? {})
    if (kinds !== undefined) this.checkKinds(result, kinds)
    if (schema !== undefined) this.checkSchema(options, schema)
    return this.isGood ? result : undefined
  }

  /** Paths of files are relative to the file that they are written in. */
  private absolute(options: Record<string, unknown>, kinds: OptionKinds): Record<string, unknown> {
    return Object.fromEntries(
      Object.entries(options).map(([name, value]) => {
        const isPath = name === 'dir' || (Object.hasOwn(kinds, name) && kinds[name]!.isPath === true)
        return [
          name,
          isPath && typeof value === 'string' ? this.draft.absolute([...this.path, name], value) : value,
        ]
      }),
    )
  }

  private checkKinds(options: Record<string, unknown>, kinds: OptionKinds): void {
    const known = Object.keys(kinds)
    for (const [name, value] of Object.entries(options)) {
      if (Object.hasOwn(kinds, name)) this.checkKind(name, kinds[name]!, value)
      else
        this.say(name, 'key', unknownOption(this.what, name, known).message, {
          value: name,
          suggestion: nearest(name, known, 1)[0],
        })
    }
    for (const [name, kind] of Object.entries(kinds)) {
      if (options[name] !== undefined) continue
      if (kind.isRequired === true)
        this.say(name, 'key', `${this.what}: expected ${kind.expected}, got nothing`)
      else if (kind.default !== undefined) options[name] = structuredClone(kind.default)
    }
  }

  private checkKind(name: string, kind: Kind, value: unknown): void {
    if (!kind.fits(value)) this.say(name, 'value', `expected ${kind.expected}, got ${show(value)}`, { value })
  }

  private checkSchema(options: Record<string, unknown>, schema: OptionsSchema): void {
    const parsed = schema.safeParse(options)
    if (parsed.success) return
    for (const { path, message, keys } of parsed.error.issues) {
      this.isGood = false
      const at = [...this.path, ...(path as (string | number)[]), ...(keys?.slice(0, 1) ?? [])]
      const place = keys === undefined ? this.draft.place(at) : this.draft.keyPlace(at)
      this.problems.add(place, at, `${this.what}: ${message}`, { value: this.draft.at(at) })
    }
  }

  private say(
    name: string,
    where: 'key' | 'value',
    message: string,
    more: { value?: unknown; suggestion?: string | undefined } = {},
  ): void {
    this.isGood = false
    const at = [...this.path, name]
    const place = where === 'key' ? this.draft.keyPlace(at) : this.draft.place(at)
    this.problems.add(place, at, message, more)
  }
}
