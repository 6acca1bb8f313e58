/* eslint-disable @typescript-eslint/no-unsafe-assignment -- what a file gives has no type here */
/**
 * Files that others made: in the folder `torchscript` of ALAMBIC_TEST_DATA, or of shared/data beside the project. None
 * of them is part of it.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  captureFeatures,
  loadTorchScript,
  noGrad,
  ones,
  randn,
  zeros,
  type ScriptModule,
  type Tensor,
} from '../lib/index.js'
import { packageRoot } from '../lib/native/loader.js'
import { inspectScript } from '../lib/script/inspect.js'
import { codeOfAsync } from './codes.js'
import { errorOf } from './nn.fixtures.js'

const folder = [process.env['ALAMBIC_TEST_DATA'], join(packageRoot, '../shared/data')]
  .filter(each => each !== undefined)
  .map(each => join(each, 'torchscript'))
  .find(existsSync)
const reason = folder ? '' : ' (no folder: set ALAMBIC_TEST_DATA)'
const load = (name: string) => loadTorchScript(join(folder!, name))
const tolist = (value: unknown) => (value as Tensor).tolist()

describe.skipIf(reason)(`TorchScript that others made${reason}`, () => {
  test.each(['foo.pt', 'foo1.pt'])('%s: a function of two tensors', async name => {
    const model = await load(name)
    expect(model.methods()).toEqual([
      {
        name: 'forward',
        arguments: [
          { name: 'x', type: 'Tensor', isOptional: false },
          { name: 'y', type: 'Tensor', isOptional: false },
        ],
        returns: 'Tensor',
      },
    ])
    expect((model.forward(ones([2]), ones([2])) as Tensor).shape).toEqual([2])
  })

  test('foo3.pt: a function of one', async () => {
    const model = await load('foo3.pt')
    expect((model.forward(ones([3, 3])) as Tensor).shape).toBeDefined()
  })

  test('foo6.pt and foo7.pt: results of classes have no form here, and say so', async () => {
    const [class6, class7] = [await load('foo6.pt'), await load('foo7.pt')]
    const error = errorOf(() => class6.forward(ones([1])) as unknown)
    expect(error.code).toBe('ERR_NOT_IMPLEMENTED')
    expect(error.message).toContain('TorchScriptClass have no JavaScript form')
    expect(class7.methods().map(({ name }) => name)).toEqual(['add_them', 'make_input_object'])
    expect(errorOf(() => class7.call('add_them', ones([1]))).code).toBe('ERR_NOT_IMPLEMENTED')
    expect(errorOf(() => class7.forward() as unknown).message).toContain('has no method "forward"')
  })

  test('foo9.pt: a residual network saved from a GPU, tapped everywhere', async () => {
    const model = await load('foo9.pt')
    expect(model.parameters().every(({ device }) => device === 'cpu')).toBe(true)
    const { arguments: inputs } = model.methods()[0]!
    expect(inputs.map(({ name }) => name)).toEqual(['s', 't'])
    expect(model.parameterCount()).toBe(172801)
    expect(model.calls()).toHaveLength(12)
    expect(model.calls().every(({ output }) => output === 'Tensor')).toBe(true)
  })

  test('l1000_100_10.script.dat: a scripted Sequential', async () => {
    const model = await load('l1000_100_10.script.dat')
    const summary = inspectScript(model, ['2,1000'])
    expect(summary.modules.map(({ path, type, parameters }) => [path, type, parameters])).toEqual([
      ['', 'Sequential', 101110],
      ['0', 'Sequential', 100100],
      ['0.0', 'Linear', 100100],
      ['0.1', 'ReLU', 0],
      ['1', 'Linear', 1010],
    ])
    expect(summary.output).toEqual([{ path: '', dtype: 'float32', shape: [2, 10] }])
    expect(summary.modules[1]!.taps).toEqual([[{ path: '0', dtype: 'float32', shape: [2, 100] }]])
  })

  test('tuple_out.dat: two tensors', async () => {
    const model = await load('tuple_out.dat')
    const result = model.forward(ones([2]), zeros([2])) as Tensor[]
    expect(result.map(tolist)).toHaveLength(2)
  })

  test('bug510.dat is not TorchScript', async () => {
    expect(await codeOfAsync(() => load('bug510.dat'))).toBe('ERR_FILE_FORMAT')
  })
})

describe.skipIf(reason)(`silero_vad_v5.jit, a speech model${reason}`, () => {
  let model: ScriptModule
  let chunk: Tensor
  beforeAll(async () => {
    model = await load('silero_vad_v5.jit')
    chunk = randn([1, 256]).mul(0.1)
  })
  const fresh = () => model.call('reset_states')

  test('features inside of the branch for 8 kHz, on a real forward', () => {
    const paths = model
      .calls()
      .filter(({ path, output }) => path.startsWith('_model_8k.') && output === 'Tensor')
      .map(({ path }) => path)
    expect(paths).toContain('_model_8k.encoder.0.reparam_conv')
    fresh()
    const plain = noGrad(() => model.forward(chunk, 8000) as Tensor)
    fresh()
    const { output, features } = noGrad(() =>
      captureFeatures(model, [...paths, '_model_8k[0]', '_model_8k[1]'], [chunk, 8000]),
    )
    expect(tolist(output)).toEqual(tolist(plain))
    expect((output as Tensor).shape).toEqual([1, 1])
    const conv = features['_model_8k.encoder.0.reparam_conv']!
    const activation = features['_model_8k.encoder.0.activation']!
    expect(tolist(conv.relu())).toEqual(tolist(activation))
    expect(tolist(features['_model_8k.encoder.0']!)).toEqual(tolist(activation))
    expect(tolist(features['_model_8k[0]']!)).toEqual(tolist(output))
  })

  test('for 16 kHz it is the other branch', () => {
    fresh()
    const audio = randn([1, 512]).mul(0.1)
    const { output, features } = noGrad(() => captureFeatures(model, ['_model[0]'], [audio, 16000]))
    expect(tolist(features['_model[0]']!)).toEqual(tolist(output))
    fresh()
    expect(errorOf(() => captureFeatures(model, ['_model_8k.stft'], [audio, 16000])).code).toBe(
      'ERR_UNKNOWN_LAYER',
    )
  })

  test('a layer whose code stands in that of another says so', () => {
    const error = errorOf(() => captureFeatures(model, ['_model_8k.encoder.1.reparam_conv'], [chunk, 8000]))
    expect(error.code).toBe('ERR_UNKNOWN_LAYER')
    expect(error.message).toContain('its code stands in that of another module')
  })

  test('it raises for a wrong rate, in its own words', () => {
    const error = errorOf(() => model.forward(chunk, 11025) as unknown)
    expect(error.code).toBe('ERR_SCRIPT')
    expect(error.message).toContain('Supported sampling rates')
  })

  test('is inspected, with the shape at every tap that runs', () => {
    fresh()
    const summary = inspectScript(model, ['1,256', '8000'])
    const encoder = summary.modules.find(({ path }) => path === '_model_8k.encoder.0')!
    expect(encoder.taps![0]![0]!.shape[0]).toBe(1)
    expect(summary.modules.find(({ path }) => path === '_model')!.taps).toEqual([])
    expect(summary.output).toEqual([{ path: '', dtype: 'float32', shape: [1, 1] }])
  })
})
