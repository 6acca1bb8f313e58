/** A worker of `stress-workers.js`: computes until it is terminated. It says `ready` after the first turn. */
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import {
  autocast,
  captureFeatures,
  evaluate,
  FeatureDistillationLoss,
  Generator,
  loadStateDict,
  loadTorchScript,
  LogitsDistillationLoss,
  manualSeed,
  memory,
  models,
  nn,
  noGrad,
  ones,
  optim,
  randn,
  saveStateDict,
  scope,
  tensor,
  torch,
  trainClassifier,
  trainWithFeatureDistillation,
} from '../dist/index.js'

/** @type {{ workload: string, folder: string, number: number }} */
const { workload, folder, number } = workerData
const scriptFile = join(folder, 'model.pt')
const labels = () => tensor([0n, 1n, 2n, 3n])
const net = () => new models.ConvNet({ widths: [4, 4, 8, 8] })

/**
 * @param {number} count
 * @returns {Iterable<{ data: import('../dist/index.js').Tensor, labels: import('../dist/index.js').Tensor }>}
 */
function* batches(count) {
  for (let i = 0; i < count; i++) yield scope(() => ({ data: randn([4, 3, 16, 16]), labels: labels() }))
}

/**
 * What a worker may be doing: made once, then called again and again.
 *
 * @type {Record<string, () => (() => unknown) | Promise<() => unknown>>}
 */
const workloads = {
  operators() {
    const x = ones([3, 4])
    return () => {
      for (let i = 0; i < 300; i++) {
        const [rows = 0, columns = 0] = x.shape
        scope(() =>
          x
            .mul(2)
            .add(x)
            .reshape([rows * columns])
            .sum()
            .item(),
        )
      }
    }
  },
  results() {
    const x = randn([20, 30])
    return () => {
      for (let i = 0; i < 200; i++)
        scope(() => [torch.max(x, 1), torch.split(x, 5), torch.topk(x, 3), x.tolist()])
    }
  },
  losses() {
    const student = randn([4, 8, 6, 6], { requiresGrad: true })
    const teacher = randn([4, 8, 6, 6])
    const logits = randn([4, 10], { requiresGrad: true })
    const [features, plain] = [new FeatureDistillationLoss(), new LogitsDistillationLoss()]
    return () => {
      for (let i = 0; i < 30; i++)
        scope(() => {
          features.forward([student], [teacher], logits, labels()).total.backward()
          plain.forward(logits, randn([4, 10]), labels()).total.backward()
        })
    }
  },
  training: () => () => trainClassifier(net(), batches(20), null, { epochs: 1, log: null }),
  compiled: () => () => trainClassifier(net(), batches(40), null, { epochs: 1, log: null, compile: true }),
  distillation: () => () =>
    trainWithFeatureDistillation(net(), net(), batches(20), null, {
      featureLayers: ['stage2'],
      epochs: 1,
      log: null,
      compile: number % 2 === 0,
    }),
  async script() {
    const several = await Promise.all([1, 2, 3, 4, 5, 6].map(() => loadTorchScript(scriptFile)))
    const x = randn([4, 3, 16, 16])
    return () => Promise.all(several.map(each => each.forwardAsync(x)))
  },
  loading: () => () => Promise.all([1, 2, 3].map(() => loadTorchScript(scriptFile))),
  files() {
    const model = net()
    const file = join(folder, `weights-${number}.safetensors`)
    return async () => {
      await saveStateDict(model.stateDict(), file)
      model.loadStateDict(await loadStateDict(file))
    }
  },
  optimizers() {
    const parameters = [1, 2, 3].map(() => randn([8, 8], { requiresGrad: true }))
    const all = [
      new optim.SGD(parameters, { lr: 0.1, momentum: 0.9 }),
      new optim.Adam(parameters, { lr: 0.1 }),
      new optim.AdamW(parameters, { lr: 0.1 }),
    ]
    return () => {
      for (const optimizer of all)
        scope(() => {
          optimizer.zeroGrad()
          parameters.forEach(each => each.pow(2).sum().backward())
          optim.clipGradNorm_(parameters, 1)
          optimizer.step()
          optimizer.loadStateDict(optimizer.stateDict())
        })
    }
  },
  capture() {
    const model = net()
    return () => scope(() => captureFeatures(model, ['stage1', 'stage2.0.relu'], randn([4, 3, 16, 16])))
  },
  scopes: () => () => {
    for (let i = 0; i < 200; i++)
      scope(() => {
        const kept = scope(() => noGrad(() => ones([4]).add(1)))
        autocast({ device: 'cpu', dtype: 'bfloat16' }, () => kept.mul(2))
        return memory()
      })
  },
  garbage: () => () => {
    for (let i = 0; i < 2000; i++) randn([16]).mul(2)
  },
  random() {
    const dropout = new nn.Dropout(0.5)
    const x = ones([100])
    return () => {
      manualSeed(number)
      for (let i = 0; i < 50; i++)
        scope(() => [dropout.forward(x), randn([3], { generator: new Generator(i) }), torch.randperm(10)])
    }
  },
  layers() {
    const model = models.resnet8x4 ? models.resnet8x4() : net()
    return () => evaluate(model, batches(2))
  },
}

const make = workloads[workload]
if (!make) throw new Error(`${workload}: expected one of ${Object.keys(workloads).join(', ')}`)
const turn = await make()
for (let turns = 0; ; turns++) {
  await turn()
  if (turns === 0) parentPort?.postMessage('ready')
  await nextTurn()
}
