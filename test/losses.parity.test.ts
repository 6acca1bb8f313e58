/** Loss parts and every gradient against plain PyTorch in float64; `reference/losses.py` made the values. */
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  Generator,
  scope,
  torch,
  type DType,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { fromTypedArray, randn, tensor, zeros } from './device.js'

interface StoredTensor {
  shape: number[]
  values: number[]
}

/** null where a part does not depend on the input. */
interface Gradients {
  studentFeatures: (StoredTensor | null)[]
  teacherFeatures: (StoredTensor | null)[]
  logits: StoredTensor | null
}

interface Case {
  name: string
  kind: 'mse' | 'cosine' | 'attention' | 'pooled attention'
  alpha: number
  weights: number[] | null
  /** Whether the case makes sense with fewer digits. */
  lowPrecision: boolean
  studentFeatures: StoredTensor[]
  teacherFeatures: StoredTensor[]
  logits: StoredTensor
  labels: number[]
  expected: { total: number; distillation: number; classification: number }
  /** Of the total. */
  gradients: Gradients
  partGradients?: { distillation: Gradients; classification: Gradients }
  attentionMaps?: StoredTensor[]
}

const { cases } = JSON.parse(readFileSync(new URL('reference/losses.json', import.meta.url), 'utf8')) as {
  cases: Case[]
}

// ---- Running a case ------------------------------------------------------------------------------------------------

interface Inputs {
  studentFeatures: Tensor[]
  teacherFeatures: Tensor[]
  logits: Tensor
  labels: Tensor
}

function leaf({ shape, values }: StoredTensor, dtype: DType): Tensor {
  return fromTypedArray(Float64Array.from(values), shape, { dtype, requiresGrad: true })
}

function inputsOf(sample: Case, dtype: DType): Inputs {
  return {
    studentFeatures: sample.studentFeatures.map(each => leaf(each, dtype)),
    teacherFeatures: sample.teacherFeatures.map(each => leaf(each, dtype)),
    logits: leaf(sample.logits, dtype),
    labels: tensor(sample.labels, { dtype: 'int64' }),
  }
}

interface Parts {
  total: Tensor
  distillation: Tensor
  classification: Tensor
}

function lossOf({ kind, alpha, weights }: Case, inputs: Inputs): Parts {
  const { studentFeatures, teacherFeatures, logits, labels } = inputs
  const options = { alpha, weights: weights ?? undefined }
  if (kind === 'mse' || kind === 'cosine') {
    const loss = new FeatureDistillationLoss({ ...options, criterion: kind })
    const { feature, ...parts } = loss.forward(studentFeatures, teacherFeatures, logits, labels)
    return { ...parts, distillation: feature }
  }
  const loss = new AttentionTransfer({ ...options, pool: kind === 'pooled attention' })
  const { attention, ...parts } = loss.forward(studentFeatures, teacherFeatures, logits, labels)
  return { ...parts, distillation: attention }
}

// ---- Comparing -----------------------------------------------------------------------------------------------------

/**
 * How far a value may be off, relative to the largest expected one of the same sample: gradients of samples with a norm
 * under eps are 1e12 times those of their neighbours. `floor` is what rounding leaves where nothing should be left.
 */
interface Tolerance {
  relative: number
  floor: number
}

const tolerances: Partial<Record<DType, Tolerance>> = {
  float64: { relative: 1e-10, floor: 1e-14 },
  float32: { relative: 1e-4, floor: 1e-6 },
  bfloat16: { relative: 3e-2, floor: 1e-2 },
}

function expectNear(
  actual: number,
  expected: number,
  scale: number,
  tolerance: Tolerance,
  where: string,
): void {
  const allowed = tolerance.relative * scale + tolerance.floor
  if (!(Math.abs(actual - expected) <= allowed))
    expect.fail(`${where}: expected ${expected} within ${allowed}, got ${actual}`)
}

function expectTensor(
  actual: Tensor | null,
  expected: StoredTensor,
  tolerance: Tolerance,
  where: string,
): void {
  expect(actual, where).not.toBeNull()
  expect(actual!.shape, where).toEqual(expected.shape)
  const values = actual!.to('float64').toTypedArray() as Float64Array
  const perSample = expected.values.length / expected.shape[0]!
  expected.values.forEach((value, i) => {
    const start = Math.floor(i / perSample) * perSample
    const scale = Math.max(...expected.values.slice(start, start + perSample).map(Math.abs))
    expectNear(values[i]!, value, scale, tolerance, `${where}[${i}]`)
  })
}

function expectGradient(
  input: Tensor,
  expected: StoredTensor | null,
  tolerance: Tolerance,
  where: string,
): void {
  const zero = { shape: input.shape, values: Array<number>(input.numel()).fill(0) }
  // An input that a part does not depend on has no gradient, or one of zeros: both are right.
  if (expected === null && input.grad === null) return
  expectTensor(input.grad, expected ?? zero, tolerance, where)
}

function expectGradients(inputs: Inputs, expected: Gradients, dtype: DType, part: string): void {
  const tolerance = tolerances[dtype]!
  for (const group of ['studentFeatures', 'teacherFeatures'] as const)
    inputs[group].forEach((input, i) => {
      expectGradient(input, expected[group][i]!, tolerance, `gradient of ${part} by ${group}[${i}]`)
    })
  expectGradient(inputs.logits, expected.logits, tolerance, `gradient of ${part} by logits`)
}

function expectValues(parts: Parts, expected: Case['expected'], dtype: DType): void {
  for (const part of ['total', 'distillation', 'classification'] as const) {
    expect(parts[part].shape, part).toEqual([])
    expectNear(parts[part].item(), expected[part], Math.abs(expected[part]), tolerances[dtype]!, part)
  }
}

function named(samples: Case[]): [name: string, sample: Case][] {
  return samples.map(sample => [sample.name, sample])
}

// ---- Tests -----------------------------------------------------------------------------------------------------------

const threads = native.numThreads()

// On tiny tensors threads would only wait for each other.
beforeAll(() => {
  native.setNumThreads(1)
})

describe.each(['float64', 'float32', 'bfloat16'] as const)('in %s', dtype => {
  const suitable = cases.filter(sample => sample.lowPrecision || dtype === 'float64')

  test.each(named(suitable))('%s: parts and gradients are those of the formulas', (_, sample) => {
    scope(() => {
      const inputs = inputsOf(sample, dtype)
      const parts = lossOf(sample, inputs)
      expectValues(parts, sample.expected, dtype)
      parts.total.backward()
      expectGradients(inputs, sample.gradients, dtype, 'total')
    })
  })

  const withParts = suitable.filter(sample => sample.partGradients !== undefined)
  test.each(named(withParts))('%s: each part can be differentiated by itself', (_, sample) => {
    for (const part of ['distillation', 'classification'] as const)
      scope(() => {
        const inputs = inputsOf(sample, dtype)
        lossOf(sample, inputs)[part].backward()
        expectGradients(inputs, sample.partGradients![part], dtype, part)
      })
  })
})

const withMaps = cases.filter(sample => sample.attentionMaps !== undefined)
test.each(named(withMaps))(
  '%s: attention maps have shape (N, 1, H, W) and are those of the formula',
  (_, sample) => {
    scope(() => {
      const loss = new AttentionTransfer()
      sample.studentFeatures.forEach((features, i) => {
        const map = loss.attentionMap(leaf(features, 'float64'))
        expectTensor(map, sample.attentionMaps![i]!, tolerances.float64!, `map ${i}`)
      })
    })
  },
)

test('without options, alpha is 0.5 and the criterion mse', () => {
  const sample = cases.find(each => each.name === 'mse: several levels')!
  const inputs = inputsOf(sample, 'float64')
  const { total } = new FeatureDistillationLoss().forward(
    inputs.studentFeatures,
    inputs.teacherFeatures,
    inputs.logits,
    inputs.labels,
  )
  expect(total.item()).toBeCloseTo(sample.expected.total, 12)
})

test('teacher features without gradient leave the student gradients as they are', () => {
  for (const sample of cases.filter(each => each.name.endsWith('teacher larger'))) {
    const inputs = inputsOf(sample, 'float64')
    for (const features of inputs.teacherFeatures) features.requiresGrad = false
    lossOf(sample, inputs).total.backward()
    inputs.studentFeatures.forEach((input, i) => {
      expectGradient(
        input,
        sample.gradients.studentFeatures[i]!,
        tolerances.float64!,
        `${sample.name} [${i}]`,
      )
    })
    expect(inputs.teacherFeatures.map(each => each.grad)).toEqual([null])
  }
})

test('features in channels-last memory format give the same losses and gradients', () => {
  for (const sample of cases.filter(each => each.name.endsWith('several levels'))) {
    const inputs = inputsOf(sample, 'float64')
    const ordered = (features: Tensor[]) =>
      features.map(each => each.contiguous({ memoryFormat: 'channelsLast' }))
    const parts = lossOf(sample, {
      ...inputs,
      studentFeatures: ordered(inputs.studentFeatures),
      teacherFeatures: ordered(inputs.teacherFeatures),
    })
    expectValues(parts, sample.expected, 'float64')
    parts.total.backward()
    expectGradients(inputs, sample.gradients, 'float64', sample.name)
  }
})

test('features that are transposed views give the same losses and gradients', () => {
  for (const sample of cases.filter(each => /^\w+: same sizes$/.test(each.name))) {
    const inputs = inputsOf(sample, 'float64')
    const view = (features: Tensor[]) =>
      features.map(each => each.transpose(2, 3).contiguous().transpose(2, 3))
    const parts = lossOf(sample, {
      ...inputs,
      studentFeatures: view(inputs.studentFeatures),
      teacherFeatures: view(inputs.teacherFeatures),
    })
    expectValues(parts, sample.expected, 'float64')
    parts.total.backward()
    expectGradients(inputs, sample.gradients, 'float64', sample.name)
  }
})

describe('features large enough for several threads and vector instructions', () => {
  beforeAll(() => {
    native.setNumThreads(Math.max(2, threads))
  })

  // Odd sizes: no loop ends with a full vector.
  const student = [5, 67, 29, 31]
  const layouts = ['contiguous', 'channelsLast'] as const

  /** The formulas in ATen's operators, which the small cases above hold to Python's. */
  const formulas: Record<'mse' | 'cosine' | 'attention', (s: Tensor, t: Tensor) => Tensor> = {
    mse: (s, t) => torch.mseLoss(s, t),
    cosine: (s, t) => {
      const flatten = (features: Tensor) => features.reshape([features.size(0), -1])
      return torch.cosineSimilarity(flatten(s), flatten(t), { eps: 1e-12 }).rsub(1).mean()
    },
    attention: (s, t) => {
      const map = (features: Tensor) => {
        const flat = features
          .square()
          .mean([1])
          .reshape([features.size(0), -1])
        return flat.div(flat.norm(2, [1], { keepdim: true }))
      }
      return torch.mseLoss(map(s), map(t))
    },
  }

  function run(kind: keyof typeof formulas, s: Tensor, t: Tensor): Tensor {
    const logits = zeros([student[0]!, 2])
    const labels = zeros([student[0]!], { dtype: 'int64' })
    if (kind === 'attention') return new AttentionTransfer().forward([s], [t], logits, labels).attention
    return new FeatureDistillationLoss({ criterion: kind }).forward([s], [t], logits, labels).feature
  }

  function expectClose(actual: Tensor, expected: Tensor, tolerance: number, where: string): void {
    const scale = expected.abs().max().item()
    const difference = actual.to('float64').sub(expected).abs().max().item()
    expect(difference / scale, where).toBeLessThan(tolerance)
  }

  describe.each(Object.keys(formulas) as (keyof typeof formulas)[])('%s', kind => {
    test.each(
      layouts.flatMap(layout =>
        (['float64', 'float32', 'bfloat16'] as const).map(dtype => [layout, dtype] as const),
      ),
    )('%s, %s: the loss and its gradients are those of the formula', (memoryFormat, dtype) => {
      scope(() => {
        const generator = new Generator(3)
        const values = [0, 1].map(() => randn(student, { generator }).to(dtype))
        const leaves = values.map(each => {
          const features = each.clone().contiguous({ memoryFormat })
          features.requiresGrad = true
          return features
        })
        const references = values.map(each => {
          const features = each.to('float64')
          features.requiresGrad = true
          return features
        })
        const loss = run(kind, leaves[0]!, leaves[1]!)
        const expected = formulas[kind](references[0]!, references[1]!)
        const tolerance = { float64: 1e-10, float32: 1e-5, bfloat16: 1e-2 }[dtype]
        expectClose(loss, expected, tolerance, 'loss')
        loss.backward()
        expected.backward()
        leaves.forEach((leaf, i) => {
          expectClose(
            leaf.grad!,
            references[i]!.grad!,
            tolerance,
            i === 0 ? 'student gradient' : 'teacher gradient',
          )
          expect(leaf.grad!.isContiguous({ memoryFormat })).toBe(true)
        })
      })
    })
  })
})
