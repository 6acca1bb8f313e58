/** Every loss in every dtype, memory layout and shape against its formula in float64, which the parity tests hold to Python. */
import { describe, expect, test } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  Generator,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { randn, zeros } from './device.js'
import { torchVersion } from './nn.fixtures.js'

type Kind = 'mse' | 'cosine' | 'attention'
const kinds: Kind[] = ['mse', 'cosine', 'attention']

// ---- The formulas ------------------------------------------------------------------------------------------------------

function normalized(features: Tensor): Tensor {
  const flat = features.flatten({ startDim: 1 })
  return flat.div(flat.norm(2, [1], { keepdim: true }).clampMin(1e-12))
}

function attentionMap(features: Tensor): Tensor {
  const map = features.square().mean([1], { keepdim: true })
  return normalized(map).reshape(map.shape)
}

/** (H, W) are compared as Python compares tuples; of features of rank 4. */
function aligned(s: Tensor, t: Tensor): [Tensor, Tensor] {
  const [size, teacherSize] = [s.shape.slice(2), t.shape.slice(2)]
  if (String(size) === String(teacherSize)) return [s, t]
  const isSmaller = size[0]! < teacherSize[0]! || (size[0] === teacherSize[0] && size[1]! < teacherSize[1]!)
  return isSmaller ? [s, torch.adaptiveAvgPool2d(t, size)] : [torch.adaptiveAvgPool2d(s, teacherSize), t]
}

function formula(kind: Kind, s: Tensor, t: Tensor): Tensor {
  if (kind === 'attention') {
    const map = attentionMap(t)
    const isResized = String(s.shape.slice(2)) !== String(t.shape.slice(2))
    return torch.mseLoss(
      attentionMap(s),
      isResized ? torch.upsampleBilinear2d(map, s.shape.slice(2), false) : map,
    )
  }
  const [a, b] = aligned(s, t)
  return kind === 'mse' ? torch.mseLoss(a, b) : normalized(a).mul(normalized(b)).sum([1]).rsub(1).mean()
}

function loss(kind: Kind, s: Tensor, t: Tensor): Tensor {
  const logits = zeros([s.size(0), 2])
  const labels = zeros([s.size(0)], { dtype: 'int64' })
  return kind === 'attention'
    ? new AttentionTransfer().forward([s], [t], logits, labels).attention
    : new FeatureDistillationLoss({ criterion: kind }).forward([s], [t], logits, labels).feature
}

// ---- Comparing ---------------------------------------------------------------------------------------------------------

const tolerances: Partial<Record<DType, number>> = {
  float64: 1e-11,
  float32: 1e-5,
  float16: 2e-2, // gradients of a mean come near its smallest numbers
  bfloat16: 3e-2,
}

function expectClose(actual: Tensor, expected: Tensor, tolerance: number, what: string): void {
  expect(actual.shape, what).toEqual(expected.shape)
  const scale = Math.max(expected.abs().max().item(), 1e-30)
  expect(actual.to('float64').sub(expected).abs().max().item() / scale, what).toBeLessThan(tolerance)
}

type Layout = (dense: Tensor) => Tensor
const layouts: Record<string, Layout> = {
  contiguous: x => x.clone(),
  channelsLast: x => (x.ndim === 4 ? x.contiguous({ memoryFormat: 'channelsLast' }) : x.clone()),
  transposed: x => x.transpose(-1, -2).contiguous().transpose(-1, -2),
  'every second of more channels': x => torch.repeatInterleave(x, 2, { dim: 1 }).slice({ dim: 1, step: 2 }),
  'a window of something larger': x => torch.constantPadNd(x, [1, 2]).narrow(-1, 1, x.size(-1)),
}

/** The loss and both gradients, in the layouts of student and teacher. */
function check(kind: Kind, dtype: DType, shapes: [number[], number[]], layout: [Layout, Layout]): void {
  scope(() => {
    const generator = new Generator(5)
    const values = shapes.map(shape => randn(shape, { generator }).to(dtype))
    const leaves = values.map((value, i) => layout[i]!(value).detach())
    const references = values.map(value => value.to('float64').clone())
    for (const each of [...leaves, ...references]) each.requiresGrad = true
    const actual = loss(kind, leaves[0]!, leaves[1]!)
    const expected = formula(kind, references[0]!, references[1]!)
    const tolerance = tolerances[dtype]!
    expect(actual.dtype).toBe(dtype === 'float64' ? 'float64' : 'float32')
    expectClose(actual, expected, tolerance, 'loss')
    actual.backward()
    expected.backward()
    for (const i of [0, 1])
      expectClose(leaves[i]!.grad!, references[i]!.grad!, tolerance, i === 0 ? 'student' : 'teacher')
  })
}

const dtypes = Object.keys(tolerances) as DType[]
/** libtorch 1.13 cannot pool float16 on the CPU, which brings features of different sizes together. */
const alignable = dtypes.filter(dtype => dtype !== 'float16' || !torchVersion.startsWith('1.'))
const odd: [number[], number[]] = [
  [3, 7, 5, 9],
  [3, 7, 5, 9],
]

const shapes: [string, number[], number[]][] = [
  ['a single sample', [1, 5, 7, 3], [1, 5, 7, 3]],
  ['a single channel', [3, 1, 7, 5], [3, 1, 7, 5]],
  ['a single position', [3, 19, 1, 1], [3, 19, 1, 1]],
  ['positions that fill no vector', [2, 33, 1, 3], [2, 33, 1, 3]],
  ['more positions than channels', [2, 3, 33, 35], [2, 3, 33, 35]],
  ['a larger teacher', [3, 6, 4, 5], [3, 6, 9, 7]],
  ['a larger student', [3, 6, 9, 7], [3, 6, 4, 5]],
  ['a wider and lower teacher', [3, 6, 4, 5], [3, 6, 3, 11]],
]

describe.each(kinds)('%s', kind => {
  const pairs = Object.keys(layouts).flatMap(s => Object.keys(layouts).map(t => [s, t] as const))

  test.each(pairs)('student %s, teacher %s: in every dtype as the formula', (student, teacher) => {
    for (const dtype of dtypes) check(kind, dtype, odd, [layouts[student]!, layouts[teacher]!])
  })

  test.each(shapes.filter(([name]) => kind !== 'attention' || name !== 'a single position'))(
    '%s: in every dtype and both memory formats as the formula',
    (_, student, teacher) => {
      for (const dtype of String(student.slice(2)) === String(teacher.slice(2)) ? dtypes : alignable)
        for (const layout of [layouts['contiguous']!, layouts['channelsLast']!])
          check(kind, dtype, [student, teacher], [layout, layout])
    },
  )

  if (kind === 'attention')
    test('features of a single position have equal maps, and no loss', () => {
      const [s, t] = [randn([3, 19, 1, 1]), randn([3, 7, 1, 1])]
      expect(loss(kind, s, t).item()).toBeLessThan(1e-12)
    })

  test('sequences (N, C, L) are taken as well', () => {
    const shape = [3, 5, 11]
    for (const dtype of dtypes)
      check(kind, dtype, [shape, shape], [layouts['contiguous']!, layouts['transposed']!])
  })

  test('an empty batch has no loss, and an empty gradient', () => {
    for (const shape of [
      [0, 4, 3, 3],
      [0, 4, 5, 6],
    ]) {
      const [s, t] = [zeros([0, 4, 3, 3]), zeros(shape)]
      s.requiresGrad = true
      const value = loss(kind, s, t)
      expect(value.item()).toBeNaN() // as the mean over nothing is in PyTorch
      value.backward()
      expect(s.grad!.shape).toEqual([0, 4, 3, 3])
    }
  })

  test('several levels of other dtypes and layouts give the mean of their losses', () => {
    scope(() => {
      const generator = new Generator(9)
      const students = [randn([2, 3, 5, 5], { generator }), randn([2, 4, 3, 3], { generator }).to('bfloat16')]
      const teachers = [randn([2, 3, 5, 5], { generator }).to('float64'), randn([2, 4, 3, 3], { generator })]
      const logits = zeros([2, 2])
      const labels = zeros([2], { dtype: 'int64' })
      const criterion =
        kind === 'attention' ? new AttentionTransfer() : new FeatureDistillationLoss({ criterion: kind })
      const parts = criterion.forward(students, teachers, logits, labels) as unknown as Record<string, Tensor>
      const mean = students
        .map((student, i) => formula(kind, student.to('float64'), teachers[i]!.to('float64')).item())
        .reduce((sum, each) => sum + each / students.length, 0)
      expect((parts['feature'] ?? parts['attention']!).item()).toBeCloseTo(mean, 2)
    })
  })
})
