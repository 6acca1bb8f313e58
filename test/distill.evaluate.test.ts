/** Labels that are no classes of the logits: an accuracy of them would be a number without a meaning. */
import { expect, it } from 'vitest'
import { evaluate, nn, randn, tensor, type Tensor } from '../lib/index.js'
import { codeOfAsync } from './codes.js'

const codeFor = (labels: Tensor) =>
  codeOfAsync(() => evaluate(new nn.Linear(4, 2), [{ data: randn([3, 4]), labels }]))

it.each<[string, () => Tensor, string]>([
  ['of shape (N, 1)', () => tensor([[0n], [1n], [1n]]), 'ERR_SHAPE_MISMATCH'],
  ['too few', () => tensor([0n]), 'ERR_SHAPE_MISMATCH'],
  ['out of range', () => tensor([0n, 7n, 1n]), 'ERR_LABEL_RANGE'],
  ['negative', () => tensor([0n, -5n, 1n]), 'ERR_LABEL_RANGE'],
  ['of another dtype', () => tensor([0.4, 1, 1]), 'ERR_DTYPE'],
  ['that are classes, or ignored', () => tensor([0n, -100n, 1n]), 'no error'],
])('labels %s', async (_, labels, code) => {
  expect(await codeFor(labels())).toBe(code)
})
