/** CIFAR ResNets against an implementation in Python: logits, features, gradients and batch statistics. */
import { describe, expect, test } from 'vitest'
import { captureFeatures, models, nn } from '../lib/index.js'
import { device, randn } from './device.js'
import { errorOf, expectClose, fill, pattern, reference, type NetworkCase } from './nn.fixtures.js'

function build({ depth, width, classes, mode }: NetworkCase): models.CifarResNet {
  const model = new models.CifarResNet(depth, { width, classes }).to('float64').to(device)
  fill(model)
  return model.train(mode === 'train')
}

const cases = reference.networks.map(each => [`depth ${each.depth} in ${each.mode} mode`, each] as const)

describe('a CifarResNet computes what its Python counterpart computes', () => {
  test.each(cases)('%s', (_, expected) => {
    const model = build(expected)
    const { output, features } = captureFeatures(model, model.featureLayers, pattern([2, 3, 8, 8], 1))
    expectClose(output, expected.logits, 'logits')
    model.featureLayers.forEach((layer, i) => expectClose(features[layer]!, expected.features[i]!, layer))
    output.backward({ gradient: pattern(output.shape, 50) })
    const parameters = new Map(model.namedParameters())
    for (const [name, gradient] of Object.entries(expected.gradients))
      expectClose(parameters.get(name)!.grad, gradient, `gradient of ${name}`)
    const buffers = new Map(model.namedBuffers())
    for (const [name, buffer] of Object.entries(expected.buffers))
      expectClose(buffers.get(name)!, buffer, name)
  })
})

test.each(cases)('its keys and paths are the same: %s', (_, expected) => {
  const model = build(expected)
  expect(Object.keys(model.stateDict())).toEqual(expected.keys)
  expect(model.namedModules().map(([path]) => path)).toEqual(expected.modules)
})

test.each([
  [models.resnet20, 269_722],
  [models.resnet32, 464_154],
  [models.resnet44, 658_586],
  [models.resnet56, 853_018],
  [models.resnet110, 1_727_962],
] as const)('%o has as many parameters as the paper says', (make, count) => {
  expect(make().parameterCount()).toBe(count)
})

test('features halve in size and double in channels', () => {
  const model = models.resnet20({ classes: 7, inChannels: 1, width: 4 }).to(device)
  const { output, features } = captureFeatures(model, model.featureLayers, randn([2, 1, 16, 16]))
  expect(output.shape).toEqual([2, 7])
  expect(model.featureLayers.map(layer => features[layer]!.shape)).toEqual([
    [2, 4, 16, 16],
    [2, 8, 8, 8],
    [2, 16, 4, 4],
  ])
})

test('what is captured inside of a block is not changed by what follows', () => {
  const model = models.resnet20({ width: 4 }).to(device).eval()
  const { features } = captureFeatures(model, ['layer1.0.bn1', 'layer1.0.conv2'], randn([1, 3, 8, 8]), {
    io: 'output',
  })
  expect(features['layer1.0.bn1']!.min().item()).toBeLessThan(0)
  const inputs = captureFeatures(model, ['layer1.0.conv2'], randn([1, 3, 8, 8]), { io: 'input' }).features
  expect(inputs['layer1.0.conv2']!.min().item()).toBe(0)
})

test('weights begin Kaiming-normal', () => {
  const model = models.resnet56()
  const conv = model.getSubmodule('layer3.8.conv2') as nn.Conv2d
  expect(conv.weight.std().item() / Math.sqrt(2 / (64 * 9))).toBeCloseTo(1, 1)
})

test('a depth that is not 6n + 2 is refused', () => {
  const error = errorOf(() => new models.CifarResNet(18))
  expect(error.code).toBe('ERR_ARGUMENT')
  expect(error.message).toContain('expected 6n + 2 layers')
})
