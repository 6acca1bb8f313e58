/** A part's own train(), eval(), apply() and stateDict() are those that count, wherever it stands. */
import { tmpdir } from 'node:os'
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  data,
  evaluate,
  exportTorchScript,
  nn,
  randn,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  zeros,
  type Tensor,
} from '../lib/index.js'

/** As it is often written in PyTorch. */
class Frozen extends nn.BatchNorm2d {
  override train(_mode = true): this {
    return super.train(false)
  }
}

/** Folds something on the way to eval mode, and has to be told of the way back. */
class Merging extends nn.Module<[Tensor], Tensor> {
  readonly inner = new nn.Conv2d(3, 3, 1)
  isMerged = false

  override train(mode = true): this {
    this.isMerged = !mode
    return super.train(mode)
  }

  forward(x: Tensor): Tensor {
    if (this.isMerged === this.training) throw new Error('merged in training, or not merged in eval mode')
    return this.inner.forward(x)
  }
}

class Net extends nn.Module<[Tensor], Tensor> {
  readonly first = new nn.Sequential(new Merging(), new Frozen(3), new nn.BatchNorm2d(3))
  readonly list = new nn.ModuleList([new Frozen(3)])
  readonly named = new nn.ModuleDict({ a: new nn.Sequential(new Frozen(3)) })
  readonly fc = new nn.Linear(3, 2)

  forward(x: Tensor): Tensor {
    const seen = this.list.at(0).forward(this.first.forward(x))
    return this.fc.forward(seen.mean([2, 3]))
  }
}

const frozenOf = (net: nn.Module) => net.modules().filter(each => each instanceof Frozen)
const batches = () =>
  new data.DataLoader(new data.TensorDataset(randn([8, 3, 4, 4]), tensor([0n, 1n, 0n, 1n, 0n, 1n, 0n, 1n])), {
    batchSize: 4,
  })
const quiet = { log: null, epochs: 2 } as const

describe('train() and eval()', () => {
  it('of a part decide for it and those below, as in PyTorch', () => {
    const net = new Net().train()
    expect(frozenOf(net).map(({ training }) => training)).toEqual([false, false, false])
    expect([net.training, net.first.training, net.fc.training]).toEqual([true, true, true])
    net.eval()
    expect(net.modules().some(({ training }) => training)).toBe(false)
  })

  it('of a module that refers to its parent end', () => {
    class Child extends nn.Module<[], never> {
      parent: nn.Module | null = null
      forward(): never {
        throw new Error('not called')
      }
    }
    const child = new Child()
    const parent = new nn.ModuleList([child])
    child.parent = parent
    parent.eval()
    expect([parent.training, child.training]).toEqual([false, false])
  })

  it('are what training, evaluation and export switch with: frozen statistics stay', async () => {
    const [net, teacher] = [new Net(), new Net()]
    const statistics = () => frozenOf(net).map(each => each.running_mean!.tolist())
    const before = statistics()
    await trainClassifier(net, batches(), batches(), { ...quiet, compile: false })
    await trainClassifier(net, batches(), batches(), { ...quiet, compile: true })
    await trainWithFeatureDistillation(teacher, net, batches(), batches(), {
      ...quiet,
      featureLayers: ['first.0'],
    })
    await evaluate(net, batches())
    const path = join(mkdtempSync(join(tmpdir(), 'alambic-modes-')), 'net.pt')
    await exportTorchScript(net, [zeros([1, 3, 4, 4])], path)
    expect(statistics()).toEqual(before)
    expect([net.training, (net.first.children()[0] as Merging).isMerged]).toEqual([true, false])
    expect((net.first.children()[2] as nn.BatchNorm2d).num_batches_tracked!.item()).toBeGreaterThan(0)
    expect(frozenOf(net).some(({ training }) => training)).toBe(false)
  })

  it('gives each part its own mode back after an evaluation', async () => {
    const net = new Net().train()
    net.fc.eval()
    ;(frozenOf(net)[0] as Frozen).training = true // past its train()
    await evaluate(net, batches())
    expect([net.training, net.first.training, net.fc.training]).toEqual([true, true, false])
    expect(frozenOf(net).map(({ training }) => training)).toEqual([true, false, false])
  })
})

describe('apply() and stateDict()', () => {
  it('reach parts before what they are parts of, by their own methods', () => {
    const seen: string[] = []
    class Closed extends nn.Sequential {
      override apply(body: (module: nn.Module) => void): this {
        body(this)
        return this
      }
    }
    const net = new nn.Sequential({
      open: new nn.Sequential(new nn.ReLU()),
      closed: new Closed(new nn.Tanh()),
    })
    net.apply(module => seen.push(module.constructor.name))
    expect(seen).toEqual(['ReLU', 'Sequential', 'Closed', 'Sequential'])
  })

  it('has of a part what its own stateDict() gives', () => {
    class Light extends nn.Linear {
      override stateDict(): nn.StateDict {
        return Object.fromEntries(Object.entries(super.stateDict()).filter(([name]) => name === 'weight'))
      }
    }
    const net = new nn.Sequential(new nn.Sequential(new Light(2, 2)), new nn.BatchNorm1d(2))
    expect(Object.keys(net.stateDict())).toEqual([
      '0.0.weight',
      '1.weight',
      '1.bias',
      '1.running_mean',
      '1.running_var',
      '1.num_batches_tracked',
    ])
  })
})
