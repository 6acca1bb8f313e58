/**
 * Operators called with every kind of argument, against results stored by `reference/operators.py`: what libtorch
 * computes is its own matter, that JavaScript's arguments reach it and its results come back is tested here.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { Generator, Tensor, fromTypedArray, manualSeed, tensor, torch, type DType } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { camelCase } from '../scripts/generate-operators.js'

type StoredNumber =
  number | boolean | { bigint: string } | { float: string } | { re: StoredNumber; im: StoredNumber }

interface StoredTensor {
  dtype: DType
  shape: number[]
  /** In row-major order; left out where only the form is compared. */
  values?: StoredNumber[]
  /** Of tensors with 4 or 5 dimensions, which memory formats order. */
  strides?: number[]
  /** Of sparse tensors, whose values are stored densely. */
  layout?: string
  /** The values are the dequantized ones. */
  quantized?: boolean
}

type Stored = null | string | StoredNumber | { tensor: StoredTensor } | { generator: number } | Stored[]

interface Case {
  operator: string
  positional: Stored[]
  options?: Record<string, Stored>
  /** What is compared: values if undefined; `random` draws differ between versions. */
  compare?: 'meta' | 'random'
  result: Stored
  /** Arguments that the call changes, by position or option name. */
  changed?: Record<string, Stored>
  /** The first version of PyTorch that has this form of call. */
  since?: string
  note?: string
}

const { cases } = JSON.parse(readFileSync(new URL('reference/operators.json', import.meta.url), 'utf8')) as {
  cases: Case[]
}

// ---- Decoding ------------------------------------------------------------------------------------------------------

function isObject(value: Stored): value is Exclude<Stored, null | string | number | boolean | Stored[]> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function decodeNumber(value: StoredNumber): number | bigint | boolean | { re: number; im: number } {
  if (typeof value !== 'object') return value
  if ('bigint' in value) return BigInt(value.bigint)
  if ('float' in value) return Number(value.float)
  return { re: decodeNumber(value.re) as number, im: decodeNumber(value.im) as number }
}

function decodeTensor({ dtype, shape, values = [], layout }: StoredTensor): Tensor {
  const numbers = values.map(decodeNumber)
  if (layout === 'sparse') return torch.toSparse(decodeTensor({ dtype, shape, values }))
  if (dtype.startsWith('complex')) {
    const partType = dtype === 'complex64' ? 'float32' : 'float64'
    const parts = (['re', 'im'] as const).map(part => {
      const flat = numbers.map(each =>
        typeof each === 'object' ? each[part] : part === 're' ? Number(each) : 0,
      )
      return fromTypedArray(Float64Array.from(flat), shape, { dtype: partType })
    })
    return torch.complex(parts[0]!, parts[1]!)
  }
  if (dtype === 'int64')
    return fromTypedArray(BigInt64Array.from(numbers.map(each => BigInt(each as number))), shape)
  return fromTypedArray(Float64Array.from(numbers.map(Number)), shape, { dtype })
}

/** `reseed` is added to the seeds of generators. */
function decode(value: Stored, reseed = 0): unknown {
  if (value === null || typeof value === 'string') return value
  if (Array.isArray(value)) return value.map(each => decode(each, reseed))
  if (isObject(value)) {
    if ('tensor' in value) return decodeTensor(value.tensor)
    if ('generator' in value) return new Generator(value.generator + reseed)
  }
  return decodeNumber(value)
}

interface Call {
  positional: unknown[]
  options: Record<string, unknown>
  result: unknown
}

function decodeArguments({ positional, options = {} }: Case, reseed = 0): Omit<Call, 'result'> {
  return {
    positional: positional.map(each => decode(each, reseed)),
    options: Object.fromEntries(
      Object.entries(options).map(([name, value]) => [camelCase(name), decode(value, reseed)]),
    ),
  }
}

type AnyFunction = (...args: unknown[]) => unknown

function invoke(run: (...args: unknown[]) => unknown, sample: Case, reseed = 0): Call {
  const { positional, options } = decodeArguments(sample, reseed)
  manualSeed(reseed)
  const result = run(...positional, ...(sample.options ? [options] : []))
  return { positional, options, result }
}

function asFunction({ operator }: Case): AnyFunction {
  return (torch as unknown as Record<string, AnyFunction>)[camelCase(operator)]!
}

function asMethod({ operator }: Case): AnyFunction {
  const name = camelCase(operator)
  return (self, ...rest) => (self as Record<string, AnyFunction>)[name]!(...rest)
}

// ---- Comparing -----------------------------------------------------------------------------------------------------

const tolerances: Partial<Record<DType, number>> = {
  float64: 1e-10,
  complex128: 1e-10,
  float16: 1e-3,
  bfloat16: 1e-2,
}

function expectNear(actual: number, expected: number, tolerance: number, where: string): void {
  if (Object.is(actual, expected) || actual === expected) return
  const difference = Math.abs(actual - expected)
  if (difference <= tolerance * Math.max(1, Math.abs(expected))) return
  expect.fail(`${where}: expected ${expected}, got ${actual}`)
}

/** Real and imaginary parts in turn for complex tensors, as the typed array has them. */
function flatValues(values: readonly StoredNumber[], isComplex: boolean): (number | bigint)[] {
  return values.map(decodeNumber).flatMap(value => {
    if (typeof value === 'object') return [value.re, value.im]
    const plain = typeof value === 'boolean' ? Number(value) : value
    return isComplex ? [plain, 0] : [plain]
  })
}

function expectTensor(actual: unknown, expected: StoredTensor, where: string): void {
  expect(actual, where).toBeInstanceOf(Tensor)
  const tensor = actual as Tensor
  expect({ dtype: tensor.dtype, shape: tensor.shape }, where).toEqual({
    dtype: expected.dtype,
    shape: expected.shape,
  })
  if (expected.layout !== undefined) expect(tensor.layout, where).toBe(expected.layout)
  if (expected.strides !== undefined) expect(tensor.strides, `${where}: strides`).toEqual(expected.strides)
  if (expected.values === undefined) return

  const readable = expected.quantized ? tensor.dequantize() : expected.layout ? tensor.toDense() : tensor
  const values = Array.from<number | bigint>(readable.toTypedArray())
  const wanted = flatValues(expected.values, expected.dtype.startsWith('complex'))
  expect(values, where).toHaveLength(wanted.length)
  const tolerance = tolerances[expected.dtype] ?? 1e-5
  wanted.forEach((value, i) => {
    const got = values[i]!
    if (typeof got === 'bigint') expect(got, `${where}[${i}]`).toBe(BigInt(value))
    else expectNear(got, Number(value), tolerance, `${where}[${i}]`)
  })
}

function expectValue(actual: unknown, expected: Stored, where: string): void {
  if (expected === null) {
    expect(actual ?? null, where).toBeNull()
  } else if (Array.isArray(expected)) {
    expect(actual, where).toHaveLength(expected.length)
    expected.forEach((each, i) => expectValue((actual as unknown[])[i], each, `${where}[${i}]`))
  } else if (isObject(expected) && 'tensor' in expected) {
    expectTensor(actual, expected.tensor, where)
  } else if (typeof expected === 'number') {
    expect(actual, where).toBeTypeOf('number')
    expectNear(actual as number, expected, 1e-10, where)
  } else {
    expect(actual, where).toEqual(decode(expected))
  }
}

/** Arguments that the call writes to have their new values, all others those that they had. */
function expectArguments({ positional, options }: Call, sample: Case): void {
  sample.positional.forEach((before, i) => {
    if (isTensors(before))
      expectValue(positional[i], sample.changed?.[i] ?? before, `argument ${i} after the call`)
  })
  for (const [name, before] of Object.entries(sample.options ?? {}))
    if (isTensors(before))
      expectValue(options[camelCase(name)], sample.changed?.[name] ?? before, `${name} after the call`)
}

function isTensors(value: Stored): boolean {
  if (Array.isArray(value)) return value.some(isTensors)
  return isObject(value) && 'tensor' in value
}

/** In-place operators return the tensor object they were called on, and `out` operators the one they wrote to. */
function expectIdentity({ positional, options, result }: Call, { operator }: Case): void {
  if (/[^_]_$/.test(operator) && result instanceof Tensor) expect(result).toBe(positional[0])
  if (options['out'] instanceof Tensor) expect(result).toBe(options['out'])
}

// ---- Tests -----------------------------------------------------------------------------------------------------------

const [major = 0, minor = 0] = native.systemInfo().torchVersion.split('.').map(Number)

function isAvailable({ since }: Case): boolean {
  const [neededMajor = 0, neededMinor = 0] = (since ?? '0.0').split('.').map(Number)
  return major > neededMajor || (major === neededMajor && minor >= neededMinor)
}

function kindOf(value: Stored): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return `[${[...new Set(value.map(kindOf))].join('|')}]`
  if (isObject(value))
    return 'tensor' in value
      ? value.tensor.dtype
      : Object.keys(value)[0] === 're'
        ? 'complex'
        : Object.keys(value)[0]!
  if (typeof value === 'string') return JSON.stringify(value)
  return typeof value === 'number' && Number.isInteger(value)
    ? 'int'
    : typeof value === 'number'
      ? 'float'
      : typeof value
}

function titleOf(sample: Case, index: number): string {
  const options = Object.entries(sample.options ?? {}).map(
    ([name, value]) => `${camelCase(name)}: ${kindOf(value)}`,
  )
  const args = [
    ...sample.positional.map(kindOf),
    ...(options.length > 0 ? [`{ ${options.join(', ')} }`] : []),
  ]
  const since = sample.since ? `, since ${sample.since}` : ''
  return `${camelCase(sample.operator)}(${args.join(', ')}) (#${index}${since})`
}

const drawn = cases.filter(sample => sample.compare === 'random')
const computed = cases.filter(sample => sample.compare !== 'random')

describe('operators give what Python gets', () => {
  computed.forEach((sample, index) => {
    test.skipIf(!isAvailable(sample))(titleOf(sample, index), () => {
      const call = invoke(asFunction(sample), sample)
      expectValue(call.result, sample.result, 'result')
      expectIdentity(call, sample)
      if (sample.compare === undefined) expectArguments(call, sample)
    })
  })
})

describe('methods of tensors do what the functions do', () => {
  const hasTensorFirst = ({ positional: [first] }: Case) =>
    first !== undefined && first !== null && typeof first === 'object' && 'tensor' in first
  /** The class defines these itself, with signatures of its own. */
  const ownOfTensor = new Set(['to', 'size', 'item'])
  computed
    .filter(sample => hasTensorFirst(sample) && !ownOfTensor.has(sample.operator))
    .forEach((sample, index) => {
      test.skipIf(!isAvailable(sample))(titleOf(sample, index), () => {
        const call = invoke(asMethod(sample), sample)
        expectValue(call.result, sample.result, 'result')
        expectIdentity(call, sample)
        if (sample.compare === undefined) expectArguments(call, sample)
      })
    })
})

describe('random operators repeat with their seed', () => {
  /** All tensors of a call in one list: results and what in-place operators wrote to. */
  function numbersOf({ result, positional }: Call): (number | bigint)[] {
    const tensors = [result, positional].flat().filter(each => each instanceof Tensor)
    return tensors.flatMap(each => Array.from<number | bigint>(each.toTypedArray()))
  }

  drawn.forEach((sample, index) => {
    test.skipIf(!isAvailable(sample))(titleOf(sample, index), () => {
      const first = invoke(asFunction(sample), sample)
      expectValue(first.result, sample.result, 'result')
      expectIdentity(first, sample)
      const numbers = numbersOf(first)
      expect(numbersOf(invoke(asFunction(sample), sample))).toEqual(numbers)
      expect(numbersOf(invoke(asFunction(sample), sample, 1000))).not.toEqual(numbers)
    })
  })
})

test('the samples reach at least 150 operators', () => {
  expect(new Set(cases.filter(isAvailable).map(sample => sample.operator)).size).toBeGreaterThanOrEqual(150)
})

test('integers beyond 2^53 reach int64 tensors exactly', () => {
  const big = 2n ** 60n + 1n
  const sum = torch.add(tensor([0n]), big as unknown as number)
  expect(Array.from(sum.toTypedArray() as BigInt64Array)).toEqual([big])
})
