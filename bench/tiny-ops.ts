/**
 * What one call of an operator on a few numbers costs: arithmetic is next to nothing there, the way to it is all. Node
 * and Python take turns within every round, so that other work on the machine meets both.
 */
import Table from 'cli-table3'
import { ones, scope, tensor, torch, zeros, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { atMost, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { PythonPeer } from './python.js'
import { median, quantile } from './statistics.js'

/** How results are released. Python has one way, counting references. */
const styles = ['scope', 'dispose', 'backstop'] as const
type Style = (typeof styles)[number]

interface Operation {
  name: string
  call: () => Tensor
  /** The result is not a new tensor. */
  inPlace?: boolean
}

/** Nanoseconds of one call. */
interface Cost {
  median: number
  /** A tenth of the rounds were faster: what it costs when little else runs. */
  fast: number
}

interface OperationResult {
  operation: string
  node: Record<Style, Cost>
  python: Cost | null
  /** Medians, Node to Python. */
  ratio: Record<Style, number> | null
}

const callsPerMeasurement = 1000
const callsPerScope = 100

function operations(): Operation[] {
  const a = tensor([1, 2, 3, 4])
  const b = tensor([4, 3, 2, 1])
  const changed = zeros([4])
  const square = tensor([
    [1, 2],
    [3, 4],
  ])
  const [image, weight, bias] = [ones([1, 1, 4, 4]), ones([1, 1, 3, 3]), zeros([1])]
  return [
    { name: 'add a number', call: () => a.add(1) },
    { name: 'add a tensor', call: () => a.add(b) },
    { name: 'add_ a number', call: () => changed.add_(1), inPlace: true },
    { name: 'add_ a tensor', call: () => changed.add_(b), inPlace: true },
    { name: 'relu', call: () => a.relu() },
    { name: 'sum', call: () => a.sum() },
    { name: 'matmul 2x2', call: () => square.matmul(square) },
    { name: 'view', call: () => a.view([2, 2]) },
    { name: 'reshape', call: () => a.reshape([2, 2]) },
    {
      name: 'conv2d with options',
      call: () => torch.conv2d(image, weight, { bias, stride: [1, 1], padding: [1, 1] }),
    },
  ]
}

function runCalls({ call, inPlace }: Operation, style: Style, calls: number): void {
  if (style === 'scope') {
    const some = () => {
      for (let i = 0; i < callsPerScope; i++) call()
    }
    for (let i = 0; i < calls; i += callsPerScope) scope(some)
  } else if (style === 'dispose' && !inPlace) {
    for (let i = 0; i < calls; i++) call().dispose()
  } else {
    for (let i = 0; i < calls; i++) call()
  }
}

/** Finalizers run when the event loop turns: their time is the calls' as well. */
async function turnEventLoop(): Promise<void> {
  for (let i = 0; i < 2; i++) await new Promise(resolve => setImmediate(resolve))
}

async function measure(operation: Operation, style: Style): Promise<number> {
  const start = process.hrtime.bigint()
  runCalls(operation, style, callsPerMeasurement)
  if (style === 'backstop') await turnEventLoop()
  return Number(process.hrtime.bigint() - start) / callsPerMeasurement
}

async function measureAll(
  operation: Operation,
  peer: PythonPeer | null,
  rounds: number,
): Promise<OperationResult> {
  const node: Record<Style, number[]> = { scope: [], dispose: [], backstop: [] }
  const python: number[] = []
  const askPython = async () => {
    if (peer === null) return
    const question = { operation: operation.name, calls: callsPerMeasurement }
    python.push((await peer.ask<{ nanoseconds: number }>(question)).nanoseconds)
  }
  for (let i = 0; i < 20; i++) for (const style of styles) await measure(operation, style) // lets V8 optimize
  await askPython()
  python.length = 0
  for (let round = 0; round < rounds; round++)
    for (const style of styles) {
      node[style].push(await measure(operation, style))
      await askPython()
    }
  return summarize(operation.name, node, python)
}

function summarize(
  operation: string,
  samples: Record<Style, number[]>,
  pythonSamples: number[],
): OperationResult {
  const cost = (times: number[]): Cost => ({ median: median(times), fast: quantile(times, 0.1) })
  const node = mapStyles(style => cost(samples[style]))
  const python = pythonSamples.length > 0 ? cost(pythonSamples) : null
  return { operation, node, python, ratio: python && mapStyles(style => node[style].median / python.median) }
}

function mapStyles<T>(map: (style: Style) => T): Record<Style, T> {
  return { scope: map('scope'), dispose: map('dispose'), backstop: map('backstop') }
}

function render(results: OperationResult[]): string {
  const table = new Table({
    head: [
      'ns per call',
      ...styles.map(style => `Node, ${style}`),
      'Python',
      ...styles.map(style => `${style} / Python`),
    ],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  })
  for (const { operation, node, python, ratio } of results)
    table.push([
      operation,
      ...styles.map(style => node[style].median.toFixed(0)),
      python?.median.toFixed(0) ?? '–',
      ...styles.map(style => ratio?.[style].toFixed(2) ?? '–'),
    ])
  return table.toString()
}

async function run({ python, rounds, wanted, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const peer = python && new PythonPeer(python, 'tiny_ops.py')
  const results: OperationResult[] = []
  const threads = native.numThreads()
  native.setNumThreads(1) // to wake a second one costs more than these operators, on both sides
  try {
    for (const operation of operations().filter(({ name }) => wanted(name))) {
      progress(operation.name)
      results.push(await measureAll(operation, peer, rounds))
    }
  } finally {
    peer?.close()
    native.setNumThreads(threads)
  }
  return {
    data: results,
    table: render(results),
    ratios: results.flatMap(({ operation, ratio }) =>
      ratio === null ? [] : [{ group: 'one call', name: operation, timesAsFast: 1 / ratio.scope }],
    ),
    targets: results.flatMap(({ operation, ratio }) =>
      atMost(`cost of a call, ${operation}`, 0.6, ratio && ratio.scope),
    ),
  }
}

export const tinyOps: Benchmark = {
  name: 'tiny-ops',
  description: 'cost of a call on a few numbers, Node and Python in turn (one thread, medians)',
  defaultRounds: 100,
  run,
}
