import { expect, test } from 'vitest'
import { captureFeatures, models, nn } from '../lib/index.js'
import { device, randn } from './device.js'
import { errorOf } from './nn.fixtures.js'

test('a ConvNet has a feature point per stage, each after the first at half the size', () => {
  const net = new models.ConvNet({ widths: [4, 6, 8, 10], depth: 2, classes: 3, inChannels: 1 }).to(device)
  const { output, features } = captureFeatures(net, net.featureLayers, randn([2, 1, 16, 12]))
  expect(output.shape).toEqual([2, 3])
  expect(Object.entries(features).map(([path, { shape }]) => [path, shape])).toEqual([
    ['stage1', [2, 4, 16, 12]],
    ['stage2', [2, 6, 8, 6]],
    ['stage3', [2, 8, 4, 3]],
    ['stage4', [2, 10, 2, 2]],
  ])
})

test('its modules are named by stage, position and role, the classifier last', () => {
  const net = new models.ConvNet({ widths: [2, 2], depth: 2 })
  const unit = (path: string) => [path, `${path}.conv`, `${path}.bn`, `${path}.relu`]
  expect(net.namedModules().map(([path]) => path)).toEqual([
    '',
    'stage1',
    ...unit('stage1.0'),
    ...unit('stage1.1'),
    'stage2',
    ...unit('stage2.0'),
    ...unit('stage2.1'),
    'classifier',
  ])
})

test('it classifies the mean over the last features', () => {
  const net = new models.ConvNet({ widths: [4, 8] }).to(device).eval()
  const { output, features } = captureFeatures(net, ['stage2'], randn([3, 3, 8, 8]))
  expect(net.classifier.forward(features['stage2']!.mean([2, 3])).tolist()).toEqual(output.tolist())
  expect(features['stage2']!.min().item()).toBe(0) // after the ReLU
})

test('it learns a batch by heart', () => {
  const net = new models.ConvNet({ widths: [8, 16], classes: 4 }).to(device)
  const x = randn([8, 3, 8, 8])
  const labels = randn([8, 4]).argmax({ dim: 1 })
  const loss = () => nn.functional.crossEntropy(net.forward(x), labels)
  const before = loss().item()
  for (let step = 0; step < 60; step++) {
    net.zeroGrad()
    loss().backward()
    for (const parameter of net.parameters()) parameter.detach().sub_(parameter.grad!.mul(0.2))
  }
  expect(loss().item()).toBeLessThan(before / 4)
})

test('a network without stages or depth is refused', () => {
  expect(errorOf(() => new models.ConvNet({ widths: [] })).code).toBe('ERR_ARGUMENT')
  expect(errorOf(() => new models.ConvNet({ depth: 0 })).code).toBe('ERR_ARGUMENT')
})
