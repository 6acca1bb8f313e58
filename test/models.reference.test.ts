/** The other networks of `lib/models` against torchvision and a Python implementation of RepDistiller's variants. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { captureFeatures, manualSeed, models, noGrad, type Tensor } from '../lib/index.js'
import type { Module } from '../lib/nn/module.js'
import { device, randn } from './device.js'
import { errorOf, pattern as shortPattern, torchVersion } from './nn.fixtures.js'

interface Summary {
  shape: number[]
  /** The last four elements. */
  last: number[]
  /** The sum of all elements, each times its number of `pattern`. */
  weighted: number
  norm: number
}

interface Reference {
  torch: string
  networks: Record<
    string,
    {
      parameters: number
      /** `conv1.weight (64, 3, 7, 7)` */
      state: string[]
      featureLayers: string[]
      size: number
      logits: number[][]
      features: Summary[]
    }
  >
  trained: Record<
    string,
    { logits: number[][]; gradients: Record<string, Summary>; buffers: Record<string, Summary> }
  >
  drawn: Record<string, Record<string, number[]>>
}

type Network = Module<[Tensor], Tensor> & { featureLayers: readonly string[] }

const reference = JSON.parse(
  readFileSync(new URL('reference/models.json', import.meta.url), 'utf8'),
) as Reference

const makers = models as unknown as Record<string, (options?: { classes?: number }) => Network>

/** The numbers of the fixtures' `pattern`, which repeat after 1009. */
function pattern(shape: readonly number[], seed: number): Tensor {
  const count = shape.reduce((product, size) => product * size, 1)
  const repeats = Math.ceil(count / 1009)
  return shortPattern([1009], seed).repeat([repeats]).slice({ start: 0, end: count }).reshape(shape)
}

/** Parameters and running statistics as `fill` in `reference/models.py` sets them. */
function fill(model: Module): void {
  const dict = model.stateDict()
  Object.entries(dict).forEach(([name, { shape }], i) => {
    if (name.endsWith('num_batches_tracked')) return
    const values = pattern(shape, 100 + i)
    const fanIn = shape.slice(1).reduce((product, size) => product * size, 1)
    if (shape.length > 1) dict[name] = values.mul(Math.sqrt(24 / fanIn))
    else dict[name] = /running_var$|weight$/.test(name) ? values.add(1) : values
  })
  model.loadStateDict(dict)
}

function build(name: string): Network {
  const model = makers[name]!({ classes: 10 }).to('float64').to(device)
  fill(model)
  return model
}

/** Relative to the norm: a weighted sum may nearly cancel. */
function expectSummary(actual: Tensor, expected: Summary, where: string): void {
  const values = actual.detach().to('float64')
  expect(values.shape, where).toEqual(expected.shape)
  const got = [
    ...(values.flatten().slice({ start: -4 }).tolist() as number[]),
    values.mul(pattern(expected.shape, 3)).sum().item(),
    values.norm().item(),
  ]
  const scale = Math.max(expected.norm, 1e-12)
  const wanted = [...expected.last, expected.weighted, expected.norm]
  got.forEach((value, i) =>
    expect(Math.abs(value - wanted[i]!) / scale, `${where}: ${value}, not ${wanted[i]}`).toBeLessThan(1e-9),
  )
}

function expectLogits(actual: Tensor, expected: number[][], where: string): void {
  const scale = Math.max(...expected.flat().map(Math.abs))
  const got = (actual.tolist() as number[][]).flat()
  expected
    .flat()
    .forEach((value, i) => expect(Math.abs(got[i]! - value) / scale, `${where}: logits`).toBeLessThan(1e-9))
}

describe.each(Object.entries(reference.networks))('%s', (name, expected) => {
  test('has the keys, shapes and number of parameters of its Python counterpart', () => {
    const model = makers[name]!()
    const state = Object.entries(model.stateDict()).map(([key, { shape }]) => `${key} (${shape.join(', ')})`)
    expect(state).toEqual(expected.state)
    expect(model.parameterCount()).toBe(expected.parameters)
    expect(model.featureLayers).toEqual(expected.featureLayers)
  })

  test('computes what its Python counterpart computes', () => {
    const model = build(name).eval()
    const image = pattern([2, 3, expected.size, expected.size], 1)
    const { output, features } = noGrad(() => captureFeatures(model, expected.featureLayers, image))
    expectLogits(output, expected.logits, name)
    expected.featureLayers.forEach((layer, i) =>
      expectSummary(features[layer]!, expected.features[i]!, layer),
    )
  })
})

test.each(Object.entries(reference.trained))(
  '%s has the gradients and batch statistics of its Python counterpart',
  (name, expected) => {
    const model = build(name)
    const { size } = reference.networks[name]!
    const logits = model.forward(pattern([4, 3, size, size], 1))
    expectLogits(logits, expected.logits, name)
    logits.backward({ gradient: pattern(logits.shape, 50) })
    for (const [key, parameter] of model.namedParameters())
      expectSummary(parameter.grad!, expected.gradients[key]!, `gradient of ${key}`)
    for (const [key, buffer] of model.namedBuffers()) expectSummary(buffer, expected.buffers[key]!, key)
  },
)

const drawsAsReference = torchVersion.split('+')[0] === reference.torch

test.runIf(drawsAsReference).each(Object.entries(reference.drawn))(
  '%s begins with the weights that Python draws after the same seed',
  (name, expected) => {
    manualSeed(7)
    const state = makers[name]!({ classes: 10 }).stateDict()
    for (const [key, last] of Object.entries(expected))
      expect((state[key]!.flatten().to('float64').tolist() as number[]).slice(-last.length), key).toEqual(
        last,
      )
  },
)

describe('features stay as they were captured, although activations and sums overwrite their inputs', () => {
  const cases = [
    ['resnet8x4', ['bn1', 'layer1.0.bn1', 'layer2.0.bn2']],
    ['resnet50', ['layer1.0.bn1', 'layer1.0.bn3', 'layer1.0.conv3']],
    ['wrn_16_2', ['block1.layer.0.bn1', 'block1.layer.1.conv2', 'block2', 'bn1']],
    ['mobilenetV2', ['features.0.1', 'features.3.conv', 'features.3.conv.3', 'features.3']],
    ['resnet20', ['bn1', 'layer1.0.bn1', 'layer1.0.bn2', 'layer1.0']],
  ] as const
  test.each(cases)('%s', (name, layers) => {
    const model = makers[name]!().to(device).eval()
    const x = randn([1, 3, 32, 32])
    noGrad(() => {
      const untouched = layers.map(layer => {
        let copy: Tensor | undefined
        const target = model.getSubmodule(layer)
        const { forward } = Object.getPrototypeOf(target) as { forward: (input: Tensor) => Tensor }
        Object.defineProperty(target, 'forward', {
          configurable: true,
          value: (input: Tensor) => {
            const output = forward.call(target, input)
            copy = output.clone()
            return output
          },
        })
        model.forward(x)
        delete (target as { forward?: unknown }).forward
        return copy!
      })
      const { features } = captureFeatures(model, layers, x)
      layers.forEach((layer, i) =>
        expect(features[layer]!.equal(untouched[i]!), `${layer} was overwritten`).toBe(true),
      )
    })
  })
})

test('dropout in a WideResNet is active in training mode only', () => {
  const model = models.wrn_16_1({ dropout: 0.5 }).to(device)
  const x = randn([2, 3, 16, 16])
  noGrad(() => {
    model.eval()
    expect(model.forward(x).equal(model.forward(x))).toBe(true)
    model.train()
    expect(model.forward(x).equal(model.forward(x))).toBe(false)
  })
})

test('a MobileNetV2 of another width rounds its channels to multiples of 8', () => {
  const model = models.mobilenetV2({ widthMult: 0.35, classes: 5, inChannels: 1 }).to(device).eval()
  const channels = [0, 1, 3, 6, 10, 13, 16, 17, 18].map(
    layer =>
      captureFeatures(model, [`features.${layer}`], randn([1, 1, 32, 32])).features[`features.${layer}`]!
        .shape[1],
  )
  expect(channels).toEqual([16, 8, 8, 16, 24, 32, 56, 112, 1280])
})

test.each([
  [() => new models.CifarResNetB(18), 'CifarResNetB: depth: expected 6n + 2 layers'],
  [() => new models.WideResNet(20, 2), 'WideResNet: depth: expected 6n + 4 layers'],
  [() => new models.ResNet(20 as 18), 'ResNet: depth: expected 18, 34 or 50'],
])('an impossible depth is refused', (make, message) => {
  const error = errorOf(make)
  expect(error.code).toBe('ERR_ARGUMENT')
  expect(error.message).toContain(message)
})
