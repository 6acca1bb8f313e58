import { describe, expect, it } from 'vitest'
import { enableGrad, grad, isGradEnabled, noGrad, torch, type Tensor } from '../lib/index.js'
import { codeOf } from './codes.js'
import { ones, randn, tensor } from './device.js'

const leaf = (values: number[]) => tensor(values, { dtype: 'float64', requiresGrad: true })

describe('backward()', () => {
  it('fills the gradients of leaves and adds up over calls', () => {
    const x = leaf([1, 2, 3])
    x.mul(x).sum().backward()
    expect(x.grad?.tolist()).toEqual([2, 4, 6])
    x.sum().backward()
    expect(x.grad?.tolist()).toEqual([3, 5, 7])
    x.grad = null
    expect(x.grad).toBeNull()
  })

  it('takes a gradient for tensors that are no scalars', () => {
    const x = leaf([1, 2])
    const y = x.mul(3)
    expect(codeOf(() => y.backward())).toBe('ERR_AUTOGRAD')
    expect(codeOf(() => y.backward({ gradient: ones([3]) }))).toBe('ERR_SHAPE_MISMATCH')
    y.backward({ gradient: tensor([1, 10], { dtype: 'float64' }) })
    expect(x.grad?.tolist()).toEqual([3, 30])
  })

  it('uses the graph up unless it is retained', () => {
    const x = leaf([2])
    const y = x.mul(x)
    y.backward({ retainGraph: true })
    y.backward()
    expect(x.grad?.tolist()).toEqual([8])
    expect(codeOf(() => y.backward())).toBe('ERR_AUTOGRAD')
    expect(() => y.backward()).toThrow(/second time/)
  })

  it('can be differentiated again with createGraph', () => {
    const x = leaf([3])
    x.pow(3).sum().backward({ createGraph: true })
    const first = x.grad!
    expect(first.tolist()).toEqual([27])
    x.grad = null
    first.sum().backward()
    expect(x.grad!.tolist()).toEqual([18])
  })

  it('refuses a tensor without history, naming noGrad()', () => {
    expect(() => ones([1]).backward()).toThrow(/noGrad/)
    expect(codeOf(() => ones([1]).backward())).toBe('ERR_AUTOGRAD')
  })

  it('reports a tensor that was changed in place after it was needed', () => {
    const x = leaf([1, 2])
    const y = x.mul(1)
    const z = y.mul(y).sum()
    y.add_(1)
    expect(codeOf(() => z.backward())).toBe('ERR_AUTOGRAD')
    expect(() => z.backward()).toThrow(/inplace/)
  })

  it('equals finite differences for a small network', () => {
    const w = randn([4, 3], { dtype: 'float64', requiresGrad: true })
    const x = randn([5, 4], { dtype: 'float64' })
    const loss = (weights: Tensor) => torch.logSoftmax(x.matmul(weights).tanh(), 1).pow(2).mean()
    const [g] = grad(loss(w), w)
    const step = 1e-6
    noGrad(() => {
      for (const [i, j] of [
        [0, 0],
        [2, 1],
        [3, 2],
      ] as const) {
        const up = w.clone().setAt([i, j], w.at(i, j).item() + step)
        const down = w.clone().setAt([i, j], w.at(i, j).item() - step)
        const slope = (loss(up).item() - loss(down).item()) / (2 * step)
        expect(g.at(i, j).item()).toBeCloseTo(slope, 7)
      }
    })
  })
})

describe('grad()', () => {
  it('returns gradients and leaves `grad` alone', () => {
    const x = leaf([1, 2])
    const y = leaf([3, 4])
    const [gx, gy] = grad(x.mul(y).sum(), [x, y])
    expect(gx!.tolist()).toEqual([3, 4])
    expect(gy!.tolist()).toEqual([1, 2])
    expect(x.grad).toBeNull()
  })

  it('refuses unused inputs, or gives null for them', () => {
    const x = leaf([1])
    const y = leaf([1])
    expect(codeOf(() => grad(x.mul(2), y))).toBe('ERR_AUTOGRAD')
    expect(grad(x.mul(2), [x, y], { allowUnused: true })[1]).toBeNull()
    expect(codeOf(() => grad(x.mul(2), [ones([1])]))).toBe('ERR_AUTOGRAD')
    expect(codeOf(() => grad([], [x]))).toBe('ERR_ARGUMENT')
  })

  it('takes no disposed tensor for a missing gradient', () => {
    const x = leaf([1])
    const gone = ones([1])
    gone.dispose()
    expect(codeOf(() => x.mul(2).backward({ gradient: gone }))).toBe('ERR_TENSOR_RELEASED')
    expect(codeOf(() => x.sum().backward({ gradient: gone }))).toBe('ERR_TENSOR_RELEASED')
    expect(codeOf(() => grad(x.sum(), [x], { gradOutputs: [gone] }))).toBe('ERR_TENSOR_RELEASED')
    expect(x.grad).toBeNull()
  })

  it('weighs several outputs by their gradients', () => {
    const x = leaf([1, 2])
    const [g] = grad([x.mul(2), x.sum()], [x], { gradOutputs: [tensor([1, 1], { dtype: 'float64' }), null] })
    expect(g!.tolist()).toEqual([3, 3])
  })
})

describe('recording', () => {
  it('stops in noGrad() and comes back after it, also after an error', () => {
    const x = leaf([1])
    expect(noGrad(() => x.mul(2)).requiresGrad).toBe(false)
    expect(noGrad(() => enableGrad(() => x.mul(2))).requiresGrad).toBe(true)
    expect(() =>
      noGrad(() => {
        throw new Error('mine')
      }),
    ).toThrow('mine')
    expect(isGradEnabled()).toBe(true)
  })

  it('refuses callbacks that return a promise', () => {
    expect(codeOf(() => noGrad(() => Promise.resolve(1)))).toBe('ERR_ASYNC_CALLBACK')
    expect(isGradEnabled()).toBe(true)
  })

  it('is only for floating point leaves', () => {
    expect(codeOf(() => (tensor([1n]).requiresGrad = true))).toBe('ERR_DTYPE')
    const y = leaf([1]).exp()
    expect(codeOf(() => (y.requiresGrad = false))).toBe('ERR_AUTOGRAD')
    expect(y.detach().requiresGrad).toBe(false)
    expect(y.isLeaf).toBe(false)
    expect(y.gradFn).toBe('ExpBackward0')
  })

  it('refuses to change a leaf that requires a gradient in place, except in noGrad()', () => {
    const x = leaf([1, 2])
    expect(codeOf(() => x.add_(1))).toBe('ERR_AUTOGRAD')
    noGrad(() => x.add_(1))
    expect(x.tolist()).toEqual([2, 3])
  })

  it('refuses a gradient of another shape', () => {
    const x = leaf([1, 2])
    expect(codeOf(() => (x.grad = ones([3], { dtype: 'float64' })))).toBe('ERR_SHAPE_MISMATCH')
    expect(codeOf(() => (x.grad = ones([2])))).toBe('ERR_DTYPE')
    expect(codeOf(() => (x.grad = ones([2], { dtype: 'complex128' })))).toBe('ERR_DTYPE')
    expect(codeOf(() => (x.grad = ones([2], { dtype: 'float64', device: 'meta' })))).toBe('ERR_DEVICE')
    expect(codeOf(() => (x.grad = x))).toBe('ERR_ARGUMENT')
    expect(codeOf(() => (x.grad = 5 as never))).toBe('ERR_ARGUMENT')
    const gone = ones([2], { dtype: 'float64' })
    gone.dispose()
    expect(codeOf(() => (x.grad = gone))).toBe('ERR_TENSOR_RELEASED')
    expect(x.grad).toBeNull()
    x.grad = ones([2], { dtype: 'float64' })
    expect(x.grad?.tolist()).toEqual([1, 1])
  })
})
