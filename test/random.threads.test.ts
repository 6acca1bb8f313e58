/** Random numbers of several threads at once. Workers run the compiled package. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as alambic from '../lib/index.js'
import { handmadeScript } from './script.handmade.js'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'alambic-random-'))
  const body = `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    y = torch.dropout(x, 0.5, True)
    return torch.add(y, torch.rand_like(x))
`
  writeFileSync(join(folder, 'random.pt'), handmadeScript({ body }))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** What draws, as source: `alambic`, `script` and `training` are there. */
const draws: Record<string, string> = {
  randn: 'alambic.randn([4])',
  rand: 'alambic.rand([4])',
  randint: 'alambic.randint(1000, [4])',
  randperm: 'alambic.randperm(9)',
  'rand in float64': "alambic.rand([3], { dtype: 'float64' })",
  randLike: 'alambic.torch.randLike(alambic.ones([4]))',
  randnLike: 'alambic.torch.randnLike(alambic.ones([20]))',
  bernoulli: 'alambic.torch.bernoulli(alambic.full([9], 0.5))',
  multinomial: 'alambic.torch.multinomial(alambic.ones([9]), 4)',
  poisson: 'alambic.torch.poisson(alambic.full([9], 3))',
  'in place': 'alambic.zeros([5]).normal_().add_(alambic.zeros([5]).exponential_())',
  'a permutation of a list': 'alambic.zeros([5]).random_().add(alambic.zeros([5]).geometric_(0.5))',
  dropout: 'new alambic.nn.Dropout(0.5).forward(alambic.ones([20], { requiresGrad: true }))',
  'dropout of channels': 'new alambic.nn.Dropout2d(0.5).forward(alambic.ones([2, 9, 2, 2])).sum([2, 3])',
  'dropout without gradients': 'alambic.noGrad(() => alambic.torch.dropout(alambic.ones([20]), 0.5, true))',
  rrelu: 'alambic.torch.rrelu(alambic.full([5], -1), { training: true })',
  'initial values': 'new alambic.nn.Linear(3, 2).weight',
  orthogonal: 'alambic.nn.init.orthogonal_(alambic.zeros([3, 3]))',
  TorchScript: 'script.forward(alambic.ones([9]))',
  'TorchScript beside the event loop': 'await script.forwardAsync(alambic.ones([9]))',
  'a compiled training': 'await training()',
}

const prelude = `
const script = await alambic.loadTorchScript(${JSON.stringify('FOLDER/random.pt')})
const training = async () => {
  const model = new alambic.nn.Sequential(new alambic.nn.Linear(4, 8), new alambic.nn.Dropout(0.5), new alambic.nn.Linear(8, 2))
  function* batches() {
    for (let i = 0; i < 6; i++) yield { data: alambic.ones([6, 4]), labels: alambic.tensor([0n, 1n, 0n, 1n, 0n, 1n]) }
  }
  const { compilation } = await alambic.trainClassifier(model, batches(), null, { epochs: 1, log: null, compile: true })
  if (!(compilation.steps > 0)) throw new Error(compilation.reason)
  return alambic.torch.cat(model.parameters().map(each => each.flatten()))
}
`

/** The sequences, drawn twice, with `pause` between two draws. */
const body = (seed: number, pause: string) => `
alambic.manualSeed(${seed})
const drawn = {}
for (let round = 0; round < 2; round++) {
${Object.entries(draws)
  .map(
    ([name, source]) =>
      `  ${pause}; (drawn[${JSON.stringify(name)}] ??= []).push((${source}).detach().tolist())`,
  )
  .join('\n')}
}
`

type Drawn = Record<string, unknown[]>

async function drawHere(seed: number): Promise<Drawn> {
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<Drawn>
  const source = prelude.replace('FOLDER', folder) + body(seed, '') + 'return drawn'
  return new AsyncFunction('alambic', source)(alambic)
}

/** All at once: each waits for its turn before each draw, so that every sequence is cut by the others. */
async function drawInWorkers(seeds: number[]): Promise<Drawn[]> {
  const turns = new Int32Array(new SharedArrayBuffer(4))
  return Promise.all(
    seeds.map((seed, index) => {
      const code = `
        import { parentPort, workerData } from 'node:worker_threads'
        import * as alambic from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
        const { turns, index, count } = workerData
        const pause = () => {
          const turn = Atomics.load(turns, 0)
          if (turn % count !== index) { Atomics.wait(turns, 0, turn, 20); return }
          Atomics.add(turns, 0, 1); Atomics.notify(turns, 0)
        }
        ${prelude.replace('FOLDER', folder)}
        ${body(seed, 'pause(); alambic.randn([0])')}
        parentPort.postMessage(drawn)`
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
        workerData: { turns, index, count: seeds.length },
      })
      return new Promise<Drawn>((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
      })
    }),
  )
}

describe('threads that draw at once', () => {
  let [seven, eight, again]: (Drawn | undefined)[] = []
  let workers: Drawn[] = []
  beforeAll(async () => {
    seven = await drawHere(7)
    eight = await drawHere(8)
    alambic.manualSeed(7)
    alambic.randn([3])
    const state = alambic.getRngState()
    const expected = alambic.randn([5]).tolist()
    alambic.setRngState(state)
    workers = await drawInWorkers([7, 7, 8])
    again = { main: [expected, alambic.randn([5]).tolist()] }
  })

  it.each(Object.keys(draws))('each get the sequence of their seed: %s', name => {
    expect(workers.map(each => each[name])).toEqual([seven![name], seven![name], eight![name]])
  })

  it('differ with their seeds', () => {
    for (const name of ['randn', 'dropout', 'TorchScript']) expect(seven![name]).not.toEqual(eight![name])
  })

  it('leave the main thread’s sequence alone', () => {
    expect(again!['main']![1]).toEqual(again!['main']![0])
  })
})
