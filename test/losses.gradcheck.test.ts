/** The losses' own backward against central finite differences of their own forward, in float64. */
import { beforeAll, describe, expect, test } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  Generator,
  fromTypedArray,
  noGrad,
  scope,
  tensor,
  torch,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'

// Thousands of tiny forwards: threads would only wait for each other.
beforeAll(() => {
  native.setNumThreads(1)
})

interface Loss {
  forward(students: Tensor[], teachers: Tensor[], logits: Tensor, labels: Tensor): { total: Tensor }
}

type Level = [student: number[], teacher: number[]]

const losses: [name: string, make: (weights?: number[]) => Loss][] = [
  ['mse', weights => new FeatureDistillationLoss({ alpha: 0.7, criterion: 'mse', weights })],
  ['cosine', weights => new FeatureDistillationLoss({ alpha: 0.7, criterion: 'cosine', weights })],
  ['attention', weights => new AttentionTransfer({ alpha: 0.7, weights })],
  ['pooled attention', weights => new AttentionTransfer({ alpha: 0.7, pool: true, weights })],
]

const levels: [name: string, levels: Level[]][] = [
  [
    'same sizes',
    [
      [
        [2, 3, 3, 4],
        [2, 3, 3, 4],
      ],
    ],
  ],
  [
    'teacher larger',
    [
      [
        [2, 2, 2, 3],
        [2, 2, 5, 4],
      ],
    ],
  ],
  [
    'student larger',
    [
      [
        [2, 2, 5, 5],
        [2, 2, 3, 2],
      ],
    ],
  ],
  [
    'several levels with weights',
    [
      [
        [2, 2, 4, 4],
        [2, 2, 4, 4],
      ],
      [
        [2, 3, 3, 3],
        [2, 3, 4, 4],
      ],
    ],
  ],
]

const vectors: [name: string, levels: Level[]][] = [
  [
    '2-D features',
    [
      [
        [3, 5],
        [3, 5],
      ],
    ],
  ],
  [
    '3-D features',
    [
      [
        [2, 3, 4],
        [2, 3, 4],
      ],
    ],
  ],
]

/** Far enough from the forward's rounding, near enough for its curvature: errors of 1e-10 of the loss. */
const step = 1e-5

function analyticGradients(run: (inputs: Tensor[]) => Tensor, inputs: Tensor[]): Float64Array[] {
  return scope(() => {
    const leaves = inputs.map(each => {
      const copy = each.clone()
      copy.requiresGrad = true
      return copy
    })
    run(leaves).backward()
    return leaves.map(
      each => (each.grad?.toTypedArray() as Float64Array | undefined) ?? new Float64Array(each.numel()),
    )
  })
}

function valueAt(
  run: (inputs: Tensor[]) => Tensor,
  inputs: Tensor[],
  which: number,
  position: number,
  by: number,
) {
  return scope(() => {
    const moved = inputs[which]!.toTypedArray() as Float64Array
    moved[position]! += by
    const replaced = fromTypedArray(moved, inputs[which]!.shape)
    return noGrad(() => run(inputs.map((each, i) => (i === which ? replaced : each))).item())
  })
}

function expectGradientsOfDifferences(run: (inputs: Tensor[]) => Tensor, inputs: Tensor[]): void {
  const analytic = analyticGradients(run, inputs)
  inputs.forEach((input, which) => {
    for (let i = 0; i < input.numel(); i++) {
      const numeric =
        (valueAt(run, inputs, which, i, step) - valueAt(run, inputs, which, i, -step)) / (2 * step)
      const got = analytic[which]![i]!
      if (!(Math.abs(got - numeric) <= 1e-8 + 1e-6 * Math.abs(numeric)))
        expect.fail(`input ${which}, element ${i}: backward gives ${got}, differences ${numeric}`)
    }
  })
}

function check(make: (weights?: number[]) => Loss, shapes: Level[]): void {
  const generator = new Generator(7)
  const random = (shape: number[]) => torch.randn(shape, { generator, dtype: 'float64' })
  const students = shapes.map(([student]) => random(student))
  const teachers = shapes.map(([, teacher]) => random(teacher))
  const batch = shapes[0]![0][0]!
  const logits = random([batch, 4])
  const labels = tensor(
    Array.from({ length: batch }, (_, i) => (i * 3) % 4),
    { dtype: 'int64' },
  )
  const loss = make(shapes.length > 1 ? [0.25, 1.5] : undefined)
  const count = shapes.length
  expectGradientsOfDifferences(
    inputs =>
      loss.forward(inputs.slice(0, count), inputs.slice(count, 2 * count), inputs[2 * count]!, labels).total,
    [...students, ...teachers, logits],
  )
}

describe.each(losses)('%s', (name, make) => {
  test.each(levels)('%s: gradients are those of finite differences', (_, shapes) => {
    check(make, shapes)
  })

  if (name === 'mse' || name === 'cosine')
    test.each(vectors)('%s: gradients are those of finite differences', (_, shapes) => {
      check(make, shapes)
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
  expect(() =>
    check(
      () => wrong,
      [
        [
          [1, 2],
          [1, 2],
        ],
      ],
    ),
  ).toThrow(/element 0: backward gives/)
})
