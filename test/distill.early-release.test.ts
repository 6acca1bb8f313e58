/** What inference in trainers holds on to, and what it lets go. */
import { beforeEach, describe, expect, test } from 'vitest'
import {
  attachFeatures,
  captureFeatures,
  manualSeed,
  memory,
  models,
  nn,
  noGrad,
  randn,
  scope,
  tensor,
  type Tensor,
} from 'alambic'
import { releasingEarly } from '../lib/distill/early-release.js'
import { settledTensors } from './settle.js'

/** Tensors at each call, beyond those at the start. */
class Witness extends nn.Module<[Tensor], Tensor> {
  static start = 0
  static counts: number[] = []
  override forward(x: Tensor): Tensor {
    Witness.counts.push(memory().tensors - Witness.start)
    return x.add(1)
  }
}

class Block extends nn.Module<[Tensor], Tensor> {
  readonly witness = new Witness()
  override forward(x: Tensor): Tensor {
    return this.witness.forward(x.mul(2)).sub(1)
  }
}

beforeEach(async () => {
  Witness.start = await settledTensors()
  Witness.counts = []
})

function infer<T>(model: nn.Module, body: () => T): T {
  return noGrad(() => scope(() => releasingEarly('model', model, body)))
}

describe('a sequence of blocks', () => {
  const make = () => new nn.Sequential(...Array.from({ length: 6 }, () => new Block()))

  test('holds no more at its end than at its beginning', () => {
    const model = make()
    const x = randn([2, 3])
    Witness.start = memory().tensors
    const expected = model.forward(x)
    const held = Witness.counts.at(-1)!
    Witness.start = memory().tensors
    Witness.counts = []
    expect(infer(model, () => model.forward(x)).equal(expected)).toBe(true)
    expect(Math.max(...Witness.counts)).toBe(2) // a block's input and what it makes of it
    expect(held).toBeGreaterThan(15)
  })

  test('gives captured features and its output, and nothing else', () => {
    const model = make()
    const x = tensor([1, 2, 3])
    using probe = attachFeatures(model, ['1', '3.witness'])
    const before = memory().tensors
    const { output, features } = infer(model, () => probe.forward(x))
    expect(memory().tensors).toBe(before + 3)
    expect(output.equal(x.mul(64))).toBe(true)
    expect(features['1']!.equal(x.mul(4))).toBe(true)
    expect(features['3.witness']!.equal(x.mul(16).add(1))).toBe(true)
  })

  test('leaves the modules as they were', () => {
    const model = make()
    infer(model, () => model.forward(randn([2])))
    expect(model.modules().some(module => Object.hasOwn(module, 'forward'))).toBe(false)
    const failing = new nn.Sequential(new nn.Linear(3, 4), new nn.Linear(5, 6))
    expect(() => infer(failing, () => failing.forward(randn([1, 3])))).toThrow(/Linear/)
    expect(failing.modules().some(module => Object.hasOwn(module, 'forward'))).toBe(false)
  })

  test('a layer that hands on its input, and one that is shared', () => {
    const shared = new Block()
    const model = new nn.Sequential(
      new nn.Identity(),
      shared,
      new nn.Dropout(0.5),
      shared,
      new nn.Identity(),
    ).eval()
    const x = randn([2, 3])
    expect(infer(model, () => model.forward(x)).allclose(x.mul(4))).toBe(true)
    expect(x.isDisposed).toBe(false)
  })
})

test('a model that keeps a tensor for another module is run as ever', () => {
  class Skip extends nn.Module<[Tensor], Tensor> {
    kept: Tensor | undefined
    readonly inner = new nn.Identity()
    override forward(x: Tensor): Tensor {
      this.kept = x.mul(10)
      return this.inner.forward(x.add(1))
    }
  }
  class Model extends nn.Module<[Tensor], Tensor> {
    readonly skip = new Skip()
    runs = 0
    override forward(x: Tensor): Tensor {
      this.runs++
      const y = this.skip.forward(x)
      return y.add(this.skip.kept!)
    }
  }
  const model = new Model()
  const x = randn([3])
  for (let i = 0; i < 2; i++)
    expect(infer(model, () => model.forward(x)).allclose(x.mul(11).add(1))).toBe(true)
  expect(model.runs).toBe(3) // the first time once in vain
})

test('networks give the same outputs and features', () => {
  manualSeed(1)
  for (const make of [models.resnet20, models.wrn_16_1, models.mobilenetV2]) {
    const model = make().eval()
    const { featureLayers } = model as models.CifarResNet
    const x = randn([2, 3, 32, 32])
    const expected = noGrad(() => captureFeatures(model, featureLayers, x))
    const actual = infer(model, () => captureFeatures(model, featureLayers, x))
    expect(actual.output.equal(expected.output)).toBe(true)
    for (const layer of featureLayers)
      expect(actual.features[layer]!.equal(expected.features[layer]!)).toBe(true)
  }
})

test('features of a model that opens scopes itself are captured all the same', () => {
  class Tidy extends nn.Module<[Tensor], Tensor> {
    readonly layer = new nn.Linear(3, 3)
    override forward(x: Tensor): Tensor {
      return scope(() => this.layer.forward(x).relu())
    }
  }
  const model = new Tidy()
  const { output, features } = captureFeatures(model, ['layer'], randn([2, 3]))
  expect(features['layer']!.relu().equal(output)).toBe(true)
})
