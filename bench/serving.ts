/**
 * An HTTP server in the process of a training, under a load of new connections from another process: how long they wait,
 * and what that costs the training.
 *
 *     npx tsx bench/serving.ts [--compile] [--seconds 10] [--rounds 3] [--rate 20] [--batch 64]
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    compile: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '3' },
    rate: { type: 'string', default: '20' },
    batch: { type: 'string', default: '64' },
    trainer: { type: 'boolean', default: false },
  },
})

/** Milliseconds of the same clock in both processes. */
const now = () => performance.timeOrigin + performance.now()

await (values.trainer ? train() : measure())

/** ResNet-56 teaches ResNet-20 at CIFAR's size, and whoever connects is told the step. */
async function train(): Promise<void> {
  const { data, models, randint, randn, trainWithFeatureDistillation } = await import('../lib/index.js')
  const batch = Number(values.batch)
  const set = new data.TensorDataset(randn([4 * batch, 3, 32, 32]), randint(10, [4 * batch]))
  const loader = new data.DataLoader(set, { batchSize: batch, shuffle: true })
  const controller = new AbortController()
  const ends: number[] = []
  const server = http.createServer((_, response) => {
    response.setHeader('connection', 'close').end(JSON.stringify({ steps: ends.length }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.on('message', () => controller.abort())
  let isReady = false
  await trainWithFeatureDistillation(models.resnet56(), models.resnet20(), loader, null, {
    featureLayers: ['layer1', 'layer2', 'layer3'],
    epochs: 1_000_000,
    compile: values.compile,
    log: null,
    signal: controller.signal,
    onStep() {
      ends.push(now())
      if (isReady || ends.length < 8) return
      isReady = true
      process.send!({ port: (server.address() as AddressInfo).port })
    },
  })
  server.close()
  process.send!({ ends })
  process.disconnect()
}

async function measure(): Promise<void> {
  const [seconds, rounds, rate] = [values.seconds, values.rounds, values.rate].map(Number) as [
    number,
    number,
    number,
  ]
  const options = { execArgv: ['--import', 'tsx'] }
  const trainer = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--trainer'], options)
  const { port } = await message<{ port: number }>(trainer)
  const waits: number[] = []
  const windows: { isLoaded: boolean; from: number; to: number }[] = []
  for (let round = 0; round < 2 * rounds; round++) {
    const isLoaded = round % 2 === 1
    const from = now()
    if (isLoaded) waits.push(...(await connect(port, seconds, rate)))
    else await delay(1000 * seconds)
    windows.push({ isLoaded, from, to: now() })
  }
  trainer.send('stop')
  const { ends } = await message<{ ends: number[] }>(trainer)
  const stepTimes = (loaded: boolean) =>
    windows
      .filter(({ isLoaded }) => isLoaded === loaded)
      .map(({ from, to }) => ends.filter(end => end >= from && end <= to))
      .map(inside => (inside.at(-1)! - inside[0]!) / (inside.length - 1))
  const [alone, serving] = [stepTimes(false), stepTimes(true)].map(mean) as [number, number]
  const at = (share: number) => waits.sort((a, b) => a - b)[Math.ceil(share * waits.length) - 1]!.toFixed(1)
  console.log(
    `${values.compile ? 'compiled' : 'plain'}, batch ${values.batch}: ${waits.length} connections at ${rate}/s wait ` +
      `${at(0.5)} ms (median), ${at(0.99)} ms (99th percentile), ${at(1)} ms (longest); a step takes ` +
      `${alone.toFixed(1)} ms alone, ${serving.toFixed(1)} ms with them (${percent(serving / alone - 1)})`,
  )
}

/** New connections at a rate; how long each took to be answered, in milliseconds. */
async function connect(port: number, seconds: number, rate: number): Promise<number[]> {
  const all: Promise<number>[] = []
  const start = now()
  for (let i = 0; i < seconds * rate; i++) {
    await delay(Math.max(0, start + (1000 * i) / rate - now()))
    all.push(ask(port))
  }
  return Promise.all(all)
}

function ask(port: number): Promise<number> {
  const start = now()
  return new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, agent: false }, response => {
      response.resume().on('end', () => resolve(now() - start))
    })
    request.on('error', reject)
  })
}

async function message<T>(child: ChildProcess): Promise<T> {
  const [value] = (await once(child, 'message')) as [T]
  return value
}

function mean(list: number[]): number {
  return list.reduce((sum, each) => sum + each, 0) / list.length
}

function percent(share: number): string {
  return `${share < 0 ? '−' : '+'}${(100 * Math.abs(share)).toFixed(1)} %`
}
