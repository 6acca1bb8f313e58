/** Functions and loss modules against PyTorch in float64, and their checks. */
import { describe, expect, test } from 'vitest'
import { nn, torch, type Tensor } from '../lib/index.js'
import { randn, tensor, zeros } from './device.js'
import { errorOf, expectClose, int64, pattern, reference, type FunctionCase } from './nn.fixtures.js'

const { functional } = nn

function makeInput(spec: FunctionCase['inputs'][number], seed: number): Tensor {
  if (Array.isArray(spec)) return pattern(spec, seed)
  return 'probabilities' in spec
    ? torch.softmax(pattern(spec.probabilities, seed), 1)
    : torch.logSoftmax(pattern(spec.logProbabilities, seed), 1)
}

function makeArguments({ inputs, labels, args, options, gradients }: FunctionCase) {
  const tensors = inputs.map((spec, i) => makeInput(spec, 1 + i))
  const leaves = tensors.slice(0, gradients.length)
  for (const leaf of leaves) leaf.requiresGrad = true
  const { weight, ...others } = options
  const given = weight ? { ...others, weight: tensor(weight as number[], { dtype: 'float64' }) } : others
  const positional = [...tensors, ...(labels === null ? [] : [int64(labels)]), ...args]
  return { leaves, positional, options: given }
}

function expectGradients(y: Tensor, leaves: Tensor[], { gradients }: FunctionCase): void {
  y.backward({ gradient: pattern(y.shape, 50) })
  gradients.forEach((gradient, i) => expectClose(leaves[i]!.grad, gradient, `gradient of input ${i}`))
}

function title({ function: name, inputs, args, options }: FunctionCase): string {
  return `${name}(${[...inputs, ...args, options].map(each => JSON.stringify(each)).join(', ')})`
}

describe('functions compute what PyTorch computes', () => {
  test.each(reference.functions.map(each => [title(each), each] as const))('%s', (_, expected) => {
    const { leaves, positional, options } = makeArguments(expected)
    const run = (functional as unknown as Record<string, (...args: unknown[]) => Tensor>)[expected.function]!
    const y = run(...positional, ...(Object.keys(options).length > 0 ? [options] : []))
    expectClose(y, expected.output, 'output')
    expectGradients(y, leaves, expected)
  })
})

describe('loss modules compute what the functions compute', () => {
  const modules: Record<string, new (options?: object) => nn.Module<Tensor[], Tensor>> = {
    crossEntropy: nn.CrossEntropyLoss,
    mseLoss: nn.MSELoss,
    klDiv: nn.KLDivLoss,
  }
  const cases = reference.functions.filter(each => each.function in modules)
  test.each(cases.map(each => [title(each), each] as const))('%s', (_, expected) => {
    const { leaves, positional, options } = makeArguments(expected)
    const loss = new modules[expected.function]!(options)
    const y = loss.forward(...(positional as Tensor[]))
    expectClose(y, expected.output, 'output')
    expectGradients(y, leaves, expected)
  })
})

test('the class weights of CrossEntropyLoss belong to its state and move with it', () => {
  const loss = new nn.CrossEntropyLoss({ weight: tensor([1, 2, 3]) })
  expect(Object.keys(loss.stateDict())).toEqual(['weight'])
  expect(loss.to('float64').weight!.dtype).toBe('float64')
  expect(Object.keys(new nn.CrossEntropyLoss().stateDict())).toEqual([])
})

describe('crossEntropy checks its labels', () => {
  const logits = randn([4, 10])

  test('a label that is no class is named with its index and the number of classes', () => {
    const error = errorOf(() => functional.crossEntropy(logits, int64([1, 2, 10, 3])))
    expect(error.code).toBe('ERR_LABEL_RANGE')
    expect(error.message).toBe('crossEntropy: labels[2]: expected a class from 0 to 9 (10 classes), got 10')
    expect(errorOf(() => functional.crossEntropy(logits, int64([1, -1, 10, 3]))).message).toContain(
      'labels[1]',
    )
  })

  test('the index of a pixel has a number per dimension', () => {
    const labels = int64([
      [
        [0, 1],
        [2, 5],
      ],
    ])
    const error = errorOf(() => functional.crossEntropy(randn([1, 3, 2, 2]), labels))
    expect(error.message).toContain('labels[0, 1, 1]: expected a class from 0 to 2 (3 classes), got 5')
  })

  test('the ignored label may lie anywhere', () => {
    expect(functional.crossEntropy(logits, int64([1, -100, 0, 3])).item()).toBeGreaterThan(0)
    const options = { ignoreIndex: 255 }
    expect(functional.crossEntropy(logits, int64([1, 255, 0, 3]), options).item()).toBeGreaterThan(0)
    expect(errorOf(() => functional.crossEntropy(logits, int64([1, -100, 0, 3]), options)).code).toBe(
      'ERR_LABEL_RANGE',
    )
  })

  test('labels in a view with gaps are read right', () => {
    const labels = int64([
      [1, 99],
      [2, 99],
      [3, 99],
      [0, 99],
    ]).select(1, 0)
    expect(functional.crossEntropy(logits, labels).item()).toBeGreaterThan(0)
  })

  test('labels are int64, of the logits shape without the classes', () => {
    const asFloat = errorOf(() => functional.crossEntropy(logits, tensor([1, 2, 3, 4])))
    expect([asFloat.code, asFloat.message]).toEqual([
      'ERR_DTYPE',
      "crossEntropy: labels: expected int64 classes, got float32 (4); convert them with labels.to('int64')",
    ])
    expect(errorOf(() => functional.crossEntropy(logits, int64([1, 2]))).code).toBe('ERR_SHAPE_MISMATCH')
    expect(errorOf(() => functional.crossEntropy(logits, zeros([4, 9]))).code).toBe('ERR_DTYPE')
  })

  test('labels on the meta device are not read', () => {
    const loss = functional.crossEntropy(logits.to('meta'), zeros([4], { dtype: 'int64', device: 'meta' }))
    expect(loss.shape).toEqual([])
  })
})

test('losses do not broadcast', () => {
  expect(errorOf(() => functional.mseLoss(randn([3, 4]), randn([3, 1]))).code).toBe('ERR_SHAPE_MISMATCH')
  const { message } = errorOf(() => functional.klDiv(randn([3, 4]), randn([4])))
  expect(message).toBe("klDiv: expected a target with the input's shape (3, 4), got (4)")
})

test('an unknown reduction is refused', () => {
  const options = { reduction: 'avg' as 'mean' }
  expect(errorOf(() => functional.mseLoss(randn([3]), randn([3]), options)).code).toBe('ERR_ARGUMENT')
})

describe('interpolate checks its options', () => {
  const x = randn([1, 2, 4, 4])
  test.each([
    ['neither size nor scaleFactor', {}, 'ERR_ARGUMENT'],
    ['both size and scaleFactor', { size: 2, scaleFactor: 2 }, 'ERR_ARGUMENT'],
    ['an unknown mode', { size: 2, mode: 'cubic' }, 'ERR_ARGUMENT'],
    ['alignCorners without interpolation', { size: 2, alignCorners: true }, 'ERR_ARGUMENT'],
    ['antialias where there is no filter', { size: 2, antialias: true }, 'ERR_ARGUMENT'],
    ['sizes for other dimensions', { size: [2, 2, 2] }, 'ERR_ARGUMENT'],
    ['a mode for another rank', { size: 2, mode: 'linear' }, 'ERR_SHAPE_MISMATCH'],
  ])('%s', (_, options, code) => {
    expect(errorOf(() => functional.interpolate(x, options as nn.functional.InterpolateOptions)).code).toBe(
      code,
    )
  })
})

test('dropout of functional is off outside of training', () => {
  const x = randn([5, 5])
  expect(functional.dropout(x, { p: 0.9, training: false }).tolist()).toEqual(x.tolist())
  expect(functional.dropout(x, { p: 1 }).abs().sum().item()).toBe(0)
})
