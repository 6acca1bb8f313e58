/** The state dicts of schedules: fields under PyTorch's names, checked as the options are. */
import { show } from '../../errors.js'
import { fromJson, withJson } from '../json.js'
import { stateError } from '../stateError.js'
import type { Check } from './checks.js'

/** Plain values under PyTorch's names. `JSON.stringify` keeps Infinity, NaN and −0 as strings. */
export type SchedulerStateDict = Record<string, unknown>

/** The field that holds a value of the state, and the check of a value that is loaded. */
export interface StateField {
  field: string
  check: Check
}

/** Fields by PyTorch's names. A value for a field without a check must have the field's present type. */
export type StateFields = Readonly<Record<string, StateField | string>>

/** Fields of schedules that no other schedule has: a state dict with one is not that of another. */
const ownFields = new Set(
  'step_size milestones T_max eta_min start_factor end_factor total_iters total_steps cycle_momentum mode factor patience threshold _schedulers _milestones'.split(
    ' ',
  ),
)

export function readState(from: object, fields: StateFields): SchedulerStateDict {
  const values = from as Record<string, unknown>
  return withJson(
    Object.fromEntries(
      Object.entries(fields).map(([name, each]) => [name, structuredClone(values[nameOf(each)])]),
    ),
  )
}

/** @throws AlambicError `ERR_STATE_DICT` before anything has changed */
export function checkState(owner: object, fields: StateFields, dict: SchedulerStateDict): void {
  const label = owner.constructor.name
  if (typeof dict !== 'object' || dict === null)
    throw stateError(`expected the state of a ${label}, got ${show(dict)}`)
  const missing = Object.keys(fields).filter(name => dict[name] === undefined)
  if (missing.length > 0) throw stateError(`${label} needs ${missing.join(', ')}, which the state dict lacks`)
  const foreign = Object.keys(dict).filter(name => ownFields.has(name) && !Object.hasOwn(fields, name))
  if (foreign.length > 0)
    throw stateError(`${label} has no ${foreign.join(', ')}: the state dict is that of another schedule`)
  for (const [name, each] of Object.entries(fields)) {
    const own = (owner as Record<string, unknown>)[nameOf(each)]
    const check = typeof each === 'string' ? sameType(own) : each.check
    try {
      check(name, fromJson(dict[name]))
    } catch (error) {
      throw stateError((error as Error).message)
    }
  }
}

/** @throws AlambicError `ERR_STATE_DICT` before anything has changed */
export function writeState(to: object, fields: StateFields, dict: SchedulerStateDict): void {
  checkState(to, fields, dict)
  for (const [name, each] of Object.entries(fields))
    (to as Record<string, unknown>)[nameOf(each)] = structuredClone(fromJson(dict[name]))
}

function nameOf(field: StateField | string): string {
  return typeof field === 'string' ? field : field.field
}

function sameType(own: unknown): Check {
  return (name, value) => {
    if (typeof value === typeof own && Array.isArray(value) === Array.isArray(own)) return
    throw stateError(`${name}: expected ${Array.isArray(own) ? 'an array' : `a ${typeof own}`}`)
  }
}
