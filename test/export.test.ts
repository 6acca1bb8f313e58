import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findPython } from '../scripts/find-python.js'
import {
  attachFeatures,
  AttentionTransfer,
  captureFeatures,
  exportTorchScript,
  manualSeed,
  loadTorchScript,
  models,
  nn,
  noGrad,
  ones,
  randn,
  StudentWithFeatureExtraction,
  tensor,
  torch,
  type ExportOptions,
} from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { Tensor } from '../lib/tensors/tensor.js'
import { codeOfAsync } from './codes.js'

const directory = mkdtempSync(join(tmpdir(), 'alambic-export-'))
let count = 0

/** Exports into a new file and returns its path. */
async function exported(
  module: nn.Module,
  inputs: Tensor[],
  options: ExportOptions = {},
): Promise<{ path: string; warnings: string[] }> {
  const path = join(directory, `${count++}.pt`)
  const { warnings } = await exportTorchScript(module, inputs, path, { warn: null, ...options })
  return { path, warnings }
}

/** What a file with one output gives. */
function run(path: string, inputs: Tensor[]): Tensor {
  const handles = inputs.map(({ handle }) => handle)
  return new Tensor(native.runSavedModule(path, handles) as number)
}

beforeAll(() => manualSeed(0))
afterAll(() => rmSync(directory, { recursive: true }))

/** Everything that a module can return and share. */
class Everything extends nn.Module<[Tensor, Tensor], unknown> {
  stem = new nn.Sequential(new nn.Conv2d(3, 8, 3, { padding: 1 }), new nn.BatchNorm2d(8), new nn.ReLU())
  twice = new nn.Conv2d(8, 8, 3, { padding: 1 })
  again = this.twice
  head = new nn.Linear(8, 4)
  tied = new nn.Linear(8, 4)
  constructor() {
    super()
    this.tied.weight = this.head.weight
    this.registerBuffer('scale', tensor([2]))
    this.registerBuffer('offset', tensor([0.5]), { persistent: false })
  }
  override forward(x: Tensor, y: Tensor) {
    const stem = this.stem.forward(x)
    const features = this.again.forward(this.twice.forward(stem).relu()).relu()
    const pooled = features.mean([2, 3])
    const outputs = {
      a: this.head.forward(pooled).mul(this['scale' as never]),
      b: this.tied.forward(pooled).add(this['offset' as never]),
    }
    return [outputs, [stem, features], pooled.add(y)]
  }
}

describe('the file', () => {
  it('does what the module does, for other inputs too', async () => {
    const net = models.resnet20()
    const { path, warnings } = await exported(net, [randn([2, 3, 32, 32])])
    expect(warnings).toEqual([])
    const x = randn([5, 3, 32, 32])
    const expected = noGrad(() => net.eval().forward(x))
    expect(torch.equal(run(path, [x]), expected)).toBe(true)
  })

  it('has the features of every layer, though the module would overwrite some', async () => {
    const net = models.resnet8x4()
    const x = randn([2, 3, 16, 16])
    const script = await loadTorchScript((await exported(net, [x])).path)
    const paths = net
      .namedModules()
      .map(([path]) => path)
      .filter(path => path !== '')
    const expected = noGrad(() => captureFeatures(net.eval(), paths, x)).features
    const actual = noGrad(() => captureFeatures(script, paths, x)).features
    for (const path of paths) expect(torch.equal(actual[path]!, expected[path]!), path).toBe(true)
  })

  it('is frozen on request: batch norms are folded, and the output is the same up to rounding', async () => {
    const net = models.resnet20()
    const x = randn([2, 3, 32, 32])
    const { path } = await exported(net, [x], { freeze: true })
    const output = run(path, [x])
    expect(
      torch.allclose(
        output,
        noGrad(() => net.eval().forward(x)),
        { rtol: 1e-3, atol: 1e-4 },
      ),
    ).toBe(true)
  })

  it('is exported in eval mode unless training is asked for, and drops out then', async () => {
    const net = new nn.Dropout(0.5)
    const x = ones([64])
    expect(torch.equal(run((await exported(net, [x])).path, [x]), x)).toBe(true)
    expect(torch.equal(run((await exported(net, [x], { training: true })).path, [x]), x)).toBe(false)
  })

  it('holds no kernels that only Alambic has: attention maps become operators', async () => {
    class Attention extends nn.Module<[Tensor], Tensor> {
      override forward(x: Tensor) {
        return new AttentionTransfer().attentionMap(x)
      }
    }
    const x = randn([2, 4, 3, 3])
    const { path, warnings } = await exported(new Attention(), [x])
    expect(warnings).toEqual([expect.stringContaining("inputs of the examples' sizes only")])
    const output = run(path, [x])
    expect(torch.allclose(output, new AttentionTransfer().attentionMap(x))).toBe(true)
  })
})

describe('the module afterwards', () => {
  it('is as it was: modes, buffers, random numbers, hooks', async () => {
    const net = models.resnet20()
    net.layer2.eval()
    using probe = attachFeatures(net, ['layer1'])
    const modes = net.modules().map(({ training }) => training)
    const buffers = net.buffers().map(buffer => buffer.clone())
    await exported(
      net,
      [randn([2, 3, 8, 8])].map(x => x.detach()),
      { training: true },
    )
    expect(net.modules().map(({ training }) => training)).toEqual(modes)
    net.buffers().forEach((buffer, i) => expect(torch.equal(buffer, buffers[i]!)).toBe(true))
    expect(probe.forward(randn([1, 3, 8, 8])).features['layer1']!.shape).toEqual([1, 16, 8, 8])
    expect(captureFeatures(net, ['layer3'], randn([1, 3, 8, 8])).features['layer3']!.shape).toEqual([
      1, 64, 2, 2,
    ])
  })

  it('draws the random numbers that it would have drawn', async () => {
    manualSeed(3)
    const expected = randn([4])
    manualSeed(3)
    await exported(new nn.Dropout(0.5), [ones([8])], { training: true })
    expect(torch.equal(randn([4]), expected)).toBe(true)
  })
})

describe('choices that the file fixes', () => {
  it('are told: values that were read, with layer and place', async () => {
    class Gate extends nn.Module<[Tensor], Tensor> {
      override forward(x: Tensor) {
        return x.sum().item() > 0 ? x : x.neg()
      }
    }
    class Net extends nn.Module<[Tensor], Tensor> {
      gate = new Gate()
      override forward(x: Tensor) {
        const y = this.gate.forward(x)
        return (y.tolist() as number[])[0]! > 0 && torch.equal(y, x) ? y.mul(2) : y
      }
    }
    const { warnings } = await exported(new Net(), [ones([2])])
    expect(warnings).toEqual([
      expect.stringMatching(/the value that gate: item of float32 \(\) at .*export\.test\.ts:\d+:\d+ had$/),
      expect.stringMatching(/the value that toTypedArray of float32 \(2\) at .*export\.test\.ts/),
      expect.stringMatching(/the value that equal of float32 \(2\) at/),
      expect.stringMatching(/the value that equal of float32 \(2\) at/),
    ])
  })

  it('are told: sizes, where the file then fails for others, and only there', async () => {
    class Flat extends nn.Module<[Tensor], Tensor> {
      override forward(x: Tensor) {
        return x.reshape([x.size(0), -1])
      }
    }
    class Checked extends nn.Module<[Tensor], Tensor> {
      override forward(x: Tensor) {
        if (x.ndim !== 3) throw new Error('not here')
        return x.flatten({ startDim: 1 })
      }
    }
    const x = randn([2, 3, 4])
    expect((await exported(new Flat(), [x])).warnings).toEqual([
      "the file is for inputs of the examples' sizes only (float32 (2, 3, 4)): the forward reads sizes, and they are fixed",
    ])
    expect((await exported(new Checked(), [x])).warnings).toEqual([])
  })

  it('go to console.warn unless said otherwise', async () => {
    class Reads extends nn.Module<[Tensor], Tensor> {
      override forward(x: Tensor) {
        return x.mul(x.max().item())
      }
    }
    const lines: string[] = []
    await exportTorchScript(new Reads(), [ones([1])], join(directory, 'reads.pt'), {
      warn: line => lines.push(line),
    })
    expect(lines).toEqual([
      expect.stringMatching(/^exportTorchScript: the file always takes the value that item/),
    ])
  })
})

describe('what cannot be exported', () => {
  class Free extends nn.Module<[Tensor], Tensor> {
    private readonly hidden = [new nn.Linear(2, 2)]
    override forward(x: Tensor) {
      return this.hidden[0]!.forward(x)
    }
  }
  class Gradient extends nn.Module<[Tensor], Tensor> {
    override forward(x: Tensor) {
      x.sum().backward()
      return x
    }
  }
  class Text extends nn.Module<[Tensor], unknown> {
    override forward(x: Tensor) {
      return { x, name: 'x' }
    }
  }
  class Throws extends nn.Module<[Tensor], Tensor> {
    override forward(): Tensor {
      throw new RangeError('mine')
    }
  }
  const x = ones([1, 2])
  const path = join(directory, 'never.pt')

  it.each([
    ['parameters of modules that are no fields', new Free(), 'ERR_NOT_IMPLEMENTED'],
    ['gradients inside of the forward', new Gradient(), 'ERR_NOT_IMPLEMENTED'],
    ['outputs that are no tensors', new Text(), 'ERR_ARGUMENT'],
  ])('%s: %o', async (_, module, code) => {
    expect(await codeOfAsync(() => exportTorchScript(module, [x], path))).toBe(code)
  })

  it('passes on what the forward throws, and leaves no file and no recording', async () => {
    await expect(exportTorchScript(new Throws(), [x], path)).rejects.toThrow(RangeError)
    expect(readdirSync(directory).filter(name => name.includes('never'))).toEqual([])
    expect((await exported(new nn.Linear(2, 2), [x])).warnings).toEqual([])
  })

  it('says what is wrong with the arguments', async () => {
    const net = new nn.Linear(2, 2)
    expect(await codeOfAsync(() => exportTorchScript(net, [], path))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => exportTorchScript(net, [3 as never], path))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => exportTorchScript(net, [x], ''))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => exportTorchScript(net, [x], path, { freeze: true, training: true }))).toBe(
      'ERR_ARGUMENT',
    )
    expect(await codeOfAsync(() => exportTorchScript(net, [x], join(directory, 'no', 'x.pt')))).toBe(
      'ERR_FILE_NOT_FOUND',
    )
  })
})

const python = findPython()

describe.skipIf(typeof python === 'string')(
  `Python runs it${typeof python === 'string' ? ` (skipped: ${python})` : ''}`,
  () => {
    const script = fileURLToPath(new URL('reference/run_torchscript.py', import.meta.url))
    interface Answer {
      tensors: { shape: number[]; data: number[] }[]
      structure: unknown
      keys: string[]
      modules: string[]
      distinct_parameters: number
      training: boolean
    }

    function inPython(path: string, inputs: Tensor[]): Answer {
      if (typeof python === 'string') throw new Error(python)
      const request = {
        file: path,
        inputs: inputs.map(each => ({
          shape: each.shape,
          data: Array.from(each.toTypedArray() as Float32Array),
        })),
      }
      const { stdout, stderr, status } = spawnSync(python.executable, ['-W', 'ignore', script], {
        input: JSON.stringify(request),
        encoding: 'utf8',
        maxBuffer: 1 << 28,
      })
      if (status !== 0) throw new Error(stderr)
      return JSON.parse(stdout) as Answer
    }

    it('with equal outputs, structure, state-dict keys, layers and shared parameters', async () => {
      const net = new Everything()
      const inputs = [randn([2, 3, 8, 8]), randn([2, 8])]
      const { path } = await exported(net, inputs)
      const answer = inPython(path, inputs)
      expect(answer.structure).toEqual([{ a: 'tensor', b: 'tensor' }, ['tensor', 'tensor'], 'tensor'])
      expect(answer.keys).toEqual(Object.keys(net.stateDict()))
      expect(answer.modules).toEqual(
        expect.arrayContaining(['', 'stem', 'stem.0', 'stem.1', 'twice', 'head', 'tied']),
      )
      expect(answer.distinct_parameters).toBe(net.parameters().length)
      expect(answer.training).toBe(false)

      const [dict, list, last] = noGrad(() => net.eval().forward(inputs[0]!, inputs[1]!)) as [
        Record<string, Tensor>,
        Tensor[],
        Tensor,
      ]
      const expected = [dict['a']!, dict['b']!, ...list, last]
      expected.forEach((each, i) => {
        expect(answer.tensors[i]!.shape).toEqual(each.shape)
        expect(answer.tensors[i]!.data).toEqual(Array.from(each.toTypedArray() as Float32Array))
      })
    })

    it('frozen too, and a StudentWithFeatures', async () => {
      const net = new StudentWithFeatureExtraction()
      const x = randn([2, 3, 32, 32])
      const frozen = inPython((await exported(net, [x], { freeze: true })).path, [x])
      const whole = inPython((await exported(net, [x])).path, [x])
      expect(frozen.keys).toEqual([])
      expect(whole.keys).toEqual(Object.keys(net.stateDict()))
      const expected = Array.from(noGrad(() => net.eval().forward(x)).toTypedArray() as Float32Array)
      expect(whole.tensors[0]!.data).toEqual(expected)
      frozen.tensors[0]!.data.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4))
    })
  },
)
