/**
 * Calls operators with hostile values, one after the other: `operators.fuzz.child.ts <first case> <Calls as JSON>`.
 * Prints the number of each case before it is tried, so that whoever watches knows which one did not come back.
 */
import { writeSync } from 'node:fs'
import { AlambicError, manualSeed, scope, Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { Operator, toFunction } from '../lib/calls/call.js'
import { camelCase, isPositional, isUsable, parseSchema, type Schema } from '../scripts/generate-operators.js'
import { jointCases } from './operators.fuzz.joint.js'
import { cases, type Case } from './operators.fuzz.values.js'

/**
 * Printed before a case is tried, with what became of the one before: `result`, the code of an AlambicError (of
 * `ERR_NATIVE` with its message), or another error's text behind `!`. The last message has no `at`.
 */
export interface Message {
  at?: number
  name?: string
  before: string | null
}

/** Which calls are made: one of `thinning`, of operators whose name `only` matches. */
export interface Calls {
  thinning: number
  only?: string
  /** So many calls of each operator with random values in all places. Without it: calls with one hostile place. */
  joint?: { calls: number; seed: number }
}

const operators = new Map<Schema, (...args: unknown[]) => unknown>()

function run({ schema, values, names }: Case): void {
  let operator = operators.get(schema)
  if (operator === undefined) {
    operator = toFunction(new Operator(`aten::${schema.name}`, schema.overload))
    operators.set(schema, operator)
  }
  const positional: unknown[] = []
  const options: Record<string, unknown> = {}
  let hasOptions = false
  for (const parameter of schema.parameters) {
    const at = names.indexOf(parameter.name)
    if (at < 0) continue
    const value = values[at]!()
    if (isPositional(parameter)) positional.push(value)
    else {
      options[camelCase(parameter.name)] = value
      hasOptions = true
    }
  }
  const result = hasOptions ? operator(...positional, options) : operator(...positional)
  for (const each of Array.isArray(result) ? (result as unknown[]) : [result])
    if (each instanceof Tensor && each.layout === 'strided' && each.device === 'cpu' && each.numel() < 1000)
      readAll(each)
}

/** What an operator returned can be read, or is refused. */
function readAll(result: Tensor): void {
  result.toTypedArray()
  void String(result)
}

/** Waits for a reader that is behind. */
function tell(message: Message): void {
  const line = Buffer.from(`${JSON.stringify(message)}\n`)
  for (let written = 0; written < line.length;)
    try {
      written += writeSync(1, line, written)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
}

function attempt(each: Case): string {
  try {
    scope(() => run(each))
    return 'result'
  } catch (error) {
    if (!(error instanceof AlambicError)) return `!${String(error)}`
    return error.code === 'ERR_NATIVE' ? `ERR_NATIVE ${error.message.slice(0, 300)}` : error.code
  }
}

function main(first: number, { thinning, only, joint }: Calls): void {
  const wanted = new RegExp(only ?? '')
  const schemas = native
    .operatorSchemas('aten')
    .map(parseSchema)
    .filter(each => isUsable(each) && wanted.test(each.name))
  let before: string | null = null
  let number = -1
  for (const each of joint === undefined ? cases(schemas) : jointCases(schemas, joint.calls, joint.seed)) {
    number++
    if (number < first || number % thinning !== 0) continue
    tell({ at: number, name: each.name, before })
    manualSeed(number)
    before = attempt(each)
  }
  tell({ before })
}

if (process.argv[1] === new URL(import.meta.url).pathname)
  main(Number(process.argv[2]), JSON.parse(process.argv[3]!) as Calls)
