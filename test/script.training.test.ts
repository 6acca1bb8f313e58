/** TorchScript as teacher and as student in every loop. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  attachFeatures,
  AttentionTransfer,
  data,
  evaluate,
  FeatureDistillationLoss,
  loadTorchScript,
  LogitsDistillationLoss,
  manualSeed,
  memory,
  nn,
  noGrad,
  randn,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  trainWithLogitsDistillation,
  type Tensor,
} from '../lib/index.js'
import { findPython } from '../scripts/find-python.js'
import { device } from './device.js'
import { makeModels } from './script.fixtures.js'

const python = findPython()
const folder = typeof python === 'string' ? '' : makeModels(python)
const reason = typeof python === 'string' ? ` (no Python with this libtorch: ${python})` : ''
const load = (name: string) => loadTorchScript<[Tensor], Tensor>(join(folder, `${name}.pt`), { device })

/** Ten classes of 12×12 images: a bright spot in one of ten places. */
function makeData(count: number, seed: number): data.TensorDataset {
  manualSeed(seed)
  const labels = Array.from({ length: count }, (_, i) => i % 10)
  const images = randn([count, 3, 12, 12]).mul(0.3)
  labels.forEach((label, i) => images.at(i, label % 3, 3 * (label % 4)).add_(2 + Math.floor(label / 4)))
  return new data.TensorDataset(images, tensor(labels, { dtype: 'int64' }))
}

const train = () => new data.DataLoader(makeData(160, 1), { batchSize: 20, shuffle: true, seed: 5 })
const validation = () => new data.DataLoader(makeData(80, 2), { batchSize: 20 })
const options = { epochs: 5, lr: 1e-2, log: null } as const

class Student extends nn.Module<[Tensor], Tensor> {
  stem = new nn.Sequential(new nn.Conv2d(3, 4, 3, { padding: 1 }), new nn.ReLU())
  next = new nn.Sequential(new nn.Conv2d(4, 8, 3, { padding: 1, stride: 2 }), new nn.ReLU())
  fc = new nn.Linear(8, 10)
  override forward(x: Tensor): Tensor {
    return this.fc.forward(this.next.forward(this.stem.forward(x)).mean([2, 3]))
  }
}

describe.skipIf(reason)(`training with TorchScript${reason}`, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'alambic-training-'))
  afterAll(() => rmSync(scratch, { recursive: true }))

  test('a scripted student of Python is trained here, and Python goes on with it', async () => {
    manualSeed(3)
    const student = await load('student')
    const before = await evaluate(student, validation())
    const { history } = await trainClassifier(student, train(), validation(), { ...options, epochs: 12 })
    expect(history.at(-1)!.accuracy!).toBeGreaterThan(Math.max(before, 60))
    student.eval()
    await student.save(join(scratch, 'student.pt'))
    const x = makeData(10, 7).batch([0, 1, 2, 3, 4]).data.to(device)
    const ours = noGrad(() => student.forward(x))
    writeFileSync(join(scratch, 'x.bin'), x.toTypedArray())
    const program = [
      'import sys, json, torch',
      'x = torch.frombuffer(bytearray(open(sys.argv[2], "rb").read()), dtype=torch.float32).reshape(5, 3, 12, 12)',
      'model = torch.jit.load(sys.argv[1])',
      'print(json.dumps([model.training, model(x).flatten().tolist()]))',
    ].join('\n')
    const { executable } = python as { executable: string }
    const args = ['-W', 'ignore', '-c', program, join(scratch, 'student.pt'), join(scratch, 'x.bin')]
    const { stdout, stderr } = spawnSync(executable, args, { encoding: 'utf8' })
    expect(stdout, stderr).not.toBe('')
    const [training, theirs] = JSON.parse(stdout) as [boolean, number[]]
    expect(training).toBe(false)
    const difference = Array.from(ours.toTypedArray() as Float32Array, (value, i) =>
      Math.abs(value - theirs[i]!),
    )
    expect(Math.max(...difference)).toBeLessThan(1e-5)
  })

  test.each([
    ['mean squared error', new FeatureDistillationLoss({ alpha: 0.5 })],
    ['cosine', new FeatureDistillationLoss({ alpha: 0.5, criterion: 'cosine' })],
    ['attention', new AttentionTransfer({ alpha: 0.5 })],
  ])('a TypeScript student learns from features inside a TorchScript teacher: %s', async (_, loss) => {
    manualSeed(4)
    const teacher = await load('residual.scripted')
    const student = new Student().to(device)
    const weights = teacher.parameters().map(parameter => parameter.sum().item())
    const { history, adaptation } = await trainWithFeatureDistillation(
      teacher,
      student,
      train(),
      validation(),
      {
        ...options,
        loss,
        featureLayers: [
          { student: 'stem', teacher: 'stem' },
          { student: 'next', teacher: 'layer2.0.conv1' },
        ],
      },
    )
    expect(history.at(-1)!.loss).toBeLessThan(history[0]!.loss)
    expect(adaptation.length).toBe(loss instanceof AttentionTransfer ? 0 : 2)
    expect(teacher.training).toBe(false)
    expect(teacher.parameters().map(parameter => parameter.sum().item())).toEqual(weights)
    expect(teacher.parameters().every(parameter => parameter.grad === null)).toBe(true)
  })

  test('a TorchScript student learns from a TorchScript teacher, by features and by logits', async () => {
    manualSeed(5)
    const teacher = await load('residual.traced')
    const student = await load('student')
    const byFeatures = await trainWithFeatureDistillation(teacher, student, train(), validation(), {
      ...options,
      featureLayers: [{ student: 'conv1', teacher: 'layer1' }, { student: 'conv2', teacher: 'layer2.1' }], // prettier-ignore
    })
    expect(byFeatures.history.at(-1)!.loss).toBeLessThan(byFeatures.history[0]!.loss)
    const loss = new LogitsDistillationLoss({ alpha: 0.5 })
    const byLogits = await trainWithLogitsDistillation(teacher, student, train(), validation(), {
      ...options,
      loss,
    })
    expect(byLogits.history.at(-1)!.loss).toBeLessThan(byLogits.history[0]!.loss)
    expect(student.training).toBe(true)
  })

  test('a frozen teacher gives the features that it kept', async () => {
    const teacher = await (await load('residual.scripted')).optimizeForInference({ features: ['layer1'] })
    const { history } = await trainWithFeatureDistillation(teacher, new Student().to(device), train(), null, { ...options, epochs: 2, featureLayers: [{ student: 'stem', teacher: 'layer1' }] }) // prettier-ignore
    expect(history[1]!.loss).toBeLessThan(history[0]!.loss)
  })

  test('many steps hold no more tensors than few', async () => {
    const teacher = await load('residual.scripted')
    const counts: number[] = []
    await trainWithFeatureDistillation(teacher, await load('student'), train(), null, {
      ...options,
      featureLayers: [{ student: 'conv1', teacher: 'layer1' }],
      onStep: () => counts.push(memory().tensors),
    })
    expect(Math.max(...counts.slice(10)) - counts[9]!).toBeLessThanOrEqual(2)
  })

  test('features of a probe that is used in a loop by hand are released by its scope', async () => {
    const teacher = (await load('residual.scripted')).requiresGrad(false)
    using probe = attachFeatures(teacher, ['layer1', 'layer2'])
    const x = randn([2, 3, 12, 12], { device })
    const sizes = Array.from({ length: 5 }, () => {
      const { output, features } = probe.forward(x)
      for (const each of [output, ...Object.values(features)]) each.dispose()
      return memory().tensors
    })
    expect(new Set(sizes).size).toBe(1)
  })
})
