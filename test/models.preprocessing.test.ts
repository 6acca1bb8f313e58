/** What published weights want to be given: told by their keys. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { data, loadStateDict, models, nn, ones, type Tensor } from '../lib/index.js'
import { packageRoot } from '../lib/native/loader.js'

const imageNet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
const folder = process.env['ALAMBIC_TEST_DATA'] ?? join(packageRoot, '..', 'shared', 'data')
const published = join(folder, 'teachers', 'resnet20-12fca82f.th')

describe('preprocessingOf', () => {
  it.each([
    [
      'CifarResNet',
      () => models.resnet20(),
      { ...imageNet, dataset: 'CIFAR-10', classes: 10, size: [32, 32] },
    ],
    [
      'CifarResNetB for 10 classes',
      () => models.resnet20B(),
      { mean: [0.4914, 0.4822, 0.4465], dataset: 'CIFAR-10', classes: 10 },
    ],
    [
      'CifarResNetB for 100 classes',
      () => models.resnet8x4({ classes: 100 }),
      { mean: [0.5071, 0.4867, 0.4408], std: [0.2675, 0.2565, 0.2761], dataset: 'CIFAR-100', classes: 100 },
    ],
    [
      'WideResNet',
      () => models.wrn_16_2({ classes: 100 }),
      { mean: [0.5071, 0.4867, 0.4408], dataset: 'CIFAR-100' },
    ],
    [
      'ResNet',
      () => models.resnet18(),
      { ...imageNet, dataset: 'ImageNet', classes: 1000, size: [224, 224] },
    ],
    ['MobileNetV2', () => models.mobilenetV2(), { ...imageNet, dataset: 'ImageNet', classes: 1000 }],
  ])(
    'knows the weights with the keys of %s, of a model and of a file, with any prefix',
    (_, make, expected) => {
      const model: nn.Module = make()
      expect(models.preprocessingOf(model)).toMatchObject({
        ...expected,
        range: [0, 1],
        order: 'RGB',
        layout: 'NCHW',
      })
      const weights = model.stateDict()
      const prefixed = Object.fromEntries(
        Object.entries(weights).map(([key, each]) => [`_orig_mod.module.${key}`, each]),
      )
      expect(models.preprocessingOf(prefixed)).toEqual(models.preprocessingOf(weights))
    },
  )

  it('says nothing about others: other classes, other channels, other networks', () => {
    class CifarResNet18 extends nn.Module<[Tensor], Tensor> {
      readonly conv1 = new nn.Conv2d(3, 4, 3)
      readonly layer3 = new nn.Sequential(new nn.Sequential({ conv1: new nn.Conv2d(4, 4, 3) }))
      readonly layer4 = new nn.Sequential(new nn.Sequential({ conv1: new nn.Conv2d(4, 4, 3) }))
      readonly linear = new nn.Linear(4, 10)
      override forward(x: Tensor): Tensor {
        return x
      }
    }
    for (const model of [
      models.resnet20({ classes: 7 }),
      models.resnet20({ inChannels: 1 }),
      models.wrn_16_1({ classes: 10 }),
      new models.ConvNet(),
      new CifarResNet18(),
      new nn.Linear(2, 2),
    ])
      expect(models.preprocessingOf(model)).toBeUndefined()
    expect(models.preprocessingOf({})).toBeUndefined()
    expect(models.preprocessingOf({ 'conv1.weight': ones([2]) })).toBeUndefined()
  })

  it('is an image format, and what a data set is normalised by', () => {
    const format = models.preprocessingOf(models.resnet20())!
    const { mean, std } = format
    const images = data.proceduralImages({ count: 2, mean, std })
    expect(images.mean).toEqual(imageNet.mean)
    const [batch, plain] = [
      images.batch([0, 1]).data,
      images.with({ mean: [0, 0, 0], std: [1, 1, 1] }).batch([0, 1]).data,
    ]
    const converted = data.convertImages({ to: format })(plain)
    expect(converted.sub(batch).abs().max().item()).toBeLessThan(1e-6)
  })

  it.skipIf(!existsSync(published))(
    'knows the published ResNet-20, which runs on pictures so prepared',
    async () => {
      const weights = await loadStateDict(published)
      const format = models.preprocessingOf(weights)!
      expect(format).toMatchObject({ ...imageNet, classes: 10, source: 'akamaster/pytorch_resnet_cifar10' })
      const teacher = models.resnet20()
      teacher.loadStateDict(weights, { prefix: 'module.' })
      teacher.eval()
      const { mean, std } = format
      const { data: images } = data
        .proceduralImages({ count: 64, mean, std })
        .batch(Array.from({ length: 64 }, (_, i) => i))
      // Batch norms hold what the first layer gave on CIFAR-10: pictures prepared alike come close to it.
      const first = teacher.conv1.forward(images)
      const seen = first.var([0, 2, 3]).div(teacher.bn1.running_var!).log().abs().mean().item()
      const bytes = data.convertImages({ from: format, to: { range: [0, 255] } })(images)
      const other = teacher.conv1
        .forward(bytes)
        .var([0, 2, 3])
        .div(teacher.bn1.running_var!)
        .log()
        .abs()
        .mean()
        .item()
      expect(seen).toBeLessThan(2)
      expect(other).toBeGreaterThan(seen + 5)
    },
  )
})
