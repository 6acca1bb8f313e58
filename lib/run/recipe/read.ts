/** Recipes from files: YAML and JSON, what they extend, and overrides. */
import { dirname, isAbsolute, relative, resolve } from 'node:path'
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type Pair,
  type YAMLMap,
} from 'yaml'
import { AlambicError, show } from '../../errors.js'
import { readBytes } from '../../io/files.js'
import { Draft, Limits, Places } from './draft.js'
import { type Path, type Place, type Problems } from './problems.js'

/** No recipe is longer. */
const MOST_BYTES = 2 ** 22

/** A file as messages name it: from the working directory, where it is below that. */
export function shownFile(file: string): string {
  const short = relative(process.cwd(), file)
  return short === '' || short.startsWith('..') || isAbsolute(short) ? file : short
}

/** @throws AlambicError `ERR_FILE_NOT_FOUND`, `ERR_FILE_FORMAT` for a file that is too long */
export async function readRecipeFile(file: string, problems: Problems): Promise<Draft> {
  const bytes = await readBytes(file, MOST_BYTES)
  const name = shownFile(file)
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return draftOfText(text, { name, folder: dirname(file), isJson: /\.json$/i.test(file) }, problems)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    problems.add({ file: name }, [], 'expected text in UTF-8')
    return Draft.of({}, new Map())
  }
}

interface TextSource {
  /** As messages name it. */
  name: string
  folder: string
  isJson: boolean
}

function draftOfText(text: string, { name, folder, isJson }: TextSource, problems: Problems): Draft {
  const lines = new LineCounter()
  // JSON is YAML, and the parser of YAML knows the places; what else YAML allows is refused first.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: !isJson })
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { file: name, line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const mistake = isJson ? jsonMistake(text) : undefined
  if (mistake !== undefined) problems.add(placeAt(mistake.offset), [], mistake.message)
  else
    for (const { code, message, pos } of document.errors)
      problems.add(
        placeAt(pos[0]),
        [],
        code === 'DUPLICATE_KEY' ? duplicate(text, pos[0]) : `not valid YAML: ${message}`,
      )
  const places = new Places(folder)
  places.put([], placeAt(0))
  if (!problems.isEmpty) return Draft.of({}, places.written)
  const value = new NodeReader(document, places, placeAt, problems).read()
  return Draft.of(value, places.written)
}

function duplicate(text: string, offset: number): string {
  const key = /^["']?([\w$.-]*)/.exec(text.slice(offset))?.[1] ?? ''
  return `the key ${show(key)} comes twice`
}

/** What `JSON.parse` says, and where. */
function jsonMistake(text: string): { offset: number; message: string } | undefined {
  try {
    JSON.parse(text)
    return undefined
  } catch (error) {
    const full = (error as Error).message
    const given = /position (\d+)/.exec(full)?.[1]
    const offset = given !== undefined ? Number(given) : unexpectedToken(text)
    const short = full.replace(/,? (\.\.\.)?".*$/s, '').replace(/( in JSON)? at position.*$/s, '')
    return { offset, message: `not valid JSON: ${short}` }
  }
}

/** `JSON.parse` does not say where an unexpected token is: at the end of the shortest text that has it. */
function unexpectedToken(text: string): number {
  const has = (length: number) => {
    try {
      JSON.parse(text.slice(0, length))
      return false
    } catch (error) {
      return (error as Error).message.startsWith('Unexpected token')
    }
  }
  if (!has(text.length)) return text.length
  let [without, withIt] = [0, text.length]
  while (withIt - without > 1) {
    const middle = (without + withIt) >> 1
    if (has(middle)) withIt = middle
    else without = middle
  }
  return without
}

/** Makes plain values of a document's nodes. */
class NodeReader {
  private readonly limits = new Limits()

  constructor(
    private readonly document: Document,
    private readonly places: Places,
    private readonly placeAt: (offset: number) => Place,
    private readonly problems: Problems,
  ) {}

  read(): unknown {
    return this.valueOf(this.document.contents, [], this.placeAt(0), undefined)
  }

  private valueOf(node: unknown, path: Path, around: Place, key: Place | undefined): unknown {
    const range = (node as Node | null)?.range
    const place = range ? this.placeAt(range[0]) : around
    this.places.put(path, place, key ?? place)
    if (!this.limits.enter(this.problems, place, path)) return undefined
    if (isAlias(node)) return this.valueOf(node.resolve(this.document), path, place, key)
    if (isSeq(node)) return node.items.map((each, i) => this.valueOf(each, [...path, i], place, undefined))
    if (isMap(node)) return this.objectOf(node, path, place)
    if (isScalar(node)) return node.value
    return null
  }

  private objectOf(map: YAMLMap, path: Path, around: Place): Record<string, unknown> {
    const result: Record<string, unknown> = {}
    for (const pair of map.items) {
      const keyNode = pair.key as Node | null
      const place = keyNode?.range ? this.placeAt(keyNode.range[0]) : around
      const key = isScalar(keyNode) ? keyNode.value : undefined
      if (isMergeKey(pair)) Object.assign(result, this.mergedInto(pair, path, place, result))
      else if (typeof key !== 'string' && typeof key !== 'number')
        this.problems.add(place, path, 'expected keys that are names')
      else if (key === '__proto__') this.problems.add(place, path, `there is no key ${show(key)}`)
      else result[String(key)] = this.valueOf(pair.value, [...path, String(key)], place, place)
    }
    return result
  }

  /** `<<: *other`: the keys of another map, but for those that this one has already. */
  private mergedInto(pair: Pair, path: Path, place: Place, have: object): Record<string, unknown> {
    const node = isAlias(pair.value) ? pair.value.resolve(this.document) : pair.value
    if (!isMap(node)) {
      this.problems.add(place, path, 'expected a map after <<, such as *name')
      return {}
    }
    const others = this.objectOf(node, path, place)
    return Object.fromEntries(Object.entries(others).filter(([key]) => !Object.hasOwn(have, key)))
  }
}

function isMergeKey({ key }: Pair): boolean {
  // With the option `merge` the parser gives such keys as a symbol.
  return isScalar(key) && (key.value === '<<' || typeof key.value === 'symbol')
}

/**
 * A draft with what it extends below it, and so on.
 *
 * @param chain the files that lead to it
 */
export async function extended(draft: Draft, chain: readonly string[], problems: Problems): Promise<Draft> {
  const path: Path = ['extends']
  const given = draft.at(path)
  if (given === undefined) return draft
  const say = (message: string, value: unknown) => {
    problems.add(draft.place(path), path, message, { value })
    return draft
  }
  if (typeof given !== 'string' || given === '' || given.includes('\0'))
    return say(`expected the path of another recipe, got ${show(given)}`, given)
  const file = resolve(draft.folder(path), given)
  if (chain.includes(file))
    return say(
      `expected a recipe that does not come back to this one, got a circle: ${[...chain.slice(chain.indexOf(file)), file].map(shownFile).join(' → ')}`,
      given,
    )
  let base: Draft
  try {
    base = await readRecipeFile(file, problems)
  } catch (error) {
    if (error instanceof AlambicError) return say(error.message, given)
    throw error
  }
  return (await extended(base, [...chain, file], problems)).overlaid(draft)
}

// ---- Overrides -----------------------------------------------------------------------------------------------------------

/** With what `--set` says: `optimizer.lr=0.1`, `objective[1].weight=2`. Paths of files are from the working directory. */
export function withOverrides(draft: Draft, set: readonly string[], problems: Problems): Draft {
  return set.reduce((before, text) => override(before, text, problems), draft)
}

function override(draft: Draft, text: string, problems: Problems): Draft {
  const place: Place = { set: text }
  const equals = text.indexOf('=')
  const path = equals > 0 ? parsePath(text.slice(0, equals)) : undefined
  if (path === undefined) {
    problems.add(place, [], 'expected key=value, such as optimizer.lr=0.1 or objective[1].weight=2', {
      value: text,
    })
    return draft
  }
  const document = parseDocument(text.slice(equals + 1), { prettyErrors: false })
  for (const { message } of document.errors)
    problems.add(place, path, `not a value of YAML: ${message}`, { value: text })
  if (document.errors.length > 0) return draft
  const value = new NodeReader(document, new Places(''), () => place, problems).read()
  const [at, message] = draft.obstacle(path) ?? []
  if (at === undefined)
    return draft.withValue(path, value, { key: place, value: place, folder: process.cwd() })
  problems.add(place, at, message!, { value: text })
  return draft
}

/** `a.b[1].c` */
function parsePath(text: string): Path | undefined {
  if (!/^[\w$-]+(\.[\w$-]+|\[\d+\])*$/.test(text)) return undefined
  return Array.from(text.matchAll(/\[(\d+)\]|[\w$-]+/g), ([name, index]) =>
    index === undefined ? name : Number(index),
  )
}
