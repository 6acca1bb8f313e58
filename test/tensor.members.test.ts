/** Python's methods and properties of tensors are here too, or docs/python.md says why not. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { nn, ones, Tensor, zeros } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { camelCase, generatedFile, minorVersion, referenceVersion } from '../scripts/generate-operators.js'
import { codeOf } from './codes.js'

type Kind = 'method' | 'property'

const { members } = JSON.parse(
  readFileSync(new URL('reference/tensor_members.json', import.meta.url), 'utf8'),
) as { members: Record<string, Kind> }

const page = readFileSync(new URL('../docs/python.md', import.meta.url), 'utf8')

/** Names in the first column of the table below a heading; a reason stands in the second. */
function tableBelow(heading: string): { names: string[]; reason: string }[] {
  const section = page.split(`### ${heading}\n`)[1]!.split('\n#')[0]!
  return section
    .split('\n')
    .filter(line => line.startsWith('| `'))
    .map(line => {
      const [, first, reason] = line.split('|')
      return {
        names: Array.from(first!.matchAll(/`(?:x\.)?(\w+)`/g), match => match[1]!),
        reason: reason!.trim(),
      }
    })
}

const absent = tableBelow('What is not there, and why')
const absentNames = new Set(absent.flatMap(({ names }) => names))
const methodsHere = new Set(tableBelow('Methods here, properties there').flatMap(({ names }) => names))

const typed = new Set(
  Array.from(
    readFileSync(generatedFile, 'utf8')
      .split('export interface TensorMethods {')[1]!
      .matchAll(/^ {2}(\w+)\(/gm),
    match => match[1]!,
  ),
)

// Older ones have fewer operators.
const isReference = minorVersion(native.systemInfo().torchVersion) === referenceVersion

describe.skipIf(!isReference)("Python's members of tensors", () => {
  const x = zeros([2, 2])
  /** Without reading it: some throw for this tensor. An operator that no call can express has no type either. */
  const kindOf = (name: string): Kind | 'absent' => {
    const own = Object.getOwnPropertyDescriptor(Tensor.prototype, name)
    if (own !== undefined) return typeof own.value === 'function' ? 'method' : 'property'
    if (Object.hasOwn(x, name)) return 'property'
    return typed.has(name) && name in x ? 'method' : 'absent'
  }

  it.each(Object.entries(members))('%s is here as a %s, or has a reason', (name, kind) => {
    const expected = absentNames.has(name) ? 'absent' : methodsHere.has(name) ? 'method' : kind
    expect(kindOf(camelCase(name))).toBe(expected)
  })

  it('are listed by names that Python has, each once, with a reason', () => {
    const listed = [...absent.flatMap(({ names }) => names), ...methodsHere]
    expect(listed.filter(name => !(name in members))).toEqual([])
    expect(new Set(listed).size).toBe(listed.length)
    expect(absent.every(({ reason }) => reason.length > 0)).toBe(true)
  })
})

describe('The class Tensor', () => {
  it('makes no tensor of a number, which may be the handle of another', () => {
    const x = ones([2])
    const Class = Tensor as unknown as new (handle?: number) => Tensor
    for (const make of [
      () => new Class(),
      () => new Class(x.handle),
      () => new (x.constructor as typeof Class)(x.handle),
      () => new (class Own extends Class {})(x.handle),
      () => (Class as unknown as (handle: number) => Tensor)(x.handle),
    ])
      expect(codeOf(make)).toBe('ERR_ARGUMENT')
    expect(x.tolist()).toEqual([1, 1])
  })

  it('is that of every tensor', () => {
    const x = ones([2])
    const parameter = new nn.Parameter(x)
    for (const each of [x, x.add(1), parameter]) expect(each).toBeInstanceOf(Tensor)
    expect(parameter.constructor).toBe(nn.Parameter)
    expect(x.constructor).toBe(Tensor)
    expect(Tensor.name).toBe('Tensor')
    expect({} instanceof Tensor).toBe(false)
  })
})
