/** Gradients that autograd knows to be zero have no memory in libtorch; here they are zeros like any others. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import {
  enableGrad,
  grad,
  loadStateDict,
  nn,
  optim,
  randn,
  saveStateDict,
  tensor,
  torch,
  zeros,
  type Tensor,
} from '../lib/index.js'
import { codeOf } from './codes.js'

let x: Tensor
beforeEach(() => {
  x = tensor([1, -2], { requiresGrad: true })
})

/** The second derivative of |x|, which autograd knows to be zero. */
function backwardOfZero(): void {
  const [first] = grad(x.abs().sum(), x, { createGraph: true })
  first.pow(2).sum().backward()
}

describe('a gradient known to be zero', () => {
  it('is read as zeros', () => {
    backwardOfZero()
    expect(x.grad!.tolist()).toEqual([0, 0])
    expect(Array.from(x.grad!.toTypedArray() as Float32Array)).toEqual([0, 0])
    expect(x.grad!.sum().item()).toBe(0)
    expect(String(x.grad)).toBe('tensor([0., 0.])')
    expect(x.grad!.view([2, 1]).shape).toEqual([2, 1])
  })

  it('is zeros as the result of grad()', () => {
    const [first] = grad(x.abs().sum(), x, { createGraph: true })
    const [second] = grad(first.pow(2).sum(), x, { createGraph: true })
    expect(second.tolist()).toEqual([0, 0])
    expect(grad(x.sgn().sum(), x)[0].tolist()).toEqual([0, 0])
  })

  it('is differentiable again where the graph was kept', () => {
    const [first] = grad(x.abs().mul(x).sum(), x, { createGraph: true })
    const [second] = grad(first.sum(), x, { createGraph: true }) // 2 sign(x)
    expect(second.tolist()).toEqual([2, -2])
    const [third] = grad(second.sum(), x)
    expect(third.tolist()).toEqual([0, 0])
  })

  it('may be the first of several that are added up', () => {
    backwardOfZero()
    backwardOfZero()
    x.pow(2).sum().backward()
    expect(x.grad!.tolist()).toEqual([2, -4])
  })

  it('may be written to', () => {
    backwardOfZero()
    x.grad!.add_(3)
    expect(x.grad!.tolist()).toEqual([3, 3])
  })

  it.each([
    ['SGD', () => new optim.SGD([x], { lr: 1 })],
    ['SGD with momentum', () => new optim.SGD([x], { lr: 1, momentum: 0.9, foreach: true })],
    ['Adam', () => new optim.Adam([x], { lr: 1 })],
    [
      'AdamW, one by one',
      () => new optim.AdamW([x], { lr: 1, weightDecay: 0, fused: false, foreach: false }),
    ],
  ])('moves nothing in a step of %s', (_, make) => {
    const optimizer = make()
    backwardOfZero()
    optimizer.step()
    expect(x.tolist()).toEqual([1, -2])
    optimizer.zeroGrad({ setToNone: false })
    expect(x.grad!.tolist()).toEqual([0, 0])
  })

  it('can be clipped', () => {
    backwardOfZero()
    expect(optim.clipGradNorm_([x], 1).item()).toBe(0)
    optim.clipGradValue_([x], 1)
    expect(x.grad!.tolist()).toEqual([0, 0])
  })

  it('can be saved', async () => {
    backwardOfZero()
    const folder = mkdtempSync(join(tmpdir(), 'alambic-zeros-'))
    try {
      for (const name of ['grad.safetensors', 'grad.pt']) {
        await saveStateDict({ grad: x.grad! }, join(folder, name))
        const loaded = await loadStateDict(join(folder, name))
        expect(loaded['grad']!.tolist()).toEqual([0, 0])
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('passes through a batch norm', () => {
    const norm = new nn.BatchNorm2d(2)
    const images = randn([2, 2, 4, 4], { requiresGrad: true })
    norm.forward(images).sgn().sum().backward()
    expect(images.grad!.abs().sum().item()).toBe(0)
    expect(norm.weight!.grad!.tolist()).toEqual([0, 0])
  })
})

describe('a tensor known to be zero', () => {
  it('has elements that can be read', () => {
    const zero = torch._efficientzerotensor([2, 3])
    expect(zero.tolist()).toEqual(zeros([2, 3]).tolist())
    expect(torch._efficientzerotensor([2], { dtype: 'int64' }).tolist()).toEqual([0, 0])
    expect(zero.add_(1).sum().item()).toBe(6)
  })
})

describe('grad()', () => {
  it('gives zeros where the outputs depend on the input by an undefined gradient', () => {
    const y = tensor([1, 2], { requiresGrad: true })
    const [first] = enableGrad(() => grad(x.mul(y).sum(), x, { createGraph: true })) // y
    expect(grad(first.sum(), [x, y], { allowUnused: true }).map(each => each?.tolist() ?? null)).toEqual([
      null,
      [1, 1],
    ])
  })

  it('refuses an input that the outputs do not depend on, and names it', () => {
    const y = tensor([1, 2], { requiresGrad: true })
    expect(codeOf(() => grad(x.sum(), [x, y]))).toBe('ERR_AUTOGRAD')
    expect(() => grad(x.sum(), [x, y])).toThrow(/index 1 \(float32 \(2\)\)/)
  })
})
