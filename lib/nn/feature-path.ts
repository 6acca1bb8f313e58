/** Where a feature is: a layer's dotted path, and for a layer that gives several tensors which one, in brackets. */
import { AlambicError } from '../errors.js'
import { isMap, isPlainObject } from '../checks/realms.js'

export interface FeaturePath {
  /** As it was written: `encoder.lstm[1][0]`. */
  text: string
  /** Of the layer: `encoder.lstm`. */
  layer: string
  /** Into tuples and lists (numbers), objects and maps (keys): `['1', '0']`. */
  steps: string[]
}

/**
 * Splits `layer1`, `lstm[1][0]` or `head['logits']`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for brackets that do not close
 */
export function parseFeaturePath(text: string): FeaturePath {
  const [, layer, brackets] = /^([^[\]]*)((?:\[[^[\]]+\])*)$/.exec(text) ?? []
  if (layer === undefined || brackets === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `captureFeatures: expected a path such as layer1.0 or lstm[0] or head[logits], got ${JSON.stringify(text)}`,
    )
  const steps = Array.from(brackets.matchAll(/\[([^[\]]+)\]/g), match => unquoted(match[1]!))
  return { text, layer, steps }
}

function unquoted(step: string): string {
  return /^(['"]).*\1$/.test(step) ? step.slice(1, -1) : step
}

/** What a path's steps lead to inside a layer's value; undefined where they lead nowhere. */
export function valueAt(value: unknown, steps: readonly string[]): unknown {
  return steps.reduce(elementOf, value)
}

function elementOf(value: unknown, step: string): unknown {
  if (Array.isArray(value)) return value[Number(step)] as unknown
  if (isMap(value)) return value.get(keyOf(value, step))
  if (isPlainObject(value)) return Object.hasOwn(value, step) ? value[step] : undefined
  return undefined
}

function keyOf(map: Map<unknown, unknown>, step: string): unknown {
  return Array.from(map.keys()).find(key => String(key) === step)
}

/** The value with another one at the end of the steps; what lies on the way is copied. */
export function withValueAt(value: unknown, steps: readonly string[], replacement: unknown): unknown {
  const [step, ...rest] = steps
  if (step === undefined) return replacement
  const inner = withValueAt(elementOf(value, step), rest, replacement)
  if (Array.isArray(value)) return (value as unknown[]).with(Number(step), inner)
  if (isMap(value)) return new Map(value).set(keyOf(value, step), inner)
  return { ...(value as object), [step]: inner }
}
