import { describe, expect, it } from 'vitest'
import { assess, evaluate, nn, randint, randn, tensor, type Tensor } from '../lib/index.js'
import { codeOfAsync } from './codes.js'

/** Gives its input. */
class Given extends nn.Module<[Tensor], Tensor> {
  override forward(x: Tensor): Tensor {
    return x
  }
}

const batchOf = (logits: number[][], labels: bigint[]) => [{ data: tensor(logits), labels: tensor(labels) }]

describe('assess', () => {
  it('counts the label among the five largest', async () => {
    const logits = [
      [6, 5, 4, 3, 2, 1],
      [6, 5, 4, 3, 2, 1],
      [6, 5, 4, 3, 2, 1],
      [1, 2, 3, 4, 5, 6],
    ]
    const { samples, top1, top5 } = await assess(new Given(), batchOf(logits, [0n, 4n, 5n, 5n]))
    expect([samples, top1, top5]).toEqual([4, 50, 75])
  })

  it('takes fewer than five classes', async () => {
    const { top5 } = await assess(new Given(), batchOf([[1, 0], [0, 1]], [1n, 1n])) // prettier-ignore
    expect(top5).toBe(100)
  })

  it('measures the cross-entropy over the labelled samples, and their calibration', async () => {
    const logit = Math.log(3) // probabilities 3/4 and 1/4
    const { loss, calibrationError } = await assess(
      new Given(),
      batchOf([[logit, 0], [logit, 0], [logit, 0], [logit, 0]], [0n, 0n, 1n, -100n]), // prettier-ignore
    )
    expect(loss).toBeCloseTo(-(2 * Math.log(0.75) + Math.log(0.25)) / 3, 6)
    expect(calibrationError).toBeCloseTo(100 * (0.75 - 0.5), 4)
  })

  it('weighs the bins by their samples', async () => {
    const [sure, unsure] = [Math.log(9), Math.log(1.5)] // 0.9 and 0.6
    const logits = [[sure, 0], [sure, 0], [sure, 0], [unsure, 0]] // prettier-ignore
    const { calibrationError } = await assess(new Given(), batchOf(logits, [0n, 0n, 0n, 1n]))
    expect(calibrationError).toBeCloseTo(100 * (0.75 * 0.1 + 0.25 * 0.6), 4)
  })

  it('compares with a teacher', async () => {
    const model = new Given()
    const teacher = new nn.Linear(3, 3)
    const batches = [{ data: randn([8, 3]), labels: randint(3, [8]) }]
    const own = await assess(model, batches, { teacher: model })
    expect(own.agreement).toBe(100)
    expect(own.divergence).toBeCloseTo(0, 6)
    const other = await assess(model, batches, { teacher })
    const [p, q] = [teacher.forward(batches[0]!.data), batches[0]!.data].map(each => each.softmax(1))
    expect(other.divergence).toBeCloseTo(p!.mul(p!.log().sub(q!.log())).sum().item() / 8, 5)
    expect(other.top1).toBe(await evaluate(model, batches))
  })

  it('refuses what evaluate refuses', async () => {
    expect(await codeOfAsync(() => assess(new Given(), batchOf([[1, 0]], [2n])))).toBe('ERR_LABEL_RANGE')
    expect(await codeOfAsync(() => assess(new Given(), []))).toBe('ERR_ARGUMENT')
  })
})
