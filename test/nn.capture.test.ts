/** Features of TypeScript modules by dotted path. */
import { beforeEach, describe, expect, test } from 'vitest'
import { attachFeatures, captureFeatures, manualSeed, memory, nn, scope, type Tensor } from '../lib/index.js'
import { device, randn } from './device.js'
import { errorOf } from './nn.fixtures.js'

class Block extends nn.Module<[Tensor], Tensor> {
  conv = new nn.Conv2d(4, 4, 3, { padding: 1 })
  relu = new nn.ReLU()

  override forward(x: Tensor): Tensor {
    return this.relu.forward(this.conv.forward(this.relu.forward(x))).add(x)
  }
}

class Net extends nn.Module<[Tensor, { skipTail?: boolean }?], Tensor> {
  stem = new nn.Conv2d(3, 4, 3, { padding: 1 })
  body = new nn.Sequential(new Block(), new Block())
  tail = new nn.Conv2d(4, 2, 1)

  override forward(x: Tensor, { skipTail = false }: { skipTail?: boolean } = {}): Tensor {
    const features = this.body.forward(this.stem.forward(x))
    return skipTail ? features : this.tail.forward(features)
  }
}

const values = (tensor: Tensor) => tensor.tolist()

let net: Net
let x: Tensor

beforeEach(() => {
  manualSeed(3)
  net = new Net().to(device)
  x = randn([2, 3, 5, 5])
})

describe('captureFeatures', () => {
  test('gives the outputs at nested paths beside the output of the forward', () => {
    const { output, features } = captureFeatures(net, ['stem', 'body.1', 'body.0.conv'], x)
    expect(values(output)).toEqual(values(net.forward(x)))
    const stem = net.stem.forward(x)
    expect(Object.keys(features)).toEqual(['stem', 'body.1', 'body.0.conv'])
    expect(values(features['stem']!)).toEqual(values(stem))
    expect(values(features['body.1']!)).toEqual(values(net.body.forward(stem)))
    expect(values(features['body.0.conv']!)).toEqual(
      values((net.body.at(0) as Block).conv.forward(stem.relu())),
    )
  })

  test('gives the inputs with io: input', () => {
    const { features } = captureFeatures(net, ['stem', 'body'], x, { io: 'input' })
    expect(features['stem']).toBe(x)
    expect(values(features['body']!)).toEqual(values(net.stem.forward(x)))
  })

  test('gives the last call of a layer that runs several times, or a tensor per call', () => {
    const path = 'body.0.relu'
    const all = captureFeatures(net, [path], x, { calls: 'all' }).features[path]!
    expect(all).toHaveLength(2)
    expect(values(all[0]!)).toEqual(values(net.stem.forward(x).relu()))
    expect(values(captureFeatures(net, [path], x).features[path]!)).toEqual(values(all[1]!))
    const inputs = captureFeatures(net, [path], x, { calls: 'all', io: 'input' }).features[path]!
    expect(inputs.map(each => values(each.relu()))).toEqual(all.map(values))
  })

  test('gives a list with one tensor for a layer that runs once, and each path once', () => {
    const { features } = captureFeatures(net, ['stem', 'stem'], x, { calls: 'all' })
    expect(Object.keys(features)).toEqual(['stem'])
    expect(features['stem']).toHaveLength(1)
  })

  test('features carry gradients', () => {
    const { features } = captureFeatures(net, ['body.0'], x)
    features['body.0']!.sum().backward()
    expect(net.stem.weight.grad).not.toBeNull()
    expect(net.tail.weight.grad).toBeNull()
  })

  test('passes several inputs on as an array', () => {
    const { output, features } = captureFeatures(net, ['body'], [x, { skipTail: true }])
    expect(output).toBe(features['body'])
  })

  test('the path of the model itself is empty', () => {
    const { output, features } = captureFeatures(net, [''], x)
    expect(features['']).toBe(output)
  })

  test('leaves the model as it was', () => {
    captureFeatures(net, ['stem', 'body.0.relu'], x)
    expect(net.modules().every(module => !Object.hasOwn(module, 'forward'))).toBe(true)
  })

  test('features that leave a scope live on, all else is released', () => {
    const before = memory().tensors
    const features = scope(() => captureFeatures(net, ['body.0', 'stem'], x).features)
    expect(memory().tensors).toBe(before + 2)
    expect(features['stem']!.shape).toEqual([2, 4, 5, 5])
  })
})

describe('what captureFeatures refuses', () => {
  test('an unknown path names near ones, and nothing is hooked', () => {
    const error = errorOf(() => captureFeatures(net, ['stem', 'body.0.conv1'], x))
    expect(error.code).toBe('ERR_UNKNOWN_LAYER')
    expect(error.message).toContain('Net has no layer "body.0.conv1"; near names: body.0.conv')
    expect(Object.hasOwn(net.stem, 'forward')).toBe(false)
  })

  test('a field that is no module', () => {
    expect(errorOf(() => captureFeatures(net, ['stem.weight'], x)).code).toBe('ERR_UNKNOWN_LAYER')
    expect(errorOf(() => captureFeatures(net, ['body.forward'], x)).code).toBe('ERR_UNKNOWN_LAYER')
  })

  test('a layer that the forward does not call', () => {
    const error = errorOf(() => captureFeatures(net, ['tail'], [x, { skipTail: true }]))
    expect([error.code, error.message]).toEqual([
      'ERR_UNKNOWN_LAYER',
      'captureFeatures: the forward of Net did not call the layer "tail"',
    ])
    expect(Object.hasOwn(net.tail, 'forward')).toBe(false)
  })

  test('unknown options', () => {
    expect(errorOf(() => captureFeatures(net, ['stem'], x, { io: 'both' as 'input' })).code).toBe(
      'ERR_ARGUMENT',
    )
    expect(errorOf(() => captureFeatures(net, ['stem'], x, { calls: 'first' as 'all' })).code).toBe(
      'ERR_ARGUMENT',
    )
  })

  test('a layer whose output is no tensor', () => {
    class Pair extends nn.Module<[Tensor], [Tensor, Tensor]> {
      override forward(input: Tensor): [Tensor, Tensor] {
        return [input, input]
      }
    }
    const model = new nn.Sequential(new Pair())
    expect(errorOf(() => captureFeatures(model, ['0'], x)).code).toBe('ERR_ARGUMENT')
    expect(captureFeatures(model, ['0'], x, { io: 'input' }).features['0']).toBe(x)
  })

  test('an exception in the forward comes through, and the hooks are gone', () => {
    const wrong = randn([2, 4, 5, 5])
    expect(errorOf(() => captureFeatures(net, ['stem', 'tail'], wrong)).code).toBe('ERR_CHANNEL_MISMATCH')
    expect(net.modules().every(module => !Object.hasOwn(module, 'forward'))).toBe(true)
  })
})

describe('attachFeatures', () => {
  test('captures at every forward and starts empty each time', () => {
    using probe = attachFeatures(net, ['body.0.relu'], { calls: 'all' })
    expect(probe.forward(x).features['body.0.relu']).toHaveLength(2)
    expect(probe.forward(x).features['body.0.relu']).toHaveLength(2)
  })

  test('goes on after a forward that failed', () => {
    using probe = attachFeatures(net, ['stem', 'body.0.relu'], { calls: 'all' })
    expect(errorOf(() => probe.forward(randn([1, 4, 5, 5]))).code).toBe('ERR_CHANNEL_MISMATCH')
    expect(probe.forward(x).features['body.0.relu']).toHaveLength(2)
  })

  test('using takes the hooks off', () => {
    {
      using probe = attachFeatures(net, ['stem'])
      probe.forward(x)
      expect(Object.hasOwn(net.stem, 'forward')).toBe(true)
    }
    expect(Object.hasOwn(net.stem, 'forward')).toBe(false)
  })

  test.each([
    ['first attached, first detached', [0, 1]],
    ['first attached, last detached', [1, 0]],
  ])('two probes of one layer are detached in any order: %s', (_, order) => {
    const probes = [attachFeatures(net, ['stem']), attachFeatures(net, ['stem'], { io: 'input' })]
    const [first, second] = order.map(i => probes[i]!)
    first!.detach()
    expect(second!.forward(x).features['stem']!.shape[1]).toBe(second === probes[0] ? 4 : 3)
    expect(errorOf(() => first!.forward(x)).code).toBe('ERR_UNKNOWN_LAYER')
    second!.detach()
    expect(Object.hasOwn(net.stem, 'forward')).toBe(false)
    first!.detach() // again: nothing happens
    expect(net.forward(x).shape).toEqual([2, 2, 5, 5])
  })

  test('a probe records only its own forward', () => {
    using idle = attachFeatures(net, ['body.0.relu'], { calls: 'all' })
    using other = attachFeatures(net, ['body.0.relu'])
    net.forward(x)
    other.forward(x)
    expect(idle.forward(x).features['body.0.relu']).toHaveLength(2)
  })
})
