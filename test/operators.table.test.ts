/** The committed signatures belong to the operators that libtorch has, and to the rules of the JavaScript surface. */
import { readFileSync } from 'node:fs'
import { describe, expect, expectTypeOf, test } from 'vitest'
import * as alambic from '../lib/index.js'
import { Tensor, tensor, torch } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { packageExports } from '../lib/calls/package-exports.js'
import {
  camelCase,
  generateFromAddon,
  generatedFile,
  isPositional,
  isUsable,
  minorVersion,
  parseSchema,
  readTensorMembers,
  referenceVersion,
} from '../scripts/generate-operators.js'
import { codeOf } from './codes.js'

const version = minorVersion(native.systemInfo().torchVersion)
const tensorMembers = readTensorMembers()
const isReference = version === referenceVersion

describe('the generated file', () => {
  const title = isReference
    ? 'is what the generator writes for this libtorch'
    : `is what the generator writes (needs libtorch ${referenceVersion}, this is ${version})`
  test.skipIf(!isReference)(title, () => {
    const committed = readFileSync(generatedFile, 'utf8')
    // Not toBe: a difference of a megabyte is of no use to anybody.
    expect(generateFromAddon() === committed, 'run `npm run generate`').toBe(true)
  })

  test('leaves alone what the Tensor class defines itself', () => {
    const methods = readFileSync(generatedFile, 'utf8').split('export interface TensorMethods')[1]!
    const generated = new Set(Array.from(methods.matchAll(/^ {2}(\w+)\(/gm), match => match[1]!))
    expect(generated.size).toBeGreaterThan(1000)
    expect([...tensorMembers].filter(name => generated.has(name))).toEqual([])
  })
})

describe('a name that is no operator', () => {
  const table = torch as unknown as Record<string, unknown>

  test('is answered by its name here, where it is one of Python', () => {
    const message = (name: string) => messageOf(() => table[name])
    expect(message('log_softmax')).toContain(
      'torch.log_softmax: no such operator; names are in camelCase here: torch.logSoftmax',
    )
    expect(message('zeros_like')).toContain('torch.zerosLike')
    expect(message('_weight_norm')).toContain('torch._weightNorm')
    expect(message('tensor')).toContain("import { tensor } from 'alambic'")
    expect(message('no_grad')).toContain(
      "noGrad is exported by the package itself: import { noGrad } from 'alambic'",
    )
  })

  test('is told from what the package exports, all of it', () => {
    const names = Object.keys(alambic).sort()
    expect([...packageExports].sort()).toEqual(names)
  })

  test('is an error also where it would be an overload', () => {
    const { add } = torch.ops['aten']!
    expect(codeOf(() => add!['Nope'])).toBe('ERR_UNKNOWN_OPERATOR')
    expect(messageOf(() => add!['Nope'])).toContain('torch.ops.aten.add: no overload named "Nope"; there are')
    expect((add!['Tensor']!(tensor([1]), tensor([2])) as Tensor).tolist()).toEqual([3])
    expect((add!.call(null, tensor([1]), tensor([2])) as Tensor).tolist()).toEqual([3])
    expect(String(add)).toContain('function')
  })

  function messageOf(body: () => unknown): string {
    try {
      body()
    } catch (error) {
      return (error as Error).message
    }
    return ''
  }
})

describe('the operator table', () => {
  test('reaches every operator whose arguments and results have a JavaScript form', () => {
    const schemas = native.operatorSchemas('aten').map(parseSchema)
    const counts = native.operatorCounts('aten')
    expect(schemas).toHaveLength(counts.overloads)
    expect(new Set(schemas.map(each => each.name)).size).toBe(counts.names)
    expect(schemas.filter(isUsable)).toHaveLength(counts.reachable)
  })

  test.skipIf(!isReference)(`reaches at least 3,000 overloads of libtorch ${referenceVersion}`, () => {
    expect(native.operatorCounts('aten')).toMatchObject({ names: 1588, overloads: 3110 })
    expect(native.operatorCounts('aten').reachable).toBeGreaterThanOrEqual(3000)
  })

  test('takes every operator in the form that its signature gives', () => {
    for (const { name, overload, parameters } of native
      .operatorSchemas('aten')
      .map(parseSchema)
      .filter(isUsable)) {
      const positional = parameters.filter(isPositional)
      const options = parameters.filter(each => !isPositional(each))
      const required = options.filter(each => !each.hasDefault)
      for (const given of [required, options])
        native.plan(
          `aten::${name}`,
          overload,
          positional.length,
          given.map(each => camelCase(each.name)),
        )
    }
  })

  test('has a function for every operator and a method for those that take a tensor first', () => {
    const names = native.operatorNames('aten')
    const table = torch as unknown as Record<string, unknown>
    for (let i = 0; i < names.length; i += 3) {
      const [jsName, name, isMethod] = names.slice(i, i + 3) as [string, string, boolean]
      expect(jsName).toBe(camelCase(name))
      expect(table[jsName], jsName).toBeTypeOf('function')
      if (isMethod && !tensorMembers.has(jsName))
        expect((Tensor.prototype as unknown as Record<string, unknown>)[jsName], jsName).toBeTypeOf(
          'function',
        )
    }
  })

  test.each([
    ['add_', 'add_'],
    ['_softmax', '_softmax'],
    ['__and__', '__and__'],
    ['max_pool2d_with_indices', 'maxPool2dWithIndices'],
    ['_foreach_add_', '_foreachAdd_'],
    ['upsample_nearest2d', 'upsampleNearest2d'],
    ['fft_fft', 'fftFft'],
  ])('calls %s %s', (name, expected) => {
    expect(camelCase(name)).toBe(expected)
  })
})

describe('a schema', () => {
  test('is read with its alias annotations, defaults and keyword-only arguments', () => {
    const schema = parseSchema(
      'aten::max.dim_max(Tensor self, int dim, bool keepdim=False, *, Tensor(a!) max, Tensor(b!) max_values) -> ' +
        '(Tensor(a!) values, Tensor(b!) indices)',
    )
    expect(schema.name).toBe('max')
    expect(schema.results).toEqual([
      { name: 'values', type: 'Tensor' },
      { name: 'indices', type: 'Tensor' },
    ])
    expect(schema.parameters).toEqual([
      { name: 'self', type: 'Tensor', hasDefault: false, keywordOnly: false, isMutated: false },
      { name: 'dim', type: 'int', hasDefault: false, keywordOnly: false, isMutated: false },
      { name: 'keepdim', type: 'bool', hasDefault: true, keywordOnly: false, isMutated: false },
      { name: 'max', type: 'Tensor', hasDefault: false, keywordOnly: true, isMutated: true },
      { name: 'max_values', type: 'Tensor', hasDefault: false, keywordOnly: true, isMutated: true },
    ])
  })

  test('may hold commas and brackets inside of defaults, and aliases of list elements', () => {
    const schema = parseSchema(
      'aten::odd(Tensor(a -> *) self, int[2] dim=[0, 1], str text="a, (b", Tensor(b!)[] out) -> Tensor(a)[]',
    )
    expect(schema.parameters.map(each => each.type)).toEqual(['Tensor', 'int[2]', 'str', 'Tensor[]'])
    expect(schema.parameters.map(each => each.isMutated)).toEqual([false, false, false, true])
    expect(schema.results).toEqual([{ name: null, type: 'Tensor[]' }])
  })

  test.each([
    ['aten::storage(Tensor self, Storage source) -> ()', false],
    ['aten::dictionary(int id) -> Dict(Tensor, Tensor)', false],
    ['aten::defaulted(Tensor self, Storage? source=None) -> Tensor', true],
    ['aten::plain(Tensor self, Scalar? value, Tensor?[] indices) -> (Tensor, int)', true],
  ])('%s is usable: %s', (text, expected) => {
    expect(isUsable(parseSchema(text))).toBe(expected)
  })
})

describe('types', () => {
  const x = tensor([[3, 1, 2]])

  test('of results follow the overload', () => {
    expectTypeOf(torch.max(x)).toEqualTypeOf<Tensor>()
    expectTypeOf(torch.max(x, 1)).toEqualTypeOf<readonly [values: Tensor, indices: Tensor]>()
    expectTypeOf(x.split(1, { dim: 1 })).toEqualTypeOf<Tensor[]>()
    expectTypeOf(x.equal(x)).toEqualTypeOf<boolean>()
    expectTypeOf(torch.resultType(x, 1)).toEqualTypeOf<import('../lib/index.js').DType>()
    const [values, indices] = x.sort()
    expect([values.tolist(), indices.tolist()]).toEqual([[[1, 2, 3]], [[1, 2, 0]]])
  })

  test('of arguments are checked, at compile time and at run time', () => {
    expect(torch.conv2d(x.reshape([1, 1, 1, 3]), x.reshape([1, 1, 1, 3]), { padding: 'same' }).shape).toEqual(
      [1, 1, 1, 3],
    )
    // @ts-expect-error -- options have PyTorch's names
    expect(() => torch.softmax(x, 1, { datatype: 'float64' })).toThrow(/softmax/)
    // @ts-expect-error -- a dtype is one of PyTorch's
    expect(() => torch.zeros([2], { dtype: 'float' })).toThrow(/dtype/)
    // @ts-expect-error -- a dimension is an integer
    expect(() => torch.softmax(x, 'last')).toThrow(/softmax/)
  })

  test('let a number stand beside a tensor unless an overload means something else by it', () => {
    expect(torch.maximum(x, 2).tolist()).toEqual([[3, 2, 2]])
    expect(torch.max(x, 1)[1].tolist()).toEqual([0])
  })
})
