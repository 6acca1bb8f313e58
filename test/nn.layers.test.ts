/** Every layer against PyTorch in float64: outputs, gradients, buffers, keys and how it is printed. */
import { describe, expect, test } from 'vitest'
import { nn, type Tensor } from '../lib/index.js'
import { camelCase } from '../scripts/generate-operators.js'
import { device } from './device.js'
import { expectClose, fill, int64, pattern, reference, type LayerCase } from './nn.fixtures.js'

type LayerClass = new (...args: unknown[]) => nn.Module<[Tensor], Tensor>

function construct({ layer, args, options }: LayerCase): nn.Module<[Tensor], Tensor> {
  const Layer = (nn as unknown as Record<string, LayerClass>)[layer]!
  const hasOptions = Object.keys(options).length > 0
  return new Layer(...args, ...(hasOptions ? [options] : [])).to('float64').to(device)
}

/** `Conv2d(3, 8, kernel_size=(3, 3), bias=False)` with the names and literals of JavaScript. */
function asJavaScript(repr: string): string {
  return repr
    .replace(/\b[a-z]+(_[a-z]+)+(?==)/g, camelCase)
    .replaceAll('True', 'true')
    .replaceAll('False', 'false')
    .replaceAll('None', 'null')
    .replace(/(\d)\.0\b/g, '$1')
}

function title({ layer, args, options, input, mode }: LayerCase): string {
  const call = [...args.map(each => JSON.stringify(each)), JSON.stringify(options)].join(', ')
  return `${layer}(${call}) on ${input ? `(${input.join(', ')})` : 'indices'} in ${mode} mode`
}

describe('layers compute what PyTorch computes', () => {
  test.each(reference.layers.map(each => [title(each), each] as const))('%s', (_, expected) => {
    const layer = construct(expected)
    fill(layer)
    layer.train(expected.mode === 'train')
    expected.steps.forEach((step, i) => {
      layer.zeroGrad()
      const x = expected.input ? pattern(expected.input, 1 + i) : int64(expected.indices!)
      if (expected.input) x.requiresGrad = true
      const y = layer.forward(x)
      expectClose(y, step.output, `output of step ${i}`)
      y.backward({ gradient: pattern(y.shape, 50 + i) })
      if (step.inputGradient) expectClose(x.grad, step.inputGradient, `input gradient of step ${i}`)
      const parameters = new Map(layer.namedParameters())
      expect([...parameters.keys()]).toEqual(Object.keys(step.gradients))
      for (const [name, gradient] of Object.entries(step.gradients))
        expectClose(parameters.get(name)!.grad, gradient, `gradient of ${name}, step ${i}`)
      const buffers = new Map(layer.namedBuffers())
      expect([...buffers.keys()]).toEqual(Object.keys(step.buffers))
      for (const [name, buffer] of Object.entries(step.buffers))
        expectClose(buffers.get(name)!, buffer, `${name} after step ${i}`)
    })
  })
})

describe('layers have the state-dict keys of PyTorch and print like it', () => {
  test.each(reference.layers.map(each => [title(each), each] as const))('%s', (_, expected) => {
    const layer = construct(expected)
    expect(Object.keys(layer.stateDict())).toEqual(expected.keys)
    expect(String(layer)).toBe(asJavaScript(expected.repr))
  })
})

test('the cases cover every layer that computes', () => {
  const withoutForward = [
    'Module',
    'Parameter',
    'Sequential',
    'ModuleList',
    'ModuleDict',
    'functional',
    'init',
  ]
  const losses = ['CrossEntropyLoss', 'MSELoss', 'KLDivLoss'] // in nn.functional.test.ts
  const layers = Object.keys(nn).filter(name => ![...withoutForward, ...losses].includes(name))
  expect([...new Set(reference.layers.map(each => each.layer))].sort()).toEqual(layers.sort())
})
