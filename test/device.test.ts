/** Things on the device that the tests are run for: ALAMBIC_TEST_DEVICE. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  data,
  evaluate,
  exportTorchScript,
  Generator,
  loadCheckpoint,
  loadStateDict,
  loadTorchScript,
  manualSeed,
  memory,
  models,
  nn,
  optim,
  saveCheckpoint,
  saveStateDict,
  torch,
  type Tensor,
} from '../lib/index.js'
import { native, packageRoot } from '../lib/native/loader.js'
import { device, isOnGpu, randint, randn, tensor, zeros } from './device.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-device-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** `cuda` is the current GPU, which has a number. */
const fullName = isOnGpu && !device.includes(':') ? `${device}:0` : device

describe(`on ${device}`, () => {
  test('the functions of test/device.ts make their tensors there, with gradients where they are asked for', () => {
    const leaf = tensor([1, 2], { requiresGrad: true, dtype: 'float64' })
    expect([leaf.device, leaf.requiresGrad, leaf.isLeaf, leaf.dtype]).toEqual([
      fullName,
      true,
      true,
      'float64',
    ])
    expect(zeros([2]).device).toBe(fullName)
    expect(randint(10, [2]).device).toBe(fullName)
    expect(zeros([2], { device: 'meta' }).device).toBe('meta')
    manualSeed(1)
    const values = randn([3]).tolist()
    manualSeed(1)
    expect(torch.randn([3]).tolist()).toEqual(values)
  })

  test('factories, generators and moves of the library honour it', () => {
    const generator = new Generator(1, device)
    const drawn = torch.randn([1000], { device, generator })
    expect(drawn.device).toBe(fullName)
    expect(Math.abs(drawn.mean().item())).toBeLessThan(0.2)
    expect(drawn.cpu().device).toBe('cpu')
    expect(drawn.cpu().to(device).equal(drawn)).toBe(true)
    expect(
      models
        .resnet20()
        .to(device)
        .parameters()
        .every(each => each.device === fullName),
    ).toBe(true)
  })

  test('a DataLoader brings its batches there', async () => {
    const samples = new data.TensorDataset(torch.randn([6, 2]), torch.zeros([6], { dtype: 'int64' }))
    for await (const batch of new data.DataLoader(samples, { batchSize: 3, device }))
      expect([batch.data.device, batch.labels.device]).toEqual([fullName, fullName])
  })

  test.each(['weights.safetensors', 'weights.pt'])(
    'state dicts are saved from there and loaded to it: %s',
    async name => {
      const path = join(folder, name)
      const model = models.resnet20({ width: 4 }).to(device)
      await saveStateDict(model.stateDict(), path)
      const loaded = await loadStateDict(path, { device })
      for (const [key, value] of Object.entries(model.stateDict())) {
        expect(loaded[key]!.device, key).toBe(fullName)
        expect(loaded[key]!.equal(value), key).toBe(true)
      }
      const onCpu = await loadStateDict(path)
      expect(Object.values(onCpu).every(each => each.device === 'cpu')).toBe(true)
      const other = models.resnet20({ width: 4 }).to(device)
      other.loadStateDict(onCpu)
      expect(other.parameters().every((each, i) => each.equal(model.parameters()[i]!))).toBe(true)
    },
  )

  test('evaluate() moves batches to the model', async () => {
    const model = new nn.Linear(4, 3).to(device)
    const loader = new data.DataLoader(
      new data.TensorDataset(torch.randn([6, 4]), torch.zeros([6], { dtype: 'int64' })),
      { batchSize: 3 },
    )
    expect(await evaluate(model, loader)).toBeLessThanOrEqual(100)
  })

  test('a training goes on from its checkpoint', async () => {
    const path = join(folder, 'checkpoint.pt')
    const [x, labels] = [randn([8, 4]), randint(3, [8])]
    const start = () => {
      const model = new nn.Linear(4, 3).to(device)
      return { model, optimizer: new optim.Adam(model.parameters(), { lr: 0.1 }) }
    }
    const step = ({ model, optimizer }: ReturnType<typeof start>) => {
      optimizer.zeroGrad()
      nn.functional.crossEntropy(model.forward(x), labels).backward()
      optimizer.step()
    }
    const first = start()
    for (let i = 0; i < 3; i++) step(first)
    await saveCheckpoint({ model: first.model.stateDict(), optimizer: first.optimizer.stateDict() }, path)
    const second = start()
    const saved = await loadCheckpoint<{
      model: ReturnType<typeof first.model.stateDict>
      optimizer: ReturnType<typeof first.optimizer.stateDict>
    }>(path, { device })
    second.model.loadStateDict(saved.model)
    second.optimizer.loadStateDict(saved.optimizer)
    for (let i = 0; i < 3; i++) for (const each of [first, second]) step(each)
    expect(torch.allclose(second.model.weight, first.model.weight, { rtol: 1e-5, atol: 1e-6 })).toBe(true)
  })

  test('an exported module is loaded to it', async () => {
    const path = join(folder, 'exported.pt')
    const model = models.resnet20({ width: 4 }).to(device).eval()
    const x = randn([2, 3, 8, 8])
    await exportTorchScript(model, [x], path)
    const loaded = await loadTorchScript<[Tensor], Tensor>(path, { device })
    loaded.eval()
    expect(loaded.parameters().every(each => each.device === fullName)).toBe(true)
    expect(torch.allclose(loaded.forward(x), model.forward(x), { rtol: 1e-4, atol: 1e-5 })).toBe(true)
  })

  test('tensors of different devices are refused, and memory() counts storages there', () => {
    const before = memory()
    const x = zeros([1024])
    expect(memory().bytes - before.bytes).toBe(4096)
    x.dispose()
    expect(memory().bytes).toBe(before.bytes)
    if (isOnGpu) expect(() => zeros([2]).add(torch.zeros([2]))).toThrow(/device/)
  })
})

test('evaluate() takes the device of the first parameter, wherever the batches are', async () => {
  const seen: string[] = []
  class Watching extends nn.Module<[Tensor], Tensor> {
    weight = new nn.Parameter(torch.zeros([1], { device: 'meta' }))
    override forward(x: Tensor): Tensor {
      seen.push(x.device)
      return torch.zeros([x.size(0), 2])
    }
  }
  const batch = () => ({ data: torch.randn([4, 2]), labels: torch.zeros([4], { dtype: 'int64' }) })
  expect(await evaluate(new Watching(), [batch()])).toBe(100)
  await evaluate(new Watching(), [batch()], { device: 'cpu' })
  expect(seen).toEqual(['meta', 'cpu'])
})

test.skipIf(native.systemInfo().cudaDevices > 0)(
  'where there is no GPU, tests that are asked to run on one fail and say so',
  () => {
    const vitest = join(packageRoot, 'node_modules', 'vitest', 'vitest.mjs')
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [vitest, 'run', 'test/autograd.test.ts', '--reporter=json'],
      {
        cwd: packageRoot,
        env: { ...process.env, ALAMBIC_TEST_DEVICE: 'cuda', CI: '' },
        encoding: 'utf8',
        timeout: 60_000,
      },
    )
    expect(status, stderr).toBe(1)
    const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      numPassedTests: number
      numFailedTests: number
      testResults: { assertionResults: { failureMessages: string[] }[] }[]
    }
    expect([report.numPassedTests, report.numFailedTests > 5]).toEqual([0, true])
    for (const { failureMessages } of report.testResults.flatMap(({ assertionResults }) => assertionResults))
      expect(failureMessages[0]).toContain('ALAMBIC_TEST_DEVICE=cuda, but there is no usable GPU')
  },
)
