import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import {
  arange,
  eye,
  fromTypedArray,
  memory,
  noGrad,
  ones,
  tensor,
  torch,
  zeros,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { hasDtype } from './nn.fixtures.js'

interface Case {
  name: string
  dtype: DType
  shape: number[]
  /** Each as text; one for all; or a rule of `reference/format.py`. */
  values: string[] | string
  role?: 'leaf' | 'product'
  text: string
}

const cases = JSON.parse(readFileSync(new URL('reference/format.json', import.meta.url), 'utf8')) as Case[]

/** Our words for Python's. */
function toOurs(text: string): string {
  return text
    .replaceAll('torch.', '')
    .replaceAll('grad_fn=', 'gradFn=')
    .replaceAll('requires_grad=True', 'requiresGrad=true')
    .replaceAll('True', 'true')
    .replaceAll('False', 'false')
}

function listed(values: string[] | string, count: number): string[] {
  if (values === 'arange') return Array.from({ length: count }, (_, i) => String(i))
  if (values === 'pattern') return Array.from({ length: count }, (_, i) => String(((i * 37) % 1009) / 8))
  return Array.isArray(values) ? values : Array<string>(count).fill(values)
}

function toNumber(text: string): number {
  return text === 'True' ? 1 : text === 'False' ? 0 : Number(text.replace('inf', 'Infinity'))
}

function make({ dtype, shape, values }: Case): Tensor {
  const texts = listed(
    values,
    shape.reduce((product, size) => product * size, 1),
  )
  if (dtype === 'int64') return fromTypedArray(BigInt64Array.from(texts, BigInt), shape)
  if (dtype === 'uint64') return fromTypedArray(BigUint64Array.from(texts, BigInt), shape)
  if (!dtype.startsWith('complex'))
    return fromTypedArray(Float64Array.from(texts, toNumber), shape, { dtype })
  const parts = Float64Array.from(texts.flatMap(each => each.split(' ')).map(toNumber))
  return torch.viewAsComplex(fromTypedArray(parts, [...shape, 2])).to(dtype)
}

describe('printing', () => {
  it.each(cases.filter(({ dtype }) => hasDtype(dtype)))('prints $name as PyTorch does', each => {
    const x = make(each)
    if (each.role !== undefined) x.requiresGrad = true
    expect(String(each.role === 'product' ? x.mul(1) : x)).toBe(toOurs(each.text))
  })

  // As Python 2.13 prints them.
  it.each([
    [
      'a sparse matrix',
      () => eye(3, { dtype: 'float64' }).toSparse(),
      `tensor(indices=tensor([[0, 1, 2],
                       [0, 1, 2]]),
       values=tensor([1., 1., 1.]),
       size=(3, 3), nnz=3, dtype=float64, layout=sparse_coo)`,
    ],
    [
      'a sparse matrix without elements',
      () => zeros([2, 3]).toSparse(),
      `tensor(indices=tensor([], size=(2, 0)),
       values=tensor([], size=(0,)),
       size=(2, 3), nnz=0, layout=sparse_coo)`,
    ],
    [
      'a compressed matrix',
      () => eye(3).toSparseCsr(),
      `tensor(crow_indices=tensor([0, 1, 2, 3]),
       col_indices=tensor([0, 1, 2]),
       values=tensor([1., 1., 1.]), size=(3, 3), nnz=3,
       layout=sparse_csr)`,
    ],
    ['shapes only', () => zeros([2, 3], { device: 'meta' }), `tensor(..., device='meta', size=(2, 3))`],
    [
      'a shape without dimensions',
      () => zeros([], { device: 'meta', dtype: 'int64' }),
      `tensor(..., device='meta', size=(), dtype=int64)`,
    ],
    [
      'quantized numbers',
      () => torch.quantizePerTensor(ones([3]), 0.1, 2, 'quint8'),
      `tensor([1., 1., 1.], size=(3,), dtype=quint8,
       quantization_scheme=per_tensor_affine, scale=0.1, zero_point=2)`,
    ],
    [
      'numbers quantized by channel',
      () => torch.quantizePerChannel(ones([2, 3]), tensor([0.1, 0.2]), tensor([0n, 1n]), 0, 'qint8'),
      `tensor([[1., 1., 1.],
        [1., 1., 1.]], size=(2, 3), dtype=qint8,
       quantization_scheme=per_channel_affine,
       scale=tensor([0.1000, 0.2000], dtype=float64),
       zero_point=tensor([0, 1]), axis=0)`,
    ],
    ['conjugates', () => tensor([{ re: 1, im: 2 }]).conj(), 'tensor([1.-2.j])'],
    [
      'negative bits',
      () =>
        tensor([{ re: 1, im: 2 }])
          .conj()
          .imag(),
      'tensor([-2.])',
    ],
  ] as const)('prints %s', (_, make, text) => {
    expect(String(make())).toBe(text)
  })

  it.skipIf(!hasDtype('float8_e4m3fn'))('prints eight bits', () => {
    expect(String(ones([3, 4]).to('float8_e4m3fn'))).toBe(`tensor([[1., 1., 1., 1.],
        [1., 1., 1., 1.],
        [1., 1., 1., 1.]], dtype=float8_e4m3fn)`)
  })

  it('prints nested tensors', () => {
    const nested = torch._nestedTensorFromTensorList([ones([2]), ones([3])])
    expect(String(nested)).toBe('nested_tensor([\n  tensor([1., 1.]),\n  tensor([1., 1., 1.])\n])')
  })

  it('prints integers that no JavaScript number holds', () => {
    expect(String(tensor([2n ** 62n]))).toBe('tensor([4611686018427387904])')
    expect(String(tensor(-(2n ** 63n)))).toBe('tensor(-9223372036854775808)')
  })

  it('says that a tensor is a leaf with a gradient, or what made it', () => {
    const x = tensor([1, 2], { requiresGrad: true })
    expect(String(x)).toBe('tensor([1., 2.], requiresGrad=true)')
    expect(String(x.mul(x))).toBe('tensor([1., 4.], gradFn=<MulBackward0>)')
    const z = tensor([{ re: 1, im: 2 }], { requiresGrad: true })
    expect(z.mul(2).gradFn).toBe('MulBackward0')
  })

  it('names what made a tensor as Python does', () => {
    const x = tensor([1, 2], { requiresGrad: true })
    const changed = x.clone()
    changed.at(0).mul_(2)
    expect(changed.gradFn).toBe('CopySlices')
    expect(x.at(0).gradFn).toBe('SelectBackward0')
    expect(x.add(1).gradFn).toBe('AddBackward0')
    expect(x.gradFn).toBeNull()
  })

  it('shows the same in the console, and does not fail for a released tensor', () => {
    const x = zeros([2])
    expect(inspect(x)).toBe('tensor([0., 0.])')
    x.dispose()
    expect(inspect(x)).toBe('tensor(<released>)')
  })

  it('does not fail where elements cannot be read', () => {
    const broken = arange(3).expand([3])
    Object.defineProperty(broken, 'shape', {
      get: () => {
        throw new Error('no shape')
      },
    })
    expect(String(broken)).toBe('tensor(<no shape>)')
  })

  it('leaves no tensor behind, in any of its forms', () => {
    const kept = [
      zeros([40, 40]),
      eye(3).toSparse(),
      torch.quantizePerTensor(ones([3]), 0.1, 2, 'quint8'),
      noGrad(() => tensor([{ re: 1, im: 2 }]).conj()),
    ]
    const before = memory().tensors
    for (const each of kept) String(each)
    expect(memory().tensors).toBe(before)
  })
})
