/** The losses' kernels on a GPU against the same losses in float64 on the CPU. */
import { describe, expect, it } from 'vitest'
import {
  AttentionTransfer,
  FeatureDistillationLoss,
  manualSeed,
  randn,
  tensor,
  type Tensor,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'

const problem = (() => {
  if (native.systemInfo().cudaDevices === 0) return 'there is no GPU that libtorch can use'
  const library = native.cudaLibrary()
  return library.problem ?? (library.kernels ? undefined : 'the CUDA library has no kernels')
})()

const losses = {
  mse: () => new FeatureDistillationLoss({ alpha: 1 }),
  cosine: () => new FeatureDistillationLoss({ alpha: 1, criterion: 'cosine' }),
  attention: () => new AttentionTransfer({ alpha: 1 }),
}
const tolerances = { float64: 1e-12, float32: 1e-5, float16: 2e-3, bfloat16: 1.6e-2 } as const

interface Result {
  loss: number
  gradients: number[][]
}

function run(name: keyof typeof losses, student: Tensor, teacher: Tensor): Result {
  const device = student.device
  const [s, t] = [student.detach().requiresGrad_(), teacher.detach().requiresGrad_()]
  const labels = tensor(new Array<bigint>(s.shape[0]!).fill(0n)).to(device)
  const parts = losses[name]().forward([s], [t], s.flatten({ startDim: 1 }).to('float64'), labels)
  parts.total.mul(2 ** 20).backward() // gradients that float16 can tell from 0
  const numbers = (each: Tensor) =>
    Array.from(each.to({ device: 'cpu', dtype: 'float64' }).contiguous().toTypedArray() as Float64Array)
  return { loss: parts.total.item(), gradients: [numbers(s.grad!), numbers(t.grad!)] }
}

function largest(numbers: number[]): number {
  return numbers.reduce((most, each) => Math.max(most, Math.abs(each)), 0)
}

describe.skipIf(problem !== undefined)(`on a GPU${problem ? ` (skipped: ${problem})` : ''}`, () => {
  const shapes = [
    [32, 64, 32, 32],
    [3, 5, 7, 7],
    [2, 256, 8, 8],
    [4, 33, 2, 1],
    [1, 16, 65, 3],
  ]
  describe.each(Object.keys(losses) as (keyof typeof losses)[])('%s', name => {
    describe.each(Object.keys(tolerances) as (keyof typeof tolerances)[])('%s', dtype => {
      it.each(['contiguous', 'channelsLast'] as const)('%s', memoryFormat => {
        manualSeed(2)
        for (const shape of shapes) {
          const [student, teacher] = [randn(shape), randn(shape)].map(each => each.to(dtype))
          const expected = run(name, student!.to('float64'), teacher!.to('float64'))
          const [s, t] = [student!, teacher!].map(each =>
            each.to('cuda').contiguous({ memoryFormat: memoryFormat as never }),
          )
          const first = run(name, s!, t!)
          const what = `${name} of ${shape.join(', ')}`
          expect(Math.abs(first.loss - expected.loss), what).toBeLessThan(
            Math.max(tolerances[dtype] / 10, 1e-12) * Math.max(1, expected.loss),
          )
          first.gradients.forEach((numbers, i) => {
            const wanted = expected.gradients[i]!
            const scale = Math.max(largest(wanted), 1e-9)
            const worst = largest(numbers.map((number, k) => number - wanted[k]!))
            expect(worst, what).toBeLessThan(tolerances[dtype] * scale)
          })
          // Sums have their order: the same again, bit for bit.
          expect(run(name, s!, t!)).toEqual(first)
        }
      })
    })
  })
})
