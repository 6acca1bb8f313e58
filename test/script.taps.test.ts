/* eslint-disable @typescript-eslint/no-unsafe-assignment -- what a file gives has no type here */
/** Features inside TorchScript files: what Python's forward hooks see on the eager model. */
import { beforeAll, describe, expect, test } from 'vitest'
import {
  attachFeatures,
  captureFeatures,
  loadTorchScript,
  type ScriptModule,
  type Tensor,
} from '../lib/index.js'
import { valueAt } from '../lib/nn/feature-path.js'
import { device, isOnGpu } from './device.js'
import { bytesOf, Expectation, findModels, type Entry } from './script.fixtures.js'

const models = findModels()
const folder = 'folder' in models ? models.folder : ''
const reason = 'reason' in models ? ` (no Python with this libtorch: ${models.reason})` : ''

const names = [
  'residual',
  'inception',
  'branches',
  'branches-negative',
  'shared',
  'stages',
  'structured',
  'delegating',
]
/** What tracing flattens is compared in a test of its own. */
const traceable = new Set(['residual', 'inception', 'shared', 'stages', 'delegating'])
const files = names.flatMap(name =>
  traceable.has(name)
    ? [[name, 'scripted'] as const, [name, 'traced'] as const]
    : [[name, 'scripted'] as const],
)

function hookedPaths(expected: Expectation, kind: 'outputs' | 'given'): string[] {
  return Object.entries(expected[kind]).flatMap(([path, calls]) =>
    Object.keys(calls[0]!).map(steps => path + steps),
  )
}

function expectedAt(expected: Expectation, kind: 'outputs' | 'given', text: string): Entry[] {
  const [path, steps] = splitPath(text)
  return expected[kind][path]!.map(call => call[steps]!)
}

function inputsOf(expected: Expectation, form: string): (Tensor | number)[] {
  return expected.makeInputs(form).map(each => (typeof each === 'number' ? each : each.to(device)))
}

/** Python saw it on the CPU: there every bit is the same. */
function isSame(actual: Tensor, expected: Expectation, entry: Entry): boolean {
  if (!isOnGpu) return expected.bytes(entry).equals(bytesOf(actual))
  const [ours, theirs] = [actual.cpu().to('float64'), expected.tensor(entry).to('float64')]
  return ours.sub(theirs).abs().max().item() <= 1e-4 * Math.max(theirs.abs().max().item(), 1e-3)
}

function splitPath(text: string): [string, string] {
  const at = text.indexOf('[')
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at)]
}

describe.skipIf(reason)(`taps of TorchScript${reason}`, () => {
  describe.each(files)('%s, %s', (name, form) => {
    let expected: Expectation
    let model: ScriptModule

    beforeAll(async () => {
      expected = new Expectation(folder, name)
      model = await loadTorchScript(expected.file(form), { device })
    })

    test.each(['outputs', 'given'] as const)(
      'every call of every module is seen as a Python hook sees it: %s',
      kind => {
        const paths = hookedPaths(expected, kind)
        expect(paths.length).toBeGreaterThan(2)
        using probe = attachFeatures(model, paths, {
          calls: 'all',
          io: kind === 'given' ? 'input' : 'output',
        })
        // The second and third runs are those of the profiled and optimized graph.
        for (let run = 0; run < 3; run++) {
          const { output, features } = probe.forward(inputsOf(expected, form))
          for (const path of paths) {
            const seen = features[path]!
            expect(seen.length, path).toBe(expectedAt(expected, kind, path).length)
            expectedAt(expected, kind, path).forEach((entry, i) =>
              expect(isSame(seen[i]!, expected, entry), `${path}, call ${i}, run ${run}`).toBe(true),
            )
          }
          for (const [steps, entry] of Object.entries(expected.output))
            expect(isSame(valueAt(output, stepsIn(steps)) as Tensor, expected, entry)).toBe(true)
        }
      },
    )

    test('gradients flow through the taps as through the hooked values', () => {
      const paths = hookedPaths(expected, 'outputs')
      using probe = attachFeatures(model, paths, { calls: 'all' })
      for (let run = 0; run < 3; run++) {
        model.zeroGrad()
        const inputs = inputsOf(expected, form)
        const x = inputs[0] as Tensor
        x.requiresGrad = true
        const { features } = probe.forward(inputs)
        const terms = paths.flatMap(path => features[path]!.map(each => each.to('float64').square().mean()))
        terms.reduce((sum, term) => sum.add(term)).backward()
        const gradients = new Map(model.namedParameters().map(([key, parameter]) => [key, parameter.grad]))
        gradients.set('input', x.grad)
        for (const [key, entry] of Object.entries(expected.gradients))
          expectClose(gradients.get(key)!, expected.tensor(entry), `${key}, run ${run}`)
      }
    })

    test('attaching leaves the model and its results alone', () => {
      const before = model.code()
      captureFeatures(
        model,
        [Object.keys(expected.outputs)[1]! + firstSteps(expected)],
        inputsOf(expected, form),
      )
      expect(model.code()).toBe(before)
      const output = model.forward(...inputsOf(expected, form))
      for (const [steps, entry] of Object.entries(expected.output))
        expect(isSame(valueAt(output, stepsIn(steps)) as Tensor, expected, entry)).toBe(true)
    })
  })

  test('tuples and dicts that tracing flattened hold what the hooks saw', async () => {
    const expected = new Expectation(folder, 'structured')
    const model = await loadTorchScript(expected.file('traced'), { device })
    const calls = model.calls()
    expect(calls.map(({ path }) => path)).toEqual(['lstm', 'halves', 'joined', 'scores', 'scores.fc'])
    const paths = calls.flatMap(({ path, outputs }) => outputs.map(steps => path + steps))
    expect(paths).toHaveLength(9)
    const { features } = captureFeatures(model, paths, inputsOf(expected, 'traced'))
    for (const path of paths) {
      const hooked = Object.values(expected.outputs[splitPath(path)[0]]![0]!)
      expect(
        hooked.some(entry => isLike(features[path]!, entry) && isSame(features[path]!, expected, entry)),
        path,
      ).toBe(true)
    }
  })
})

function isLike({ shape }: Tensor, entry: Entry): boolean {
  return String(shape) === String(entry.shape)
}

function firstSteps(expected: Expectation): string {
  return Object.keys(Object.values(expected.outputs)[1]![0]!)[0]!
}

function stepsIn(text: string): string[] {
  return Array.from(text.matchAll(/\[([^\]]+)\]/g), match => match[1]!)
}

function expectClose(actual: Tensor, expected: Tensor, what: string): void {
  const scale = Math.max(expected.abs().max().item(), 1e-6)
  const difference = actual.cpu().sub(expected).abs().max().item()
  expect(difference / scale, what).toBeLessThan(isOnGpu ? 1e-4 : 1e-5)
}
