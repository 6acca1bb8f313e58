/**
 * Every module of torchvision's networks, scripted and traced, is tapped and compared with Python's hooks. Runs where
 * ALAMBIC_TORCHVISION_PYTHON names a Python with torch and torchvision; its models, 600 MB, go into build/.
 */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { attachFeatures, loadTorchScript, noGrad, scope } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { bytesOf, Expectation, makeModels } from './script.fixtures.js'

const executable = process.env['ALAMBIC_TORCHVISION_PYTHON']
const reason = executable ? '' : ' (ALAMBIC_TORCHVISION_PYTHON names no Python)'

const networks = ['resnet18', 'mobilenet_v2', 'densenet121', 'googlenet', 'efficientnet_b0']

/** Numbers that are equal where both sides have the same kernels. */
const tolerance = 1e-4

describe.skipIf(reason)(`torchvision's networks${reason}`, () => {
  const torch = executable
    ? spawnSync(executable, ['-c', 'import torch; print(torch.__version__)'], {
        encoding: 'utf8',
      }).stdout.trim()
    : ''
  const folder = executable ? makeModels({ executable, version: '', torch }, '--torchvision') : ''
  const isSameTorch = torch.split('+')[0] === native.systemInfo().torchVersion.split('+')[0]

  test.each(networks.flatMap(name => [[name, 'scripted'] as const, [name, 'traced'] as const]))(
    '%s, %s',
    { timeout: 300_000 },
    async (name, form) => {
      const expected = new Expectation(folder, `tv-${name}`)
      const model = await loadTorchScript(expected.file(form))
      model.requiresGrad(false)
      // Tracing leaves nothing of a module that gives back its input, as stochastic depth does in eval mode.
      const empty = new Set(
        model
          .calls()
          .filter(call => call.output === 'NoneType')
          .map(call => call.path),
      )
      const paths = Object.keys(expected.outputs).filter(path => path !== '' && !empty.has(path))
      for (const path of empty)
        expect(expected.outputs[path]![0]![''], path).toEqual(expected.given[path]![0]![''])
      using probe = attachFeatures(model, paths, { calls: 'all' })
      let [same, calls] = [0, 0]
      for (let run = 0; run < 2; run++)
        scope(() => {
          const { features } = noGrad(() => probe.forward(expected.makeInputs(form)))
          for (const path of paths) {
            const hooked = expected.outputs[path]!.map(call => call['']!)
            expect(features[path]!.length, path).toBe(hooked.length)
            hooked.forEach((entry, i) => {
              const feature = features[path]![i]!
              calls++
              if (bytesOf(feature).equals(expected.bytes(entry))) same++
              else {
                const wanted = expected.tensor(entry)
                const scale = wanted.abs().max().item()
                expect(feature.sub(wanted).abs().max().item() / scale, path).toBeLessThan(tolerance)
              }
            })
          }
        })
      console.log(
        `${name}, ${form}: ${paths.length} modules, ${calls} calls, ${same} of them bit for bit, ${empty.size} without output`,
      )
      if (isSameTorch) expect(same).toBe(calls)
    },
  )
})
