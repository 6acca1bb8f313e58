/** Scaled losses, as float16 needs them; here in float32, where the scale changes nothing but what is not finite. */
import { expect, it } from 'vitest'
import { nn, tensor, trainClassifier, type Tensor } from '../lib/index.js'
import { LossScale } from '../lib/distill/loss-scale.js'
import { codeOfAsync } from './codes.js'

const parameter = () => new nn.Parameter(tensor([1, -2, 3]))

/** The gradients of a loss with this factor. */
function step(scale: LossScale, weight: Tensor, factor: number): boolean {
  weight.grad = null
  scale.backward(weight.mul(weight).sum().mul(factor), [weight])
  return scale.endsStep()
}

it('leaves the gradients of the loss itself', () => {
  const weight = parameter()
  expect(step(new LossScale(), weight, 0.5)).toBe(true)
  expect(weight.grad!.tolist()).toEqual([1, -2, 3])
})

it('leaves a step out whose gradients are not finite, and halves the scale', () => {
  const scale = new LossScale()
  const before = scale.stateDict().scale
  expect(step(scale, parameter(), 1e35)).toBe(false)
  expect(scale.stateDict()).toEqual({ scale: before / 2, steps: 0 })
  expect(step(scale, parameter(), 1)).toBe(true)
})

it('doubles the scale after 2,000 steps in a row, also where its state was kept in between', () => {
  let scale = new LossScale()
  const before = scale.stateDict().scale
  scale.loadStateDict({ scale: before, steps: 1998 })
  const weight = parameter()
  expect(step(scale, weight, 1)).toBe(true)
  expect(scale.stateDict().scale).toBe(before)
  const kept = scale.stateDict()
  scale = new LossScale()
  scale.loadStateDict(kept)
  expect(step(scale, weight, 1)).toBe(true)
  expect(scale.stateDict()).toEqual({ scale: 2 * before, steps: 0 })
})

it('is refused on the CPU, which has no float16', async () => {
  const batches = [{ data: tensor([[1, 2]]), labels: tensor([0n]) }]
  const code = await codeOfAsync(() =>
    trainClassifier(new nn.Linear(2, 2), batches, null, { epochs: 1, log: null, precision: 'float16' }),
  )
  expect(code).toBe('ERR_DEVICE')
})
