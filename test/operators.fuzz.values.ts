/** The values that operators.fuzz.child.ts calls operators with, and the calls with one hostile place. */
import { ones, randn, Tensor, tensor, torch, zeros } from '../lib/index.js'
import type { Schema } from '../scripts/generate-operators.js'

export type Make = () => unknown

/** Tensors that are not what an operator was written for. */
export const tensors: Record<string, () => Tensor> = {
  empty: () => zeros([0]),
  emptyRows: () => zeros([2, 0, 3]),
  zeroDimensional: () => tensor(1.5),
  float64: () => randn([2, 3], { dtype: 'float64' }),
  half: () => ones([2, 3], { dtype: 'float16' }),
  notFinite: () => tensor([NaN, Infinity, -Infinity, 1e30]),
  int64: () =>
    tensor([
      [0n, 1n, 1000000000000n],
      [-1n, -5n, 7n],
    ]),
  bool: () =>
    tensor(
      [
        [true, false, true],
        [false, true, true],
      ],
      { dtype: 'bool' },
    ),
  uint8: () =>
    tensor(
      [
        [0, 255, 3],
        [1, 2, 3],
      ],
      { dtype: 'uint8' },
    ),
  float8: () => ones([2, 3]).to('float8_e4m3fn'),
  fiveDimensional: () => randn([1, 2, 3, 2, 2]),
  expanded: () => ones([1]).expand([40000, 40000]),
  transposed: () => randn([3, 2]).t(),
  requiresGrad: () => randn([2, 3], { requiresGrad: true }),
  sparse: () => torch.toSparse(ones([2, 3])),
  sparseCsr: () => torch.toSparseCsr(ones([2, 3])),
  mkldnn: () => torch.toMkldnn(ones([2, 3])),
  quantized: () => torch.quantizePerTensor(ones([2, 3]), 0.1, 0, 'quint8'),
  quantizedPerChannel: () =>
    torch.quantizePerChannel(ones([2, 3]), tensor([0.1, 0.2]), tensor([0n, 0n]), 0, 'qint8'),
  nested: () => torch._nestedTensorFromMask(ones([2, 3, 4]), torch.full([2, 3], 1, { dtype: 'bool' })),
  meta: () => zeros([2, 3], { device: 'meta' }),
  complex: () => torch.complex(randn([2, 3]), randn([2, 3])),
  complexHalf: () => zeros([2, 3], { dtype: 'complex32' }),
  conjugate: () => torch._conj(torch.complex(randn([2, 3]), randn([2, 3]))),
  negative: () => torch._negView(randn([2, 3])),
  knownZero: () => torch._efficientzerotensor([2, 3]),
}

const integers = [0, -1, -7, 3, 2 ** 31, 2n ** 62n, -(2n ** 63n)]
const numbers = [0, -1, NaN, Infinity, -Infinity, 1e308]

/** Values that fit well enough to come far into an operator; several, for none fits all. */
export const bases: { tensor: () => Tensor; indices: () => Tensor; integer: number; list: number[] }[] = [
  { tensor: () => randn([2, 3]), indices: () => tensor([0n, 1n]), integer: 1, list: [1, 1] },
  { tensor: () => randn([3, 3]).abs(), indices: () => tensor([[0n, 1n, 2n]]), integer: 0, list: [3, 3] },
  { tensor: () => randn([1, 2, 4, 4]), indices: () => tensor([0n]), integer: 2, list: [2, 2] },
  { tensor: () => randn([4]), indices: () => tensor([0n, 1n, 1n, 3n]), integer: 1, list: [4] },
]

export const isIndex =
  /^(index|indices|target|targets|labels|offsets|input_lengths|target_lengths|batch_sizes|lengths|crow_indices|col_indices)$/

export interface Case {
  schema: Schema
  name: string
  values: Make[]
  names: string[]
}

export const element = (type: string) => /^(\w+)/.exec(type)![1]!
export const isList = (type: string) => type.includes('[')

export function baseValue(name: string, type: string, base: (typeof bases)[number]): Make {
  const length = Number(/\[(\d+)\]/.exec(type)?.[1] ?? 0)
  const single: Record<string, Make> = {
    Tensor: isIndex.test(name) ? base.indices : base.tensor,
    int: () => base.integer,
    SymInt: () => base.integer,
    float: () => 0.5,
    bool: () => true,
    Scalar: () => 1,
    str: () => (name === 'rounding_mode' ? 'floor' : name === 'reduce' ? 'sum' : 'none'),
    ScalarType: () => 'float32',
    Layout: () => 'strided',
    MemoryFormat: () => 'contiguous',
    Device: () => 'cpu',
    Generator: () => null,
  }
  const make = single[element(type)] ?? (() => null)
  if (!isList(type)) return make
  if (type.startsWith('Tensor')) return () => [make(), make()]
  if (element(type) === 'int' || element(type) === 'SymInt')
    return () => (length > 0 ? Array<number>(length).fill(base.integer) : base.list)
  return () => Array.from({ length: length || 2 }, make)
}

export function hostileValues(type: string): [string, Make][] {
  const kind = element(type)
  const asList =
    (make: Make): Make =>
    () => [make(), make()]
  const wrap = (name: string, make: Make): [string, Make] => [name, isList(type) ? asList(make) : make]
  const own: [string, Make][] =
    kind === 'Tensor'
      ? Object.entries(tensors).map(([name, make]) => wrap(name, make))
      : kind === 'int' || kind === 'SymInt'
        ? integers.map(each => wrap(String(each), () => each))
        : kind === 'float' || kind === 'Scalar'
          ? numbers.map(each => wrap(String(each), () => each))
          : kind === 'bool'
            ? [wrap('false', () => false)]
            : kind === 'ScalarType'
              ? ['int64', 'bool', 'complex64', 'qint8', 'float8_e5m2'].map(each => wrap(each, () => each))
              : kind === 'Layout'
                ? ['sparse', 'mkldnn', 'sparseCsr'].map(each => wrap(each, () => each))
                : kind === 'str'
                  ? ['', 'mean', 'sum', 'ä'].map(each => wrap(each, () => each))
                  : kind === 'Device'
                    ? [wrap('meta', () => 'meta')]
                    : []
  const lists: [string, Make][] = isList(type)
    ? [
        ['[]', () => []],
        ['long', () => Array<unknown>(70).fill(kind === 'Tensor' ? null : 1)],
      ]
    : []
  return [['null', () => null], ...own, ...lists]
}

/** What writes files, waits, or is meant to end the process. */
export const untried =
  /^(from_file|_print|_cuda_|cudnn_|_cudnn_|miopen_|_mps_|mkldnn_rnn_layer_backward_never)/

export function* cases(schemas: readonly Schema[]): Generator<Case> {
  for (const schema of schemas) {
    if (untried.test(schema.name)) continue
    const required = schema.parameters.filter(each => !each.hasDefault)
    const parameters = [...required, ...schema.parameters.filter(each => each.hasDefault)]
    for (const [number, base] of bases.entries()) {
      const values = required.map(each => baseValue(each.name, each.type, base))
      const names = required.map(each => each.name)
      const title = `${schema.name}.${schema.overload} on base ${number}`
      yield { schema, name: title, values, names }
      for (const [i, parameter] of parameters.entries())
        for (const [hostile, make] of hostileValues(parameter.type)) {
          const changed = [...values]
          const changedNames = [...names]
          changed[Math.min(i, values.length)] = make
          changedNames[Math.min(i, values.length)] = parameter.name
          yield {
            schema,
            name: `${title}, ${parameter.name}: ${hostile}`,
            values: changed,
            names: changedNames,
          }
        }
      for (const [hostile, make] of Object.entries(tensors))
        yield {
          schema,
          name: `${title}, all: ${hostile}`,
          values: values.map((value, i) =>
            element(required[i]!.type) !== 'Tensor'
              ? value
              : isList(required[i]!.type)
                ? () => [make(), make()]
                : make,
          ),
          names,
        }
    }
  }
}
