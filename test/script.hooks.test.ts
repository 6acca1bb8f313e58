/* eslint-disable @typescript-eslint/no-unsafe-assignment -- what a file gives has no type here */
/** Hooks that change what they see, frozen models, one model inside of another, and paths that lead nowhere. */
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  attachFeatures,
  captureFeatures,
  loadTorchScript,
  manualSeed,
  nn,
  noGrad,
  type ScriptModule,
  type Tensor,
} from '../lib/index.js'
import { codeOfAsync } from './codes.js'
import { device, isOnGpu, randn, zeros } from './device.js'
import { errorOf } from './nn.fixtures.js'
import { bytesOf, Expectation, findModels } from './script.fixtures.js'

const models = findModels()
const folder = 'folder' in models ? models.folder : ''
const reason = 'reason' in models ? ` (no Python with this libtorch: ${models.reason})` : ''
const load = (name: string) => loadTorchScript(join(folder, `${name}.pt`), { device })
const values = (tensor: Tensor) => tensor.tolist()

function expectEqual(actual: Tensor, expected: Tensor, tolerance = 0): void {
  expect(actual.shape).toEqual(expected.shape)
  expect(actual.sub(expected.to(device)).abs().max().item()).toBeLessThanOrEqual(tolerance)
}

class Tower extends nn.Module<[Tensor], Tensor> {
  first = new nn.Linear(5, 5)
  second = new nn.Linear(5, 5)

  override forward(x: Tensor): Tensor {
    return this.second.forward(this.first.forward(x))
  }
}

describe('replacing values of a module in TypeScript', () => {
  const tower = new Tower().to(device)
  const x = randn([2, 5])

  test('the model goes on with what the callback returns, and that is the feature', () => {
    const { output, features } = captureFeatures(tower, ['first'], x, { replace: value => value.mul(2) })
    expectEqual(features['first']!, tower.first.forward(x).mul(2))
    expectEqual(output, tower.second.forward(tower.first.forward(x).mul(2)))
  })

  test('with io: input the layer is given it, and no other', () => {
    const { output } = captureFeatures(tower, ['second'], x, { io: 'input', replace: value => value.add(1) })
    expectEqual(output, tower.second.forward(tower.first.forward(x).add(1)))
  })

  test('a callback that returns nothing only looks, and is told where it is', () => {
    const seen: unknown[] = []
    const twice = new nn.Sequential(tower, tower)
    const { output } = captureFeatures(twice, ['0.first', '0'], x, {
      replace: (_, site) => {
        seen.push({ ...site })
      },
    })
    expectEqual(output, tower.forward(tower.forward(x)))
    expect(seen).toEqual([
      { path: '0.first', call: 0 },
      { path: '0', call: 0 },
      { path: '0.first', call: 1 },
      { path: '0', call: 1 },
    ])
  })

  test('gradients flow through the replacement', () => {
    tower.zeroGrad()
    const { output } = captureFeatures(tower, ['first'], x, { replace: value => value.mul(0) })
    output.sum().backward()
    expect(tower.first.weight.grad!.abs().sum().item()).toBe(0)
    expect(tower.second.bias!.grad!.abs().sum().item()).toBeGreaterThan(0)
  })

  test('what is no tensor, and no function, is refused', () => {
    const wrong = { replace: () => 3 as unknown as Tensor }
    expect(errorOf(() => captureFeatures(tower, ['first'], x, wrong)).code).toBe('ERR_ARGUMENT')
    const none = { replace: 3 as unknown as () => Tensor }
    expect(errorOf(() => captureFeatures(tower, ['first'], x, none)).code).toBe('ERR_ARGUMENT')
  })

  test('one of several tensors can be named, and replaced', () => {
    class Pair extends nn.Module<[Tensor], Tensor> {
      split = new (class extends nn.Module<[Tensor], { parts: [Tensor, Tensor]; more: Map<number, Tensor> }> {
        override forward(x: Tensor) {
          return { parts: [x, x.mul(2)] as [Tensor, Tensor], more: new Map([[7, x.mul(3)]]) }
        }
      })()
      override forward(x: Tensor): Tensor {
        const { parts, more } = this.split.forward(x)
        return parts[0].add(parts[1]).add(more.get(7)!)
      }
    }
    const pair = new Pair()
    const paths = ['split[parts][1]', 'split[more][7]']
    const { features, output } = captureFeatures(pair, paths, x, { replace: value => value.mul(10) })
    expectEqual(features[paths[0]!]!, x.mul(20))
    expectEqual(output, x.add(x.mul(20)).add(x.mul(30)), 1e-4)
    expect(errorOf(() => captureFeatures(pair, ['split'], x)).message).toContain('split[0] or split[key]')
    expect(errorOf(() => captureFeatures(pair, ['split[parts'], x)).code).toBe('ERR_ARGUMENT')
  })
})

describe.skipIf(reason)(`replacing values inside TorchScript${reason}`, () => {
  let shared: ScriptModule
  let x: Tensor
  beforeAll(async () => {
    shared = await load('shared.scripted')
    x = randn([3, 5])
  })
  /** What the file's code does. */
  const byHand = (edit: (value: Tensor, call: number) => Tensor) => {
    const inner = shared.getSubmodule('inner')
    const run = (value: Tensor, call: number) => edit(inner.forward(value) as Tensor, call)
    return run(run(run(x, 0), 1).mul(2), 2)
  }

  test('each call sees its replacement', () => {
    const edit = (value: Tensor, call: number) => value.add(call + 1)
    const { output, features } = captureFeatures(shared, ['inner'], x, {
      calls: 'all',
      replace: (value, { call }) => edit(value, call),
    })
    expectEqual(output as Tensor, byHand(edit))
    expect(features['inner']).toHaveLength(3)
    expectEqual(features['inner']![2]!, output as Tensor)
  })

  test('only a call for which a tensor is returned changes', () => {
    const replace = (value: Tensor, { call }: { call: number }) => (call === 1 ? value.mul(3) : undefined)
    using probe = attachFeatures(shared, ['inner'], { replace })
    for (let run = 0; run < 3; run++)
      expectEqual(
        probe.forward(x).output as Tensor,
        byHand((value, call) => (call === 1 ? value.mul(3) : value)),
      )
    probe.detach()
    expectEqual(
      shared.forward(x) as Tensor,
      byHand(value => value),
    )
  })

  test('gradients flow through the replacement', () => {
    const given = x.detach()
    given.requiresGrad = true
    const { output } = captureFeatures(shared, ['inner.0'], given, { replace: value => value.mul(0) })
    ;(output as Tensor).sum().backward()
    expect(given.grad!.abs().sum().item()).toBe(0)
  })

  test('inputs of one layer are replaced for it alone', async () => {
    const residual = await load('residual.scripted')
    const image = randn([1, 3, 8, 8])
    const seen = captureFeatures(residual, ['layer1.0', 'layer1.0.conv1'], image).features
    using probe = attachFeatures(residual, ['layer1.0.conv1'], {
      io: 'input',
      replace: value => value.mul(0),
    })
    const { output } = captureFeatures(residual, ['layer1.0', 'layer1.0.conv1'], image)
    expect(values(output as Tensor)).toEqual(values(residual.forward(image) as Tensor)) // not the other probe's forward
    const edited = probe.forward(image)
    expect(edited.features['layer1.0.conv1']!.abs().sum().item()).toBe(0)
    expect(values(edited.output as Tensor)).not.toEqual(values(output as Tensor))
    expect(seen['layer1.0.conv1']!.abs().sum().item()).toBeGreaterThan(0)
  })

  test('one tensor of a tuple, named or not, and of a dict', async () => {
    const structured = (await load('structured.scripted')).eval()
    const sequence = randn([2, 5, 6])
    const replace = (value: Tensor) => zeros(value.shape)
    const paths = ['halves[right]', 'scores[logits]']
    const { output } = captureFeatures(structured, paths, sequence, { replace })
    const { logits, norm } = output as Record<string, Tensor>
    expect(logits!.abs().sum().item()).toBe(0)
    expect(norm!.abs().sum().item()).toBeGreaterThan(0)
    const cell = captureFeatures(structured, ['lstm[1][1]'], sequence, { replace })
    expect(values((cell.output as Record<string, Tensor>)['logits']!)).not.toEqual(
      values((structured.forward(sequence) as Record<string, Tensor>)['logits']!),
    )
  })

  test('an exception of the callback comes through as it is', () => {
    const boom = new RangeError('boom')
    const replace = () => {
      throw boom
    }
    expect(() => captureFeatures(shared, ['inner'], x, { replace })).toThrow(boom)
    expectEqual(
      shared.forward(x) as Tensor,
      byHand(value => value),
    )
  })

  test('a callback may itself capture', () => {
    const replace = (value: Tensor) => captureFeatures(shared, ['inner.0'], value).features['inner.0']
    const { output } = captureFeatures(shared, ['inner'], x, { replace })
    const linear = shared.getSubmodule('inner.0')
    // Its own capture runs the whole model on what inner gave; the last of its inner.0 takes the place.
    const inner = (value: Tensor) => shared.getSubmodule('inner').forward(value) as Tensor
    const expected = byHand(value => linear.forward(inner(inner(value)).mul(2)) as Tensor)
    expectEqual(output as Tensor, expected, 1e-6)
  })

  test('does not go together with forwardAsync', async () => {
    using probe = attachFeatures(shared, ['inner'], { replace: value => value })
    expect(await codeOfAsync(() => probe.forwardAsync(x))).toBe('ERR_ARGUMENT')
  })
})

describe.skipIf(reason)(`probes of TorchScript${reason}`, () => {
  test('several at once see their own forwards only', async () => {
    const shared = await load('shared.scripted')
    const x = randn([2, 5])
    using all = attachFeatures(shared, ['inner', 'inner.0'], { calls: 'all' })
    using inputs = attachFeatures(shared, ['inner'], { io: 'input', calls: 'all' })
    expect(all.forward(x).features['inner']).toHaveLength(3)
    const given = inputs.forward(x).features['inner']!
    expectEqual(given[0]!, x)
    expectEqual(given[1]!, all.forward(x).features['inner']![0]!)
    all.detach()
    expect(inputs.forward(x).features['inner']).toHaveLength(3)
  })

  test('forwardAsync gives the same, also when calls overlap', async () => {
    const shared = await load('shared.scripted')
    using probe = attachFeatures(shared, ['inner'], { calls: 'all' })
    const inputs = [randn([2, 5]), randn([2, 5]), randn([2, 5])]
    const results = await Promise.all(inputs.map(x => probe.forwardAsync(x)))
    results.forEach(({ output, features }, i) => {
      const expected = probe.forward(inputs[i]!)
      expectEqual(output as Tensor, expected.output as Tensor)
      expect(features['inner']!.map(values)).toEqual(expected.features['inner']!.map(values))
    })
  })

  test('methods other than forward', async () => {
    const late = await load('late')
    const x = randn([2, 4])
    const { output, features } = captureFeatures(late, ['declared.fc'], x, { method: 'encode' })
    expectEqual(output as Tensor, features['declared.fc']!.relu())
    expect(errorOf(() => captureFeatures(late, ['fc'], x, { method: 'encode' })).message).toContain(
      'the layer "fc" of Late is never called by encode; it calls declared, declared.fc',
    )
  })

  test('the model itself is the empty path', async () => {
    const shared = await load('shared.traced')
    const x = randn([2, 5])
    const { output, features } = captureFeatures(shared, [''], x)
    expect(features['']).toBe(output)
    expect(captureFeatures(shared, [''], x, { io: 'input' }).features['']).toBe(x)
    using probe = attachFeatures(shared, ['', 'inner'])
    const later = await probe.forwardAsync(x)
    expect(later.features['']).toBe(later.output)
  })
})

describe.skipIf(reason)(`TorchScript inside of TypeScript${reason}`, () => {
  test('paths go through, with gradients, and training reaches both', async () => {
    class Whole extends nn.Module<[Tensor], Tensor> {
      head = new nn.Linear(5, 2)
      constructor(readonly backbone: ScriptModule<[Tensor], Tensor>) {
        super()
      }
      override forward(x: Tensor): Tensor {
        return this.head.forward(this.backbone.forward(x))
      }
    }
    const file = join(folder, 'shared.scripted.pt')
    const whole = new Whole(await loadTorchScript<[Tensor], Tensor>(file)).to(device)
    const x = randn([2, 5])
    expect(whole.namedParameters().map(([path]) => path)).toContain('backbone.inner.0.weight')
    const paths = ['backbone.inner.0', 'backbone', 'head']
    const { output, features } = captureFeatures(whole, paths, x, { calls: 'all' })
    expect(Object.values(features).map(list => list.length)).toEqual([3, 1, 1])
    expectEqual(features['head']![0]!, output)
    features['backbone.inner.0']![2]!.sum().backward()
    expect(whole.backbone.parameters()[0]!.grad).not.toBeNull()
    expect(errorOf(() => captureFeatures(whole, ['backbone.iner'], x)).message).toContain(
      'Shared has no layer "iner"; near names: inner',
    )
    expect(errorOf(() => captureFeatures(whole, ['head.nope.x'], x)).message).toContain('"head.nope.x"')
  })
})

describe.skipIf(reason)(`frozen models${reason}`, () => {
  const paths = ['stem', 'layer1.0', 'layer2.0.relu', 'layer2.1.bn2', 'pool']

  test.each([
    ['residual.scripted', 'freeze'],
    ['residual.traced', 'freeze'],
    ['residual.scripted', 'optimizeForInference'],
    ['residual.traced', 'optimizeForInference'],
  ] as const)('%s after %s: taps stay, and the results', async (name, how) => {
    const model = await load(name)
    const expected = new Expectation(folder, 'residual')
    const frozen = await model[how]({ features: paths })
    const inputs = expected.makeInputs('traced').map(each => (each as Tensor).to(device))
    const tolerance = isOnGpu ? 1e-4 : 1e-5 // Python ran on the CPU
    expect(frozen.parameters()).toEqual([])
    for (let run = 0; run < 3; run++) {
      const { output, features } = noGrad(() => captureFeatures(frozen, paths, inputs, { calls: 'all' }))
      expectEqual(output as Tensor, expected.tensor(expected.output['']!), tolerance)
      for (const path of paths) {
        const hooked = expected.outputs[path]!.map(call => expected.tensor(call['']!))
        expect(features[path]).toHaveLength(hooked.length)
        features[path]!.forEach((feature, i) => expectEqual(feature, hooked[i]!, tolerance))
      }
    }
    expectEqual(frozen.forward(inputs[0]) as Tensor, expected.tensor(expected.output['']!), tolerance)
  })

  test('freezing without features changes no result more than with', async () => {
    const model = await load('residual.scripted')
    const x = randn([2, 3, 12, 12])
    const [without, with_] = [await model.freeze(), await model.freeze({ features: ['layer1'] })]
    expect(bytesOf(without.forward(x) as Tensor).equals(bytesOf(with_.forward(x) as Tensor))).toBe(true)
  })

  test('inputs, tensors of tuples, and replacing', async () => {
    const structured = await load('structured.scripted')
    const x = randn([2, 5, 6])
    const frozen = await structured.freeze({ features: ['lstm[0]', 'halves[left]'] })
    const { features } = captureFeatures(frozen, ['halves[left]'], x, { replace: value => value.mul(0) })
    expect(features['halves[left]']!.abs().sum().item()).toBe(0)
    const inputs = await structured.freeze({ features: ['joined[0][1]'], io: 'input' })
    expectEqual(
      captureFeatures(inputs, ['joined[0][1]'], x, { io: 'input' }).features['joined[0][1]']!,
      captureFeatures(structured, ['halves[right]'], x).features['halves[right]']!,
      1e-6,
    )
  })

  test('what was not kept says so', async () => {
    const frozen = await (await load('residual.scripted')).freeze({ features: ['layer1'] })
    const error = errorOf(() => captureFeatures(frozen, ['layer2'], randn([1, 3, 8, 8])))
    expect([error.code, error.message]).toEqual([
      'ERR_UNKNOWN_LAYER',
      'captureFeatures: this Residual was frozen without "layer2"; it kept layer1 (output): name it in freeze({ features })',
    ])
    expect(
      errorOf(() => captureFeatures(frozen, ['layer1'], randn([1, 3, 8, 8]), { io: 'input' })).code,
    ).toBe('ERR_UNKNOWN_LAYER')
  })

  test('training mode, a second time, and saving with taps are refused', async () => {
    const student = await load('student')
    expect(await codeOfAsync(() => student.freeze())).toBe('ERR_ARGUMENT')
    const frozen = await student.eval().freeze({ features: ['conv1'] })
    expect(await codeOfAsync(() => frozen.freeze())).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => frozen.save('never.pt'))).toBe('ERR_ARGUMENT')
    expect(await codeOfAsync(() => student.freeze({ features: ['conv9'] }))).toBe('ERR_UNKNOWN_LAYER')
  })

  test('other methods are kept when they are named', async () => {
    const calls = (await load('calls')).eval()
    const kept = await calls.freeze({ preserve: ['named'] })
    expect(kept.methods().map(({ name }) => name)).toEqual(['forward', 'named'])
    expect(kept.call('named', 1, { b: 2 })).toBe(201)
    expect(errorOf(() => kept.call('big', 1)).code).toBe('ERR_ARGUMENT')
  })

  test('what libtorch cannot freeze is an error', async () => {
    const late = (await load('late')).eval()
    expect(await codeOfAsync(() => late.freeze())).toBe('ERR_OPERATOR')
  })
})

describe.skipIf(reason)(`paths that can't be captured say why${reason}`, () => {
  let late: ScriptModule
  beforeAll(async () => {
    manualSeed(1)
    late = await load('late')
  })

  test.each([
    ['declred.fc', 'Late has no layer "declred.fc"; near names: declared.fc'],
    ['forked', 'the layer "forked" of Late runs inside a torch.jit.fork, in another thread'],
    [
      'choices.0.fc',
      'the layer "choices.0.fc" of Late is picked by an index that is known only when the model runs',
    ],
    ['choices', 'the layer "choices" of Late is picked by an index that is known only when the model runs'],
  ])('%s', (path, message) => {
    const error = errorOf(() => captureFeatures(late, [path], randn([1, 4])))
    expect(error.code).toBe('ERR_UNKNOWN_LAYER')
    expect(error.message).toContain(message)
    expect(values(late.forward(zeros([1, 4])) as Tensor)).toBeTruthy()
  })

  test.each([
    ['stages', 'the layer "stages" of Stages only holds others, forward does not call it; it calls stages.0, stages.1, stages.2'], // prettier-ignore
    ['unused', 'the layer "unused" of Stages is never called by forward; it calls stages.0, stages.1'],
  ])('%s', async (path, message) => {
    const stages = await load('stages.scripted')
    const error = errorOf(() => attachFeatures(stages, [path]))
    expect([error.code, error.message]).toEqual(['ERR_UNKNOWN_LAYER', expect.stringContaining(message)])
  })

  test.each([
    [
      'output',
      'lstm',
      'got Tuple[Tensor, Tuple[Tensor, Tensor]]; name a tensor inside: lstm[0], lstm[1][0], lstm[1][1]',
    ],
    ['output', 'lstm[7]', 'got nothing: it is Tuple'],
    ['output', 'scores', 'got Dict[str, Tensor]; name a tensor inside: scores[key]'],
    [
      'input',
      'joined',
      'among the inputs of "joined", got (List[Tensor], float); name a tensor inside: joined[0][0]',
    ],
    ['input', 'joined[1]', 'expected the input of "joined[1]" to be a tensor, got float; it holds none'],
    ['input', 'joined[4]', '"joined" has 2 inputs, not 5'],
  ] as const)('the %s of %s', async (io, path, message) => {
    const structured = await load('structured.scripted')
    const error = errorOf(() => attachFeatures(structured, [path], { io }))
    expect([error.code, error.message]).toEqual(['ERR_ARGUMENT', expect.stringContaining(message)])
  })

  test('a key that the dict does not have', async () => {
    const structured = await load('structured.scripted')
    const error = errorOf(() => captureFeatures(structured, ['scores[nope]'], randn([1, 5, 6])))
    expect(error.message).toContain('expected the output of "scores[nope]" to be a tensor, got undefined')
  })

  test('a layer in the branch that did not run', async () => {
    const branches = await load('branches.scripted')
    const positive = randn([2, 6]).abs()
    expect(captureFeatures(branches, ['positive'], positive).features['positive']!.shape).toEqual([2, 6])
    expect(errorOf(() => captureFeatures(branches, ['negative'], positive)).message).toBe(
      'captureFeatures: the forward of Branches did not call the layer "negative"',
    )
  })
})
