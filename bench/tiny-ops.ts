/**
 * What one call of an operator on a few numbers costs: arithmetic is next to nothing there, the way to it is all. Node,
 * Python and C++ take turns within every round, so that other work on the machine meets all of them.
 */
import Table from 'cli-table3'
import { Generator, ones, scope, tensor, torch, zeros, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { timeOperator } from '../lib/calls/call.js'
import { atMost, type Benchmark, type BenchmarkContext, type BenchmarkResult } from './benchmark.js'
import { PythonPeer } from './python.js'
import { median, quantile } from './statistics.js'

/** How results are released. Python has one way, counting references. */
const styles = ['scope', 'dispose', 'backstop'] as const
type Style = (typeof styles)[number]

interface Operation {
  name: string
  call: () => Tensor
  /** The same for C++: operator, arguments. */
  kernel: [string, ...unknown[]]
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
  /**
   * The operator in a loop of C++: unboxed, its arguments converted before, past autograd's kernels where Alambic goes
   * past them, the result released at once. Null where there is no unboxed call.
   */
  kernel: Cost | null
  python: Cost | null
  /** Medians, Node to Python. */
  ratio: Record<Style, number> | null
  /** What is not the kernel, in nanoseconds: Node's with scopes, and Python's. */
  overhead: { node: number; python: number; ratio: number } | null
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
  const convolution = { bias, stride: [1, 1], padding: [1, 1] }
  return [
    { name: 'add a number', call: () => a.add(1), kernel: ['add', a, 1] },
    { name: 'add a tensor', call: () => a.add(b), kernel: ['add', a, b] },
    { name: 'add_ a number', call: () => changed.add_(1), kernel: ['add_', changed, 1], inPlace: true },
    { name: 'add_ a tensor', call: () => changed.add_(b), kernel: ['add_', changed, b], inPlace: true },
    { name: 'relu', call: () => a.relu(), kernel: ['relu', a] },
    { name: 'sum', call: () => a.sum(), kernel: ['sum', a] },
    { name: 'matmul 2x2', call: () => square.matmul(square), kernel: ['matmul', square, square] },
    { name: 'view', call: () => a.view([2, 2]), kernel: ['view', a, [2, 2]] },
    { name: 'reshape', call: () => a.reshape([2, 2]), kernel: ['reshape', a, [2, 2]] },
    {
      name: 'conv2d with options',
      call: () => torch.conv2d(image, weight, { bias, stride: [1, 1], padding: [1, 1] }),
      kernel: ['conv2d', image, weight, convolution],
    },
  ]
}

/** One for each kind of argument, of operators that do next to nothing, or little. */
function argumentKinds(): Operation[] {
  const a = tensor([1, 2, 3, 4])
  const b = tensor([4, 3, 2, 1])
  const changed = zeros([4])
  const square = ones([2, 2])
  const image = ones([1, 1, 1, 1])
  const [row, weight] = [ones([1, 2]), ones([1, 2])]
  const generator = new Generator(1)
  return [
    { name: 'one tensor: t', call: () => square.t(), kernel: ['t', square] },
    { name: 'two tensors: view_as', call: () => a.viewAs(b), kernel: ['view_as', a, b] },
    { name: 'scalar: fill_', call: () => changed.fill_(2), kernel: ['fill_', changed, 2], inPlace: true },
    { name: 'int: unsqueeze', call: () => a.unsqueeze(0), kernel: ['unsqueeze', a, 0] },
    {
      name: 'float, boolean: dropout',
      call: () => torch.dropout(a, 0.5, false),
      kernel: ['dropout', a, 0.5, false],
    },
    { name: 'dtype: view', call: () => a.view('int32'), kernel: ['view', a, 'int32'] },
    {
      name: 'device: empty',
      call: () => torch.empty([1], { device: 'cpu' }),
      kernel: ['empty', [1], { device: 'cpu' }],
    },
    {
      name: 'string: div',
      call: () => a.div(b, { roundingMode: 'floor' }),
      kernel: ['div', a, b, { roundingMode: 'floor' }],
    },
    {
      name: 'memory format: empty',
      call: () => torch.empty([1], { memoryFormat: 'contiguous' }),
      kernel: ['empty', [1], { memoryFormat: 'contiguous' }],
    },
    { name: 'ints: permute', call: () => square.permute([1, 0]), kernel: ['permute', square, [1, 0]] },
    {
      name: 'floats: upsample_nearest2d',
      call: () => torch.upsampleNearest2d(image, null, [1, 1]),
      kernel: ['upsample_nearest2d', image, null, [1, 1]],
    },
    { name: 'list of tensors: cat', call: () => torch.cat([a, b]), kernel: ['cat', [a, b]] },
    {
      name: 'no tensor: linear',
      call: () => torch.linear(row, weight, { bias: null }),
      kernel: ['linear', row, weight, { bias: null }],
    },
    { name: 'an option: add', call: () => a.add(b, { alpha: 2 }), kernel: ['add', a, b, { alpha: 2 }] },
    {
      name: 'generator: bernoulli_',
      call: () => changed.bernoulli_({ p: 0.5, generator }),
      kernel: ['bernoulli_', changed, { p: 0.5, generator }],
      inPlace: true,
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
  const kernel: number[] = []
  const [operator, ...args] = operation.kernel
  const askOthers = async () => {
    const alone = timeOperator(`aten::${operator}`, ...args)
    if (alone !== null) kernel.push(alone)
    if (peer === null) return
    const question = { operation: operation.name, calls: callsPerMeasurement }
    python.push((await peer.ask<{ nanoseconds: number }>(question)).nanoseconds)
  }
  for (let i = 0; i < 20; i++) for (const style of styles) await measure(operation, style) // lets V8 optimize
  await askOthers()
  python.length = 0
  for (let round = 0; round < rounds; round++)
    for (const style of styles) {
      node[style].push(await measure(operation, style))
      await askOthers()
    }
  return summarize(operation.name, node, kernel, python)
}

function summarize(
  operation: string,
  samples: Record<Style, number[]>,
  kernelSamples: number[],
  pythonSamples: number[],
): OperationResult {
  const cost = (times: number[]): Cost | null =>
    times.length > 0 ? { median: median(times), fast: quantile(times, 0.1) } : null
  const node = mapStyles(style => cost(samples[style])!)
  const kernel = cost(kernelSamples)
  const python = cost(pythonSamples)
  const ratio = python && mapStyles(style => node[style].median / python.median)
  return { operation, node, kernel, python, ratio, overhead: overheadOf(node.scope, kernel, python) }
}

function overheadOf(node: Cost, kernel: Cost | null, python: Cost | null): OperationResult['overhead'] {
  if (kernel === null || python === null) return null
  const [ours, theirs] = [node.median - kernel.median, python.median - kernel.median]
  return { node: ours, python: theirs, ratio: ours / theirs }
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
      'kernel alone',
      "Node's overhead",
      "Python's",
      'ratio',
      ...styles.map(style => `${style} / Python`),
    ],
    colAligns: ['left', ...Array<'right'>(11).fill('right')],
    style: { head: [], border: [] },
  })
  for (const { operation, node, kernel, python, ratio, overhead } of results)
    table.push([
      operation,
      ...styles.map(style => node[style].median.toFixed(0)),
      python?.median.toFixed(0) ?? '–',
      kernel?.median.toFixed(0) ?? '–',
      overhead?.node.toFixed(0) ?? '–',
      overhead?.python.toFixed(0) ?? '–',
      overhead?.ratio.toFixed(2) ?? '–',
      ...styles.map(style => ratio?.[style].toFixed(2) ?? '–'),
    ])
  return table.toString()
}

async function run({ python, rounds, wanted, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const peer = python && new PythonPeer(python, 'tiny_ops.py')
  const threads = native.numThreads()
  native.setNumThreads(1) // to wake a second one costs more than these operators, on both sides
  const measureThose = async (those: Operation[]) => {
    const results: OperationResult[] = []
    for (const operation of those.filter(({ name }) => wanted(name))) {
      progress(operation.name)
      results.push(await measureAll(operation, peer, rounds))
    }
    return results
  }
  try {
    const results = await measureThose(operations())
    const perArgument = await measureThose(argumentKinds())
    return {
      data: { operations: results, arguments: perArgument },
      table: `${render(results)}\nper kind of argument\n${render(perArgument)}`,
      ratios: results.flatMap(({ operation, ratio }) =>
        ratio === null ? [] : [{ group: 'one call', name: operation, timesAsFast: 1 / ratio.scope }],
      ),
      // Of the overhead: the kernel is the same on both sides, and of some operators more than 0.6 of Python's time.
      targets: results.flatMap(({ operation, overhead }) =>
        atMost(`overhead of a call, ${operation}`, 0.6, overhead && overhead.ratio),
      ),
    }
  } finally {
    peer?.close()
    native.setNumThreads(threads)
  }
}

export const tinyOps: Benchmark = {
  name: 'tiny-ops',
  description: 'cost of a call on a few numbers, Node, Python and C++ in turn (one thread, medians)',
  defaultRounds: 100,
  run,
}
