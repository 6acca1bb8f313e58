/** What a training calls is waited for, and what is saved meanwhile is of the moment of the call. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import {
  data,
  exportTorchScript,
  loadCheckpoint,
  loadStateDict,
  loadTorchScript,
  manualSeed,
  nn,
  noGrad,
  optim,
  randn,
  saveCheckpoint,
  saveStateDict,
  tensor,
  trainClassifier,
  trainWithLogitsDistillation,
  type Tensor,
} from '../lib/index.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-callbacks-'))
afterAll(() => rmSync(folder, { recursive: true }))

const makeNet = () => {
  manualSeed(0)
  return new nn.Sequential(new nn.Linear(4, 16), new nn.BatchNorm1d(16), new nn.ReLU(), new nn.Linear(16, 3))
}
const loader = () => {
  manualSeed(1)
  const labels = tensor(Array.from({ length: 24 }, (_, i) => BigInt(i % 3)))
  return new data.DataLoader(new data.TensorDataset(randn([24, 4]), labels), { batchSize: 8 })
}
const quiet = { log: null, epochs: 3 } as const
const weightsOf = (net: nn.Module) => net.parameters().map(each => each.tolist())

describe.each([false, true])('a training with compile: %s', compile => {
  it('waits for onStep, onEpoch and log, one after the other', async () => {
    const said: string[] = []
    let running = 0
    const slowly = async (what: string) => {
      expect(++running).toBe(1)
      await delay(2)
      said.push(what)
      running--
    }
    await trainClassifier(makeNet(), loader(), null, {
      epochs: 2,
      compile,
      logEvery: 1,
      log: line => (/^Epoch/.test(line) ? slowly('log') : undefined),
      onStep: () => slowly('step'),
      onEpoch: () => slowly('epoch'),
    })
    const epoch = ['step', 'step', 'step', 'epoch', 'log']
    expect(said).toEqual([...epoch, ...epoch])
  })

  it('saves in onEpoch the weights of that epoch', async () => {
    const net = makeNet()
    const expected: unknown[] = []
    await trainClassifier(net, loader(), null, {
      ...quiet,
      compile,
      onEpoch: async ({ epoch }) => {
        expected.push(weightsOf(net))
        await delay(5)
        await saveStateDict(net.stateDict(), join(folder, `${compile}-${epoch}.pt`))
      },
    })
    for (const [i, weights] of expected.entries()) {
      const again = makeNet()
      again.loadStateDict(await loadStateDict(join(folder, `${compile}-${i + 1}.pt`)))
      expect(weightsOf(again)).toEqual(weights)
    }
  })

  it.each(['onStep', 'onEpoch', 'log', 'optimizer', 'scheduler', 'transform'] as const)(
    'ends with the error of %s, thrown or rejected, and the models can be used',
    async name => {
      for (const fail of [
        () => {
          throw new Error('of the callback')
        },
        async () => {
          await delay(1)
          throw new Error('of the callback')
        },
      ]) {
        const net = makeNet()
        const batches = new data.DataLoader(loader().dataset, {
          batchSize: 8,
          ...(name === 'transform' && { transform: fail }),
        })
        const options = { ...quiet, compile, ...(name !== 'transform' && { [name]: fail }) }
        await expect(trainClassifier(net, batches, null, options)).rejects.toThrow('of the callback')
        net
          .forward(randn([2, 4]))
          .sum()
          .backward()
        new optim.SGD(net.parameters(), { lr: 0.1 }).step()
      }
    },
  )

  it('takes an optimizer and a schedule that are made asynchronously', async () => {
    let steps = 0
    const make = (parameters: Tensor[]) => new optim.SGD(parameters, { lr: 0.1 })
    const [net, twin] = [makeNet(), makeNet()]
    await trainClassifier(net, loader(), null, {
      ...quiet,
      compile,
      optimizer: async parameters => (await delay(1), make(parameters)),
      scheduler: async () => (await delay(1), { step: () => void steps++ }),
    })
    await trainClassifier(twin, loader(), null, { ...quiet, compile, optimizer: make })
    expect(weightsOf(net)).toEqual(weightsOf(twin))
    expect(steps).toBe(3)
  })

  it('says which factory gave no optimizer', async () => {
    const train = (options: object) =>
      trainClassifier(makeNet(), loader(), null, { ...quiet, compile, ...options })
    await expect(train({ optimizer: () => undefined })).rejects.toThrow(
      /optimizer: expected a function that returns an optimizer/,
    )
    await expect(train({ scheduler: () => 1 })).rejects.toThrow(
      /scheduler: expected a function that returns a schedule/,
    )
  })

  it('logs the first epoch, every so many, and the last', async () => {
    const lines: string[] = []
    const log = (line: string) => lines.push(line)
    await trainClassifier(makeNet(), loader(), null, { epochs: 12, logEvery: 5, log, compile })
    const numbers = lines.map(line => Number(/^Epoch (\d+)/.exec(line)?.[1]))
    expect(numbers.filter(each => !Number.isNaN(each))).toEqual([1, 6, 11, 12])
  })

  it('logs the last epoch of a training that is stopped', async () => {
    const controller = new AbortController()
    const lines: string[] = []
    await trainClassifier(makeNet(), loader(), null, {
      epochs: 12,
      compile,
      log: line => lines.push(line),
      signal: controller.signal,
      onEpoch: ({ epoch }) => {
        if (epoch === 4) controller.abort()
      },
    })
    expect(lines.at(-1)).toMatch(/^Epoch 4/)
  })
})

describe('a transform of batches', () => {
  it('may be asynchronous, and is waited for', async () => {
    const transform = async (batch: data.Batch) => {
      await delay(1)
      return { data: batch.data.mul(2), labels: batch.labels }
    }
    const twice = new data.DataLoader(loader().dataset, { batchSize: 8, transform })
    const seen: unknown[] = []
    for await (const batch of twice) seen.push(batch.data.tolist())
    const expected: unknown[] = []
    for (const batch of loader()) expected.push(batch.data.mul(2).tolist())
    expect(seen).toEqual(expected)
  })

  it('that is asynchronous is refused by a loop that does not wait', () => {
    const transform = async (batch: data.Batch) => (await delay(1), batch)
    const slow = new data.DataLoader(loader().dataset, { batchSize: 8, transform })
    expect(() => [...slow]).toThrow(/transform.*for await/s)
  })
})

describe('a file that is written while training goes on', () => {
  /** Starts to save, changes the weights at once, and waits then. */
  async function changedWhile(net: nn.Module, save: () => Promise<unknown>): Promise<unknown> {
    const before = weightsOf(net)
    const saved = save()
    noGrad(() => {
      for (const parameter of net.parameters()) parameter.fill_(7)
    })
    await saved
    return before
  }

  it.each(['safetensors', 'pt'])('has the weights of the moment of the call: %s', async ending => {
    const net = makeNet()
    const path = join(folder, `moment.${ending}`)
    const before = await changedWhile(net, () => {
      const dict = net.stateDict()
      const saved = saveStateDict(dict, path)
      for (const each of Object.values(dict)) each.dispose()
      return saved
    })
    const again = makeNet()
    again.loadStateDict(await loadStateDict(path))
    expect(weightsOf(again)).toEqual(before)
  })

  it('has them in a checkpoint, with the state of the optimizer', async () => {
    const net = makeNet()
    const adam = new optim.Adam(net.parameters())
    net
      .forward(randn([4, 4]))
      .sum()
      .backward()
    adam.step()
    const path = join(folder, 'moment-checkpoint.pt')
    const average = adam.stateDict().state['0']!['exp_avg'] as Tensor
    const expected = average.tolist()
    const before = await changedWhile(net, () => {
      const saved = saveCheckpoint({ model: net.stateDict(), adam: adam.stateDict() }, path)
      adam.step()
      return saved
    })
    const checkpoint = await loadCheckpoint<{
      model: nn.StateDict
      adam: { state: Record<string, Record<string, Tensor>> }
    }>(path)
    const again = makeNet()
    again.loadStateDict(checkpoint.model)
    expect(weightsOf(again)).toEqual(before)
    expect(checkpoint.adam.state['0']!['exp_avg']!.tolist()).toEqual(expected)
    expect(average.tolist()).not.toEqual(expected)
  })

  it('has them as TorchScript, exported or saved again', async () => {
    const net = makeNet().eval()
    const path = join(folder, 'moment-script.pt')
    const x = randn([2, 4])
    const before = await changedWhile(net, () => exportTorchScript(net, [x], path))
    const script = await loadTorchScript(path)
    expect(weightsOf(script)).toEqual(before)
    const second = join(folder, 'moment-script-2.pt')
    await changedWhile(script, () => script.save(second))
    const again = await loadTorchScript(second)
    expect(weightsOf(again)).toEqual(before)
    expect(again.parameters().map(({ requiresGrad }) => requiresGrad)).toEqual(
      script.parameters().map(({ requiresGrad }) => requiresGrad),
    )
  })
})

describe('what others do between the parts of a step', () => {
  /** With parts long enough for the event loop to turn between them. */
  class Slow extends nn.Module<[Tensor], Tensor> {
    net = makeNet()
    forward(x: Tensor): Tensor {
      const end = performance.now() + 6
      while (performance.now() < end);
      return this.net.forward(x)
    }
  }

  async function train(meddle: (student: Slow, teacher: Slow) => void): Promise<[unknown, number]> {
    const [teacher, student] = [new Slow(), new Slow()]
    let turns = 0
    let isOver = false
    const turn = () => {
      turns++
      meddle(student, teacher)
      if (!isOver) setImmediate(turn)
    }
    setImmediate(turn)
    await trainWithLogitsDistillation(teacher, student, loader(), null, quiet)
    isOver = true
    return [[weightsOf(student), student.buffers().map(each => each.tolist())], turns]
  }

  it('does not change what is learnt: modes, forwards, evaluations, gradients', async () => {
    const [expected] = await train(() => undefined)
    const x = randn([2, 4])
    const meddling: ((student: Slow, teacher: Slow) => void)[] = [
      student => void student.eval(),
      (_, teacher) => void teacher.train(),
      student => {
        student.eval()
        student.net.forward(x)
        student.train()
      },
      student => {
        student.eval()
        student.net.forward(x).sum().backward()
      },
      student => student.zeroGrad(),
    ]
    for (const meddle of meddling) {
      const [learnt, turns] = await train(meddle)
      expect(turns).toBeGreaterThan(3 * 3 * 2) // several in each step
      expect(learnt).toEqual(expected)
    }
  })

  // Each turn of the event loop accepts one connection, and another one reads from it.
  it('a server answers many new connections within a few steps', { retry: 3 }, async () => {
    const connections = 12
    let steps = 0
    const answeredAt: number[] = []
    const server = createServer((_, response) => {
      answeredAt.push(steps)
      response.setHeader('connection', 'close').end('ok')
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const controller = new AbortController()
    const client = spawn(process.execPath, [
      '-e',
      `for (let i = 0; i < ${connections}; i++) require('node:http').get('http://127.0.0.1:${port}')`,
    ])
    client.once('close', () => controller.abort())
    await trainWithLogitsDistillation(new Slow(), new Slow(), loader(), null, {
      ...quiet,
      epochs: 1000,
      signal: controller.signal,
      onStep: () => void steps++,
    })
    server.close()
    expect(answeredAt).toHaveLength(connections)
    expect(answeredAt.at(-1)! - answeredAt[0]!).toBeLessThan(connections / 2)
  })
})
