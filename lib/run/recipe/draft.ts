/** A recipe as it was written: values, and the place of each. */
import { resolve } from 'node:path'
import { types } from 'node:util'
import { isPlainObject } from '../../checks/realms.js'
import { show } from '../../errors.js'
import type { Path, Place, Problems } from './problems.js'

/** Where a value stands, and the key before it. Paths of files are relative to the folder. */
interface Written {
  key: Place
  value: Place
  folder: string
}

/** Plain data with the places of its parts. It is never changed. */
export class Draft {
  private constructor(
    readonly value: unknown,
    private readonly written: ReadonlyMap<string, Written>,
  ) {}

  static of(value: unknown, written: ReadonlyMap<string, Written>): Draft {
    return new Draft(value, written)
  }

  /** The value at a path; undefined where there is none. */
  at(path: Path): unknown {
    return path.reduce<unknown>(
      (value, each) =>
        typeof value === 'object' && value !== null && Object.hasOwn(value, each)
          ? (value as Record<string | number, unknown>)[each]
          : undefined,
      this.value,
    )
  }

  /** Of the value at a path, or of what is nearest around it. */
  place(path: Path): Place {
    return this.nearest(path)?.value ?? {}
  }

  /** Of the key that ends a path. */
  keyPlace(path: Path): Place {
    return this.nearest(path)?.key ?? {}
  }

  /** What a path of a file that is written there is relative to. */
  folder(path: Path): string {
    return this.nearest(path)?.folder ?? process.cwd()
  }

  /** What a path of a file is that is written there. */
  absolute(path: Path, file: string): string {
    return resolve(this.folder(path), file)
  }

  /**
   * The option that a message is about, such as `temperature` in `KD: temperature: expected …`.
   *
   * @param sections where it may have been written
   */
  optionIn(message: string, sections: readonly Path[]): Path | undefined {
    const heads = message.split(': ', 2).map(each => /^\w+/.exec(each)?.[0])
    return heads
      .flatMap(name => (name === undefined ? [] : sections.map(section => [...section, name])))
      .find(path => this.at(path) !== undefined)
  }

  private nearest(path: Path): Written | undefined {
    for (let length = path.length; length >= 0; length--) {
      const found = this.written.get(keyOf(path.slice(0, length)))
      if (found !== undefined) return found
    }
    return undefined
  }

  /** Why no value can be at a path, and where this shows; undefined where one can. */
  obstacle(path: Path): [at: Path, message: string] | undefined {
    for (const [i, key] of path.entries()) {
      const at = path.slice(0, i)
      const present = this.at(at)
      if (Array.isArray(present)) {
        if (typeof key === 'string' || key >= present.length)
          return [at, `expected a number below ${present.length} in brackets, got ${show(key)}`]
      } else if (present !== undefined && !isPlainObject(present))
        return [at, `expected something with keys, got ${show(present)}, which has no ${show(key)}`]
      else if (typeof key === 'number') return [at, `expected a list, got ${show(present)}`]
    }
    return undefined
  }

  /** With another value at a path that has no {@link obstacle}; a null removes what is there. */
  withValue(path: Path, value: unknown, where: Written): Draft {
    const written = new Map(this.written)
    removeBelow(written, path)
    if (value !== null) written.set(keyOf(path), where)
    return new Draft(replaced(this.value, path, value), written)
  }

  /** This one, and over it another: objects key by key, all else as a whole. A null over something removes it. */
  overlaid(over: Draft): Draft {
    const written = new Map(this.written)
    const value = overlay(this.value, over.value, [], (path, isWhole) => {
      if (isWhole) removeBelow(written, path)
      for (const [key, place] of over.written)
        if (isWhole ? isBelow(key, path) : key === keyOf(path)) written.set(key, place)
    })
    return new Draft(value, written)
  }
}

/** A copy with another value at a path; a null removes what is there. */
function replaced(value: unknown, path: Path, by: unknown): unknown {
  const [key, ...rest] = path
  if (key === undefined) return by
  if (Array.isArray(value))
    return value.map((each: unknown, i) => (i === Number(key) ? replaced(each, rest, by) : each))
  const copy = { ...(value as Record<string, unknown> | undefined) }
  if (by === null && rest.length === 0) delete copy[key]
  else copy[key] = replaced(copy[key], rest, by)
  return copy
}

type Replace = (path: Path, isWhole: boolean) => void

function overlay(base: unknown, over: unknown, path: Path, replace: Replace): unknown {
  if (!isPlainObject(base) || !isPlainObject(over)) {
    replace(path, true)
    return over
  }
  const result = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const below = [...path, key]
    if (value === null) {
      replace(below, true)
      delete result[key]
    } else result[key] = overlay(base[key], value, below, replace)
  }
  return result
}

function keyOf(path: Path): string {
  return JSON.stringify(path)
}

/** Whether a key is that of a path, or of one below it. */
function isBelow(key: string, path: Path): boolean {
  const start = keyOf(path)
  return path.length === 0 || key === start || key.startsWith(`${start.slice(0, -1)},`)
}

function removeBelow(written: Map<string, Written>, path: Path): void {
  for (const key of written.keys()) if (isBelow(key, path)) written.delete(key)
}

/** Collects the places of a draft while it is read. */
export class Places {
  readonly written = new Map<string, Written>()

  constructor(private readonly folder: string) {}

  put(path: Path, value: Place, key: Place = value): void {
    this.written.set(keyOf(path), { key, value, folder: this.folder })
  }
}

/** What a recipe that is nested deeper, or has more parts, is not. */
const DEEPEST = 30
const MOST_PARTS = 100_000

/** Stops at what is too large, and at circles. */
export class Limits {
  private parts = 0

  /** @returns whether one goes on */
  enter(problems: Problems, place: Place, path: Path): boolean {
    if (path.length <= DEEPEST && ++this.parts <= MOST_PARTS) return true
    if (this.parts <= MOST_PARTS || this.parts === MOST_PARTS + 1)
      problems.add(
        place,
        path.slice(0, 3),
        'expected plain values, got some that are nested too deep, or in circles',
      )
    this.parts = MOST_PARTS + 1
    return false
  }
}

/** A recipe that was given as an object: a copy of its plain data. */
export function draftOfObject(given: unknown, folder: string, problems: Problems): Draft {
  const places = new Places(folder)
  places.put([], {})
  const limits = new Limits()
  const copy = (value: unknown, path: Path): unknown => {
    if (!limits.enter(problems, {}, path)) return undefined
    if (Array.isArray(value)) return Array.from(value as unknown[], (each, i) => copy(each, [...path, i]))
    if (isPlainObject(value))
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key, each]) => each !== undefined && key !== '__proto__')
          .map(([key, each]) => [key, copy(each, [...path, key])]),
      )
    return value
  }
  try {
    if (types.isProxy(given)) throw new TypeError('a proxy')
    return Draft.of(copy(given, []), places.written)
  } catch {
    problems.add({}, [], 'expected plain data, got values that cannot be read')
    return Draft.of({}, places.written)
  }
}
