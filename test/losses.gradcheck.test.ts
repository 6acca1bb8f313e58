/** The losses' own backward against central finite differences of their own forward, in float64. */
import { beforeAll, describe, expect, test } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  Generator,
  enableGrad,
  grad,
  noGrad,
  scope,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { fromTypedArray, randn, tensor } from './device.js'

// Thousands of tiny forwards: threads would only wait for each other.
beforeAll(() => {
  native.setNumThreads(1)
})

interface Loss {
  forward(students: Tensor[], teachers: Tensor[], logits: Tensor, labels: Tensor): { total: Tensor }
}

interface Level {
  student: number[]
  teacher: number[]
}

const losses: [name: string, make: (weights?: number[]) => Loss][] = [
  ['mse', weights => new FeatureDistillationLoss({ alpha: 0.7, criterion: 'mse', weights })],
  ['cosine', weights => new FeatureDistillationLoss({ alpha: 0.7, criterion: 'cosine', weights })],
  ['attention', weights => new AttentionTransfer({ alpha: 0.7, weights })],
  ['pooled attention', weights => new AttentionTransfer({ alpha: 0.7, pool: true, weights })],
]

const maps: [name: string, levels: Level[]][] = [
  ['same sizes', [{ student: [2, 3, 3, 4], teacher: [2, 3, 3, 4] }]],
  ['teacher larger', [{ student: [2, 2, 2, 3], teacher: [2, 2, 5, 4] }]],
  ['student larger', [{ student: [2, 2, 5, 5], teacher: [2, 2, 3, 2] }]],
  [
    'several levels with weights',
    [
      { student: [2, 2, 4, 4], teacher: [2, 2, 4, 4] },
      { student: [2, 3, 3, 3], teacher: [2, 3, 4, 4] },
    ],
  ],
]

const vectors: [name: string, levels: Level[]][] = [
  ['2-D features', [{ student: [3, 5], teacher: [3, 5] }]],
  ['3-D features', [{ student: [2, 3, 4], teacher: [2, 3, 4] }]],
]

// ---- Finite differences ----------------------------------------------------------------------------------------------

type Scalar = (inputs: Tensor[]) => Tensor

/** Far enough from the forward's rounding, near enough for its curvature: errors of 1e-10 of the loss. */
const step = 1e-5

function asLeaf(input: Tensor): Tensor {
  const leaf = input.clone().detach()
  leaf.requiresGrad = true
  return leaf
}

function analyticGradients(run: Scalar, inputs: Tensor[]): Float64Array[] {
  return scope(() => {
    const leaves = inputs.map(asLeaf)
    run(leaves).backward()
    return leaves.map(
      each => (each.grad?.toTypedArray() as Float64Array | undefined) ?? new Float64Array(each.numel()),
    )
  })
}

/** The value where one element of one input is moved. */
function valueAt(run: Scalar, inputs: Tensor[], which: number, position: number, by: number): number {
  return scope(() => {
    const moved = inputs[which]!.toTypedArray() as Float64Array
    moved[position]! += by
    const replaced = fromTypedArray(moved, inputs[which]!.shape)
    return noGrad(() => run(inputs.map((each, i) => (i === which ? replaced : each))).item())
  })
}

function expectGradientsOfDifferences(run: Scalar, inputs: Tensor[]): void {
  const analytic = analyticGradients(run, inputs)
  inputs.forEach((input, which) => {
    for (let i = 0; i < input.numel(); i++) {
      const change = valueAt(run, inputs, which, i, step) - valueAt(run, inputs, which, i, -step)
      const numeric = change / (2 * step)
      const got = analytic[which]![i]!
      if (!(Math.abs(got - numeric) <= 1e-8 + 1e-6 * Math.abs(numeric)))
        expect.fail(`input ${which}, element ${i}: backward gives ${got}, differences ${numeric}`)
    }
  })
}

// ---- The losses as functions of all their inputs ---------------------------------------------------------------------

function random(generator: Generator, shape: number[]): Tensor {
  return randn(shape, { generator, dtype: 'float64' })
}

function inputsFor(levels: Level[]): Tensor[] {
  const generator = new Generator(7)
  return [
    ...levels.map(({ student }) => random(generator, student)),
    ...levels.map(({ teacher }) => random(generator, teacher)),
    random(generator, [levels[0]!.student[0]!, 4]),
  ]
}

function totalOf(loss: Loss, levels: Level[]): Scalar {
  const batch = levels[0]!.student[0]!
  const labels = tensor(
    Array.from({ length: batch }, (_, i) => (i * 3) % 4),
    { dtype: 'int64' },
  )
  return inputs => {
    const students = inputs.slice(0, levels.length)
    const teachers = inputs.slice(levels.length, 2 * levels.length)
    return loss.forward(students, teachers, inputs[2 * levels.length]!, labels).total
  }
}

/** The gradient of `run` projected on a fixed direction: its gradient is one of second order. */
function projectedGradient(run: Scalar, inputs: Tensor[]): Scalar {
  const generator = new Generator(11)
  const directions = inputs.map(each => random(generator, each.shape))
  return points =>
    enableGrad(() => {
      const leaves = points.map(each => (each.requiresGrad ? each : asLeaf(each)))
      const gradients = grad(run(leaves), leaves, { createGraph: true })
      return gradients.map((each, i) => each.mul(directions[i]!).sum()).reduce((sum, each) => sum.add(each))
    })
}

function checkFirstOrder(loss: Loss, levels: Level[]): void {
  expectGradientsOfDifferences(totalOf(loss, levels), inputsFor(levels))
}

function checkSecondOrder(loss: Loss, levels: Level[]): void {
  const inputs = inputsFor(levels)
  expectGradientsOfDifferences(projectedGradient(totalOf(loss, levels), inputs), inputs)
}

function weightsFor(levels: Level[]): number[] | undefined {
  return levels.length > 1 ? [0.25, 1.5] : undefined
}

// ---- Tests -----------------------------------------------------------------------------------------------------------

describe.each(losses)('%s', (name, make) => {
  const shapes = name === 'mse' || name === 'cosine' ? [...maps, ...vectors] : maps

  test.each(shapes)('%s: gradients are those of finite differences', (_, levels) => {
    checkFirstOrder(make(weightsFor(levels)), levels)
  })

  test.each(shapes)('%s: gradients can themselves be differentiated', (_, levels) => {
    checkSecondOrder(make(weightsFor(levels)), levels)
  })
})

test('the check notices a wrong gradient', () => {
  const wrong: Loss = {
    // The value of the sum of squares with the gradient of twice that.
    forward: ([student]) => {
      const squares = student!.square().sum()
      return { total: squares.mul(2).sub(squares.detach()) }
    },
  }
  expect(() => {
    checkFirstOrder(wrong, [{ student: [1, 2], teacher: [1, 2] }])
  }).toThrow(/element 0: backward gives/)
})
