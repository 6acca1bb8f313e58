/** The schema of recipes as JSON Schema, with the options of everything that has a name. */
import { z } from 'zod'
import type { Entry, OptionKinds } from '../../checks/registry.js'
import type { JsonSchema, Kind } from '../../checks/options.js'
import { namedParts, type Named } from './named.js'
import { recipeStructure } from './schema.js'

/**
 * Draft 7, which editors know. What a recipe may have from another one that it extends is not required, but for the
 * members of terms, as lists are replaced as a whole.
 */
export function makeJsonSchema(): JsonSchema {
  const { required, ...whole } = z.toJSONSchema(recipeStructure, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      const { named, ...plain } = jsonSchema as Record<string, unknown>
      if (named === undefined) return
      for (const key of Object.keys(jsonSchema)) delete (jsonSchema as Record<string, unknown>)[key]
      Object.assign(jsonSchema, withVariants(named as Named, plain))
    },
  })
  return { ...whole, anyOf: [{ required }, { required: ['extends'] }] }
}

interface ObjectSchema {
  properties: Record<string, JsonSchema>
}

/** One variant for each set of options that there is, and one for names of the user's own. */
function withVariants(part: Named, plain: Record<string, unknown>): JsonSchema {
  const { description, properties } = plain as unknown as ObjectSchema & JsonSchema
  const { key, registry } = namedParts[part]
  const known = groups(registry.names().map(name => [name, registry.find(name)!]))
  const variants = known.map(group => variantOf(part, group, properties))
  const other = {
    type: 'object',
    properties: {
      ...properties,
      [key]: { type: 'string', not: { enum: known.flatMap(({ names }) => names) } },
    },
    required: [key],
    additionalProperties: namedParts[part].own !== undefined,
  }
  return { description, anyOf: [...variants, other] }
}

interface Group {
  names: string[]
  description: string | undefined
  /** Undefined where the factory looks at them itself, or by a schema of its own. */
  options: OptionKinds | undefined
}

/** Names with the same options and purpose go together. */
function groups(entries: readonly [name: string, entry: Entry<() => unknown>][]): Group[] {
  const found = new Map<string, Group>()
  for (const [name, { description, options }] of entries) {
    const key = JSON.stringify([description, options])
    const group = found.get(key) ?? { names: [], description, options }
    group.names.push(name)
    found.set(key, group)
  }
  return [...found.values()]
}

function variantOf(
  part: Named,
  { names, description, options }: Group,
  properties: Record<string, JsonSchema>,
): JsonSchema {
  const { key, own } = namedParts[part]
  const name: JsonSchema = { enum: names, ...(description !== undefined && { description }) }
  const described = Object.fromEntries(
    Object.entries(options ?? {}).map(([option, kind]) => [option, optionSchema(kind)]),
  )
  const needed = Object.keys(options ?? {}).filter(option => options![option]!.isRequired === true)
  const isOpen = options === undefined
  if (own !== undefined)
    return {
      type: 'object',
      properties: { ...properties, [key]: name, ...described },
      required: part === 'term' ? [key, ...needed] : [],
      additionalProperties: isOpen,
    }
  const under = { type: 'object', properties: described, additionalProperties: isOpen }
  return {
    type: 'object',
    properties: { ...properties, [key]: name, options: { ...properties['options'], ...under } },
    additionalProperties: false,
  }
}

function optionSchema({ schema = {}, description, default: value }: Kind): JsonSchema {
  return {
    ...schema,
    ...(description !== undefined && { description }),
    ...(value !== undefined && { default: value }),
  }
}
