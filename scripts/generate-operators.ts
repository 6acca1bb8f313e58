/**
 * Writes `lib/calls/operators.generated.ts`: the TypeScript signatures of all ATen operators, from the schemas of the
 * libtorch that the addon is loaded with. The committed file is that of the reference version, 2.13.
 *
 *     npm run generate
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { native } from '../lib/native/loader.js'

/** The version of libtorch whose operators the committed file has. */
export const referenceVersion = '2.13'

export const generatedFile = fileURLToPath(new URL('../lib/calls/operators.generated.ts', import.meta.url))
const tensorFile = fileURLToPath(new URL('../lib/tensors/tensor.ts', import.meta.url))

// ---- Reading schemas -------------------------------------------------------------------------------------------------

export interface Parameter {
  name: string
  /** Without alias annotations: `Tensor`, `int[2]`, `Scalar?`. */
  type: string
  hasDefault: boolean
  keywordOnly: boolean
  /** The operator writes to it. */
  isMutated: boolean
}

interface Result {
  name: string | null
  type: string
}

export interface Schema {
  text: string
  /** `add`, without namespace and overload. */
  name: string
  /** `Tensor`; empty for the overload without a name. */
  overload: string
  parameters: Parameter[]
  results: Result[]
}

/** Reads `aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor`. */
export function parseSchema(text: string): Schema {
  const match = /^\w+::(\w+)(?:\.(\w+))?\((.*)\) -> (.*)$/.exec(text)
  if (!match) throw new Error(`not a schema: ${text}`)
  const [, name = '', overload = '', parameters = '', results = ''] = match
  const list = results.startsWith('(') && results.endsWith(')') ? results.slice(1, -1) : results
  return {
    text,
    name,
    overload,
    parameters: parseParameters(parameters),
    results: splitList(list).map(parseResult),
  }
}

function parseParameters(text: string): Parameter[] {
  const parameters: Parameter[] = []
  let keywordOnly = false
  for (const part of splitList(text)) {
    if (part === '*') {
      keywordOnly = true
      continue
    }
    const [declaration, ...defaults] = part.split('=')
    const { type, name, isMutated } = parseDeclaration(declaration!)
    if (name === null) throw new Error(`an argument without a name: ${part}`)
    parameters.push({ name, type, isMutated, keywordOnly, hasDefault: defaults.length > 0 })
  }
  return parameters
}

function parseResult(text: string): Result {
  const { type, name } = parseDeclaration(text)
  return { type, name }
}

/** `Tensor(a -> *)[] self`: the annotation in parentheses says what is aliased, `!` what is written to. */
function parseDeclaration(text: string): { type: string; name: string | null; isMutated: boolean } {
  const annotation = /\([a-z]+(?:\|[a-z]+)*!?(?: -> [^)]*)?\)/
  const isMutated = annotation.exec(text)?.[0].includes('!') ?? false
  const [type, name] = text.replace(annotation, '').split(' ')
  return { type: type!, name: name ?? null, isMutated }
}

/** Splits at commas outside of brackets and quotes. */
function splitList(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let quoted = false
  let start = 0
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!
    if (character === '\\') i++
    else if (character === '"') quoted = !quoted
    else if (quoted) continue
    else if ('(['.includes(character)) depth++
    else if (')]'.includes(character)) depth--
    else if (character === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  const last = text.slice(start).trim()
  return last === '' ? parts : [...parts, last]
}

/** `align_corners` → `alignCorners`; leading and trailing underscores stay: `add_`, `_softmax`, `__and__`. */
export function camelCase(name: string): string {
  return name.replace(/(?<=[^_])_([A-Za-z0-9])/g, (_, next: string) => next.toUpperCase())
}

// ---- Types ---------------------------------------------------------------------------------------------------------

const elementTypes: Record<string, string> = {
  Tensor: 'Tensor',
  Scalar: 'Scalar',
  int: 'Int',
  SymInt: 'Int',
  float: 'number',
  bool: 'boolean',
  str: 'string',
  ScalarType: 'DType',
  Layout: 'Layout',
  MemoryFormat: 'MemoryFormat',
  Device: 'Device',
  Generator: 'Generator',
}

const resultTypes: Record<string, string> = { ...elementTypes, int: 'number', SymInt: 'number' }

/** What a caller may pass, without null; null when JavaScript has no form of it. */
function typeOfArgument(schemaType: string): string | null {
  const [, element, isOptionalElement, list, size] =
    /^([\w.]+?)(\?)?(\[(\d*)\])?$/.exec(schemaType.replace(/\?$/, '')) ?? []
  const type = elementTypes[element ?? '']
  if (type === undefined) return null
  if (list === undefined) return type
  const each = isOptionalElement ? `${type} | null | undefined` : type
  const array = each.includes(' ') ? `readonly (${each})[]` : `readonly ${each}[]`
  // One integer stands for all entries of an int[n].
  return size && type === 'Int' ? `number | ${array}` : array
}

function typeOfResult(schemaType: string): string | null {
  const [, element, list] = /^([\w.]+)(\[\])?$/.exec(schemaType) ?? []
  const type = resultTypes[element ?? '']
  if (type === undefined) return null
  return list === undefined ? type : `${type}[]`
}

/** Whether a call from JavaScript can express the operator; arguments without a form may keep their defaults. */
export function isUsable({ parameters, results }: Schema): boolean {
  return (
    parameters.every(each => each.hasDefault || typeOfArgument(each.type) !== null) &&
    results.every(each => typeOfResult(each.type) !== null)
  )
}

// ---- Signatures ------------------------------------------------------------------------------------------------------

export function isPositional(parameter: Parameter): boolean {
  return !parameter.hasDefault && !parameter.keywordOnly
}

function isOut({ parameters }: Schema): boolean {
  return parameters.some(each => each.keywordOnly && each.isMutated)
}

/**
 * Positions at which a number may stand for a tensor: those where no overload of the operator wants a number, and not
 * a single tensor argument, which has nothing beside it to take its dtype from.
 */
function numericPositions(overloads: readonly Schema[], schema: Schema): Set<number> {
  const positional = schema.parameters.filter(isPositional)
  const tensors = [...positional.keys()].filter(
    i => positional[i]!.type === 'Tensor' && !positional[i]!.isMutated,
  )
  if (positional.filter(each => each.type === 'Tensor').length < 2) return new Set()
  const rivals = overloads
    .map(each => each.parameters.filter(isPositional))
    .filter(each => each.length === positional.length)
  return new Set(tensors.filter(i => rivals.every(rival => rival[i]!.type.startsWith('Tensor'))))
}

function signature(schema: Schema, numeric: Set<number>, isMethod: boolean): string {
  const positional = schema.parameters
    .filter(isPositional)
    .map(({ name, type }, i) => {
      const plain = numeric.has(i) ? 'TensorLike' : typeOfArgument(type)!
      return `${identifier(camelCase(name))}: ${type.endsWith('?') ? `${plain} | null | undefined` : plain}`
    })
    .slice(isMethod ? 1 : 0)
  const options = schema.parameters.filter(each => !isPositional(each) && typeOfArgument(each.type) !== null)
  if (options.length > 0) {
    const fields = options.map(({ name, type, hasDefault }) => {
      const plain = `${camelCase(name)}${hasDefault ? '?' : ''}: ${typeOfArgument(type)!}`
      return type.endsWith('?') ? `${plain} | null` : plain
    })
    const optional = options.every(each => each.hasDefault) ? '?' : ''
    positional.push(`options${optional}: { ${fields.join('; ')} }`)
  }
  return `${camelCase(schema.name)}(${positional.join(', ')}): ${returnType(schema)}`
}

function returnType({ results }: Schema): string {
  if (results.length === 0) return 'void'
  const types = results.map(each => typeOfResult(each.type)!)
  if (types.length === 1) return types[0]!
  const isNamed = results.every(each => each.name !== null)
  const entries = types.map((type, i) =>
    isNamed ? `${identifier(camelCase(results[i]!.name!))}: ${type}` : type,
  )
  return `readonly [${entries.join(', ')}]`
}

const reservedWords = new Set([
  'default',
  'delete',
  'export',
  'function',
  'import',
  'in',
  'new',
  'return',
  'this',
  'var',
  'with',
])

function identifier(name: string): string {
  return reservedWords.has(name) ? `${name}_` : name
}

// ---- The file --------------------------------------------------------------------------------------------------------

/** Members of an interface: one per distinct signature, with the schemas that it stands for. */
function members(schemas: readonly Schema[], isMethod: boolean): string[] {
  const byName = groupBy(schemas, schema => schema.name)
  return [...byName.values()].flatMap(overloads => {
    const bySignature = groupBy(overloads, schema =>
      signature(schema, numericPositions(overloads, schema), isMethod),
    )
    return [...bySignature].map(([text, same]) => `${documentation(same)}\n  ${text}`)
  })
}

function groupBy<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const value of values) {
    const key = keyOf(value)
    const group = groups.get(key)
    if (group) group.push(value)
    else groups.set(key, [value])
  }
  return groups
}

function documentation(schemas: readonly Schema[]): string {
  const lines = schemas.map(({ text }) => text.replaceAll('*/', '*\\/'))
  return lines.length === 1
    ? `  /** \`${lines[0]}\` */`
    : `  /**\n${lines.map(line => `   * - \`${line}\``).join('\n')}\n   */`
}

/** By name; what writes to `out` after its plain form, for editors show the first one. */
function inOrder(a: Schema, b: Schema): number {
  return compare(a.name, b.name) || Number(isOut(a)) - Number(isOut(b)) || compare(a.text, b.text)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

function isMethodOfTensor({ parameters }: Schema): boolean {
  const first = parameters[0]
  return first !== undefined && isPositional(first) && first.type === 'Tensor'
}

/** The whole file. `tensorMembers`: what the Tensor class defines itself, which the methods must leave alone. */
export function generate(
  schemas: readonly string[],
  tensorMembers: ReadonlySet<string>,
  version: string,
): string {
  const usable = schemas.map(parseSchema).filter(isUsable).sort(inOrder)
  const methods = usable.filter(
    schema => isMethodOfTensor(schema) && !tensorMembers.has(camelCase(schema.name)),
  )
  return `// Generated from the schemas of libtorch ${version} by \`npm run generate\`: do not edit.
import type { Generator } from './generator.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Device, DType, Layout, MemoryFormat, Scalar, TensorLike } from '../tensors/types.js'

/** An integer; a bigint carries what is beyond 2^53. */
type Int = number | bigint

/** All ATen operators that JavaScript values can express, as functions. */
export interface Operators {
${members(usable, false).join('\n')}
}

/** The operators whose first argument is a tensor, as its methods. */
export interface TensorMethods {
${members(methods, true).join('\n')}
}
`
}

/** Names that the class in `lib/tensors/tensor.ts` declares. */
export function readTensorMembers(): Set<string> {
  const file = ts.createSourceFile(tensorFile, readFileSync(tensorFile, 'utf8'), ts.ScriptTarget.Latest)
  const declaration = file.statements.find(
    each => ts.isClassDeclaration(each) && each.name?.text === 'Tensor',
  )
  if (!declaration) throw new Error(`${tensorFile} declares no class Tensor`)
  return new Set(
    (declaration as ts.ClassDeclaration).members.flatMap(({ name }) =>
      name && ts.isIdentifier(name) ? [name.text] : [],
    ),
  )
}

/** `2.13.0+cpu` → `2.13`. */
export function minorVersion(version: string): string {
  return version.split('.').slice(0, 2).join('.')
}

/** The file as it should be for the libtorch that is loaded now. */
export function generateFromAddon(): string {
  const version = minorVersion(native.systemInfo().torchVersion)
  return generate(native.operatorSchemas('aten'), readTensorMembers(), version)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const version = minorVersion(native.systemInfo().torchVersion)
  if (version !== referenceVersion) {
    console.error(
      `The table is generated from libtorch ${referenceVersion}; this is ${version}. Set LIBTORCH to it.`,
    )
    process.exit(1)
  }
  writeFileSync(generatedFile, generateFromAddon())
}
