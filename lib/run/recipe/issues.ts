/** What the schema finds wrong, said at its place. */
import { z } from 'zod'
import { nearest } from '../../checks/names.js'
import { isPlainObject } from '../../checks/realms.js'
import { show } from '../../errors.js'
import type { Draft } from './draft.js'
import { pathText, type Path, type Problems } from './problems.js'
import { recipeStructure, type ResolvedRecipe } from './schema.js'

type Issue = z.core.$ZodIssue

/** The recipe with the defaults of the schema; undefined where it does not fit. */
export function checkStructure(draft: Draft, problems: Problems): ResolvedRecipe | undefined {
  if (!isPlainObject(draft.value)) {
    const { value } = draft
    problems.add(
      draft.place([]),
      [],
      `expected a recipe: keys such as data and student, got ${show(value)}`,
      { value },
    )
    return undefined
  }
  const parsed = recipeStructure.safeParse(draft.value)
  if (parsed.success) return parsed.data
  for (const issue of parsed.error.issues) say(issue, [], draft, problems)
  return undefined
}

function say(issue: Issue, around: Path, draft: Draft, problems: Problems): void {
  const path = [...around, ...(issue.path as (string | number)[])]
  if (issue.code === 'invalid_union') {
    for (const inner of likeliest(issue.errors, draft.at(path))) say(inner, path, draft, problems)
    return
  }
  if (issue.code === 'unrecognized_keys') {
    for (const key of issue.keys) sayUnknown(key, path, draft, problems)
    return
  }
  const value = draft.at(path)
  const expected = expectation(issue)
  if (value === undefined) problems.add(draft.keyPlace(path), path, `${expected}, got nothing`)
  else problems.add(draft.place(path), path, `${expected}, got ${show(value)}`, { value })
}

function expectation(issue: Issue): string {
  if (issue.code === 'invalid_type')
    return `expected ${issue.expected === 'array' ? 'a list' : 'keys and values'}`
  if (issue.code === 'too_small') return 'expected at least one'
  return issue.code === 'invalid_key' ? 'expected a name that is not empty' : issue.message
}

/** Of what may be one thing or another: what is wrong with the one that the value looks like. */
function likeliest(errors: readonly (readonly Issue[])[], value: unknown): readonly Issue[] {
  const looks = errors.filter(issues => isPlainObject(value) === isOfObject(issues))
  return looks[0] ?? errors[0] ?? []
}

/** Whether what is wrong is something inside of an object. */
function isOfObject(issues: readonly Issue[]): boolean {
  return issues.every(({ code, path }) => code === 'unrecognized_keys' || path.length > 0)
}

function sayUnknown(key: string, path: Path, draft: Draft, problems: Problems): void {
  const known = keysOf(schemaAt(path, draft))
  const at = [...path, key]
  const elsewhere = pathsOf(key)
  const suggestion = elsewhere ?? nearest(key, known, 1)[0]
  const offer =
    elsewhere !== undefined
      ? `it belongs elsewhere: ${elsewhere}`
      : suggestion !== undefined
        ? `did you mean ${show(suggestion)}?`
        : `there are: ${known.join(', ')}`
  problems.add(draft.keyPlace(at), at, `there is no key ${show(key)}; ${offer}`, { value: key, suggestion })
}

// ---- Looking at the schema -----------------------------------------------------------------------------------------------

type Schema = z.core.$ZodType

/** What is inside of defaults and the like. */
function inner(schema: Schema): Schema {
  const { innerType } = schema._zod.def as { innerType?: Schema }
  return innerType === undefined ? schema : inner(innerType)
}

function schemaAt(path: Path, draft: Draft): Schema | undefined {
  return path.reduce<Schema | undefined>(
    (schema, key, i) => schema && below(inner(schema), key, draft.at(path.slice(0, i))),
    recipeStructure,
  )
}

function below(schema: Schema, key: string | number, value: unknown): Schema | undefined {
  if (schema instanceof z.ZodObject) return schema.shape[key] as Schema | undefined
  if (schema instanceof z.ZodArray) return schema.element
  if (schema instanceof z.ZodRecord) return schema.valueType
  if (schema instanceof z.ZodUnion && isPlainObject(value)) return below(objectOf(schema)!, key, value)
  return undefined
}

function objectOf(union: z.ZodUnion): Schema | undefined {
  return union.options.map(inner).find(each => each instanceof z.ZodObject)
}

function keysOf(schema: Schema | undefined): string[] {
  if (schema === undefined) return []
  const found = inner(schema)
  if (found instanceof z.ZodObject) return Object.keys(found.shape)
  return found instanceof z.ZodUnion ? keysOf(objectOf(found)) : []
}

/** Where a key belongs that is not known where it was written, if that is one place. */
function pathsOf(key: string): string | undefined {
  const { shape } = recipeStructure
  if (Object.hasOwn(shape, key)) return key
  const found = Object.entries(shape)
    .filter(([, schema]) => keysOf(schema).includes(key))
    .map(([section]) => pathText([section, key]))
  return found.length === 1 ? found[0] : undefined
}
