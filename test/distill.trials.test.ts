/** What `speed: 'auto'` tries with the first batch: it keeps what is faster, remembers it, and leaves no trace. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  data,
  getRngState,
  keep,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  randn,
  tensor,
  trainClassifier,
  trainWithFeatureDistillation,
  type FitOptions,
  type Speed,
  type Tensor,
  type TrainingResult,
} from '../lib/index.js'
import { recall } from '../lib/distill/remembered.js'
import { bfloat16Unit } from '../lib/system/machine.js'
import { native } from '../lib/native/loader.js'
import { settledTensors } from './settle.js'

let folder: string
const cacheBefore = process.env['ALAMBIC_CACHE']

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'alambic-speed-'))
  process.env['ALAMBIC_CACHE'] = folder
})
afterEach(() => {
  if (cacheBefore === undefined) delete process.env['ALAMBIC_CACHE']
  else process.env['ALAMBIC_CACHE'] = cacheBefore
  rmSync(folder, { recursive: true, force: true })
})

const memoryFile = () => join(folder, 'speed.json')

interface Entry {
  way: Record<string, unknown>
  choices: Record<string, { what: string; why: string }>
  day: string
  isSure: boolean
}

interface Memory {
  version: number
  entries: Record<string, Entry>
}

const readMemory = () => JSON.parse(readFileSync(memoryFile(), 'utf8')) as Memory

/** Changes what was remembered. */
function editMemory(edit: (entry: Entry) => void): void {
  const content = readMemory()
  for (const entry of Object.values(content.entries)) edit(entry)
  writeFileSync(memoryFile(), JSON.stringify(content))
}

/** Batch norms, random numbers, and a buffer that is another tensor after each step: all that a step can change. */
class Net extends nn.Module<[Tensor], Tensor> {
  conv1 = new nn.Conv2d(1, 4, 3, { padding: 1, bias: false })
  bn1 = new nn.BatchNorm2d(4)
  dropout = new nn.Dropout(0.25)
  conv2 = new nn.Conv2d(4, 8, 3, { stride: 2 })
  fc = new nn.Linear(8, 3)
  declare calls: Tensor
  declare lastMean: Tensor | null

  constructor() {
    super()
    this.registerBuffer('calls', tensor([0]))
    this.registerBuffer('lastMean', null)
  }

  forward(x: Tensor): Tensor {
    if (this.training) this.count(x)
    const features = this.dropout.forward(this.bn1.forward(this.conv1.forward(x)).relu())
    return this.fc.forward(this.conv2.forward(features).relu().mean([2, 3]))
  }

  /** Each time another tensor; the one before is released. */
  protected count(x: Tensor): void {
    noGrad(() => {
      const before = this.calls
      this.calls = keep(before.add(1))
      before.dispose()
      this.lastMean?.dispose()
      this.lastMean = keep(x.mean())
    })
  }
}

/** The same without what cannot be compiled. */
class PlainNet extends Net {
  protected override count(): void {
    // nothing
  }
}

function loader(): data.DataLoader {
  manualSeed(1)
  const labels = Array.from({ length: 48 }, (_, i) => i % 3)
  const images = randn([48, 1, 8, 8])
  const dataset = new data.TensorDataset(images, tensor(labels, { dtype: 'int64' }))
  return new data.DataLoader(dataset, { batchSize: 16, shuffle: true, seed: 5 })
}

interface Run {
  losses: number[]
  line: string
  state: Record<string, unknown>
  random: unknown
  result: TrainingResult
}

async function distil(
  speed: Speed | undefined,
  { make = () => new Net(), ...options }: FitOptions & { make?: () => Net } = {},
): Promise<Run> {
  manualSeed(3)
  const teacher = make()
  manualSeed(7)
  const student = make()
  const log: string[] = []
  const losses: number[] = []
  const result = await trainWithFeatureDistillation(teacher, student, loader(), null, {
    featureLayers: ['bn1'],
    epochs: 2,
    log: line => log.push(line),
    onStep: ({ loss }) => losses.push(loss),
    speed,
    ...options,
  })
  const state = Object.fromEntries(
    Object.entries(student.stateDict()).map(([name, value]) => [name, value.tolist()]),
  )
  return { losses, line: log[0] ?? '', state, random: getRngState().tolist(), result }
}

/** What of a training must not depend on trials. */
const traces = ({ losses, state, random }: Run) => ({ losses, state, random })

describe("speed: 'auto'", () => {
  test('logs what it chose with the milliseconds of each way', async () => {
    const { line } = await distil('auto', { make: () => new PlainNet() })
    const figures = String.raw`\(\d[\d.]* ms a step, [a-z0-9 -]+ \d[\d.]* ms\)`
    const parts = [
      bfloat16Unit('cpu') === null ? String.raw`float32 \(.+\)` : `(float32|bfloat16) ${figures}`,
      `(contiguous|channels-last) ${figures}`,
      native.numThreads() === 1 ? String.raw`1 thread \(as set\)` : String.raw`\d+ threads? ${figures}`,
    ]
    expect(line).toMatch(new RegExp(`^speed: ${parts.join('; ')}; `))
    expect(line).toMatch(
      /; (not )?compiled \(\d[\d.]* ms a step, (not )?compiled \d[\d.]* ms\); tried in [\d.]+ s(, again another day)?$/,
    )
    expect(line).toMatch(
      /(1 of the teacher's 1 batch norms folded \(.+; |the teacher as it is \()\d[\d.]* ms a step/,
    )
  })

  test('trains as if no trial had been: weights, buffers, random numbers and the order of the data', async () => {
    const tried = await distil('auto', { compile: false })
    expect(tried.line).toContain('tried in')
    const remembered = await distil('auto', { compile: false })
    expect(remembered.line).toMatch(/tried on \d{4}-\d\d-\d\d$/)
    expect(traces(tried)).toEqual(traces(remembered))
    expect(tried.state['calls']).toEqual([6])
  })

  test('draws random numbers in the order in which it would without trials, for the next batch as well', async () => {
    const noisy = () => {
      manualSeed(11)
      return {
        *[Symbol.iterator]() {
          for (let i = 0; i < 4; i++)
            yield { data: randn([6, 1, 8, 8]), labels: tensor([0, 1, 2, 0, 1, 2], { dtype: 'int64' }) }
        },
      }
    }
    const runs = []
    for (const speed of ['auto', 'auto'] as const) {
      manualSeed(7)
      const student = new Net()
      const losses: number[] = []
      await trainClassifier(student, noisy(), null, {
        epochs: 1,
        log: line => line.startsWith('speed') && losses.push(line.includes('tried in') ? 1 : 2),
        onStep: ({ loss }) => losses.push(loss),
        speed,
        compile: false,
      })
      runs.push(losses)
    }
    const [tried, remembered] = runs
    expect([tried![0], remembered![0]]).toEqual([1, 2])
    expect(tried!.slice(1)).toEqual(remembered!.slice(1))
  })

  test('trains as with its choices made by hand', async () => {
    const tried = await distil('auto', { compile: false })
    const [{ way }] = Object.values(readMemory().entries) as [Entry]
    const { precision, memoryFormat, prepareTeacher, threads } = way
    const byHand = await distil({ precision, memoryFormat, prepareTeacher, threads } as Speed)
    expect(byHand.line).not.toContain('tried')
    expect(traces(tried)).toEqual(traces(byHand))
  })

  test('asks for an optimizer, a schedule and each batch once', async () => {
    const asked = { optimizers: 0, schedules: 0, batches: 0 }
    const batches = {
      *[Symbol.iterator]() {
        for (const batch of [1, 2, 3]) {
          asked.batches += batch > 0 ? 1 : 0
          yield { data: randn([4, 1, 8, 8]), labels: tensor([0, 1, 2, 0], { dtype: 'int64' }) }
        }
      },
    }
    await trainClassifier(new Net(), batches, null, {
      epochs: 1,
      log: null,
      speed: 'auto',
      optimizer: parameters => {
        asked.optimizers++
        return new optim.SGD(parameters, { lr: 0.1, momentum: 0.9 })
      },
      scheduler: () => {
        asked.schedules++
        return { step: () => undefined }
      },
    })
    expect(asked).toEqual({ optimizers: 1, schedules: 1, batches: 3 })
  })

  test('leaves the gradients of what is used and not trained as they were', async () => {
    class Weighted extends nn.Module<[Tensor[], Tensor[], Tensor, Tensor], { total: Tensor }> {
      scale = new nn.Parameter(tensor([2]))
      forward([feature]: Tensor[], _: Tensor[], logits: Tensor, labels: Tensor) {
        const classification = nn.functional.crossEntropy(logits, labels)
        return { total: classification.add(feature!.mean().mul(this.scale).sum()) }
      }
    }
    const gradients: number[] = []
    for (const speed of [undefined, 'auto'] as const) {
      const loss = new Weighted()
      loss.scale.grad = tensor([5])
      manualSeed(7)
      await trainWithFeatureDistillation(new PlainNet(), new PlainNet(), loader(), null, {
        featureLayers: ['conv1'],
        adapt: 'none',
        loss,
        epochs: 1,
        log: null,
        speed: speed && { prepareTeacher: true, memoryFormat: 'contiguous', precision: 'float32' },
      })
      gradients.push(Number(loss.scale.grad.item()))
    }
    expect(gradients[0]).not.toBe(5)
    expect(gradients[1]).toBeCloseTo(gradients[0]!, 3)
  })

  test('leaves no tensor behind, remembered or not', async () => {
    const [teacher, student, batches] = [new PlainNet(), new PlainNet(), loader()]
    const run = () =>
      trainWithFeatureDistillation(teacher, student, batches, null, {
        featureLayers: ['bn1'],
        adapt: 'none',
        epochs: 1,
        log: null,
        speed: 'auto',
        compile: false,
      })
    await run()
    const tensors = await settledTensors()
    await run()
    expect(memory().tensors).toBe(tensors)
    rmSync(memoryFile())
    await run()
    expect(memory().tensors).toBe(tensors)
  })

  test("gives the training's own error where every way fails", async () => {
    class Broken extends Net {
      override forward(): Tensor {
        throw new Error('this network is broken')
      }
    }
    await expect(
      trainClassifier(new Broken(), loader(), null, { epochs: 1, log: null, speed: 'auto' }),
    ).rejects.toThrow('this network is broken')
    expect(() => readMemory()).toThrow('ENOENT')
  })

  test('stops with its signal, and remembers nothing of trials that were cut short', async () => {
    const controller = new AbortController()
    class Stopping extends Net {
      override forward(x: Tensor): Tensor {
        controller.abort()
        return super.forward(x)
      }
    }
    const steps: number[] = []
    const { stopped } = await trainClassifier(new Stopping(), loader(), null, {
      epochs: 5,
      log: null,
      speed: 'auto',
      signal: controller.signal,
      onStep: ({ step }) => steps.push(step),
    })
    expect([stopped, steps]).toEqual([true, [1]])
    expect(() => readMemory()).toThrow('ENOENT')
  })
})

/** Passes the time in the ways that a condition is about: then trials must find the others faster. */
function slowIn(isSlow: (net: Net, feature: Tensor) => boolean, milliseconds = 30): Net {
  const net = new PlainNet()
  const conv1 = net.conv1
  const forward = conv1.forward.bind(conv1)
  conv1.forward = x => {
    const feature = forward(x)
    if (net.training && isSlow(net, feature)) {
      const end = performance.now() + milliseconds
      while (performance.now() < end);
    }
    return feature
  }
  return net
}

/** What the log says that it took, on a student that is slow in some ways. */
async function lineOf(speed: Speed, isSlow: (net: Net, feature: Tensor) => boolean): Promise<string> {
  const log: string[] = []
  await trainClassifier(slowIn(isSlow), loader(), null, {
    epochs: 1,
    log: line => log.push(line),
    speed,
    compile: false,
  })
  return log[0]!
}

describe('what is tried', () => {
  const hasBFloat16 = bfloat16Unit('cpu') !== null

  test.skipIf(!hasBFloat16)('is precision: float32 where a network is slow in bfloat16', async () => {
    const line = await lineOf('auto', (_, feature) => feature.dtype === 'bfloat16')
    expect(line).toMatch(/^speed: float32 \([\d.]+ ms a step, bfloat16 [\d.]+ ms\)/)
  })

  test.skipIf(!hasBFloat16)('is precision: bfloat16 where a network is slow in float32', async () => {
    const line = await lineOf('auto', (_, feature) => feature.dtype === 'float32')
    expect(line).toMatch(/^speed: bfloat16 \([\d.]+ ms a step, float32 [\d.]+ ms\)/)
  })

  test("is no precision with 'exact', however slow float32 is", async () => {
    const line = await lineOf('exact', (_, feature) => feature.dtype === 'float32')
    expect(line).toMatch(/^speed: float32 \(exact\); /)
  })

  test.each([
    ['contiguous', true],
    ['channels-last', false],
  ])('is memory format: not %s where a network is slow in it', async (name, isContiguous) => {
    const line = await lineOf(
      { precision: 'float32' },
      net => net.conv2.weight.isContiguous() === isContiguous,
    )
    expect(line).toContain(`${isContiguous ? 'channels-last' : 'contiguous'} (`)
    expect(line).toMatch(new RegExp(`ms a step, ${name} `))
  })

  test.skipIf(native.numThreads() === 1)('is threads: one where several are slower', async () => {
    const line = await lineOf(
      { precision: 'float32', memoryFormat: 'contiguous' },
      () => native.numThreads() > 1,
    )
    expect(line).toMatch(/; 1 thread \([\d.]+ ms a step, 2 threads [\d.]+ ms\)/)
  })

  test('is nothing that was given by hand', async () => {
    const line = await lineOf(
      { precision: 'float32', memoryFormat: 'channelsLast', threads: 1 },
      net => !net.conv2.weight.isContiguous(),
    )
    expect(line).toMatch(
      /^speed: precision float32 \(as given\); memoryFormat channelsLast \(as given\); threads 1 \(as given\)/,
    )
  })

  test('and fails in one way is trained in another', async () => {
    const line = await lineOf({ precision: 'float32' }, net => {
      if (!net.conv2.weight.isContiguous()) throw new Error('cannot do that')
      return false
    })
    expect(line).toContain('contiguous (')
    expect(line).toContain('channels-last failed: cannot do that')
  })

  test('leaves the model in its own format, and the threads as many as before', async () => {
    const threads = native.numThreads()
    const net = slowIn(each => each.conv2.weight.isContiguous())
    await trainClassifier(net, loader(), null, { epochs: 1, log: null, speed: 'exact' })
    expect(net.conv2.weight.isContiguous()).toBe(true)
    expect(native.numThreads()).toBe(threads)
  })
})

describe('compile', () => {
  const make = () => new PlainNet()

  test('is left alone where it is given, and by an object', async () => {
    for (const [speed, compile] of [
      ['auto', false],
      [{ precision: 'float32' }, undefined],
    ] as const) {
      const { line, result } = await distil(speed, { make, compile })
      expect(line).not.toContain('compiled')
      expect(result.compilation).toBeUndefined()
    }
    const { line, result } = await distil('auto', { make, compile: true })
    expect(line).not.toContain('compiled')
    expect(result.compilation!.steps).toBeGreaterThan(0)
  })

  test('gives the same bits where it is chosen', async () => {
    const tried = await distil('exact', { make })
    const runs = []
    for (const compile of [false, true]) {
      editMemory(entry => {
        entry.way['compile'] = compile
      })
      runs.push(await distil('exact', { make }))
    }
    expect(runs.map(({ result }) => (result.compilation?.steps ?? 0) > 0)).toEqual([false, true])
    expect(traces(runs[1]!)).toEqual(traces(runs[0]!))
    expect(traces(tried)).toEqual(traces(runs[0]!))
  })

  test('ends with the epoch in which a callback changed what the loss reads', async () => {
    class Scaled extends PlainNet {
      scale = 1
      override forward(x: Tensor): Tensor {
        return super.forward(x).mul(this.scale)
      }
    }
    let nets: Scaled[] = []
    const options = {
      make: () => {
        nets.push(new Scaled())
        return nets.at(-1)!
      },
      epochs: 4,
      onEpoch: ({ epoch }: { epoch: number }) => {
        if (epoch === 2) for (const net of nets) net.scale = 0.5
      },
    }
    await distil('exact', options)
    const runs = []
    for (const compile of [false, true]) {
      nets = []
      editMemory(entry => {
        entry.way['compile'] = compile
      })
      runs.push(await distil('exact', options))
    }
    expect(traces(runs[1]!)).toEqual(traces(runs[0]!))
    expect(runs[1]!.result.compilation).toMatchObject({
      steps: 3, // of six in two epochs, two were recorded at first, and one again
      reason: 'the loss does not do the same at every step',
    })
  })

  test('is not chosen where the step cannot be compiled, and the log says why', async () => {
    const reading = () => {
      const net = new PlainNet()
      const forward = net.forward.bind(net)
      net.forward = x => (x.sum().item() > 1e9 ? x : forward(x))
      return net
    }
    const { line, result } = await distil('exact', { make: reading })
    expect(line).toMatch(/; not compiled \(the loss depends on a value that is read: .+\); tried/)
    expect(result.compilation).toBeUndefined()
  })
})

describe('what is remembered', () => {
  const isRemembered = (run: Run) => / tried on \d{4}-\d\d-\d\d$/.test(run.line)

  test('counts for the same models and batches only', async () => {
    const make = () => new PlainNet()
    await distil('exact', { make })
    expect(isRemembered(await distil('exact', { make }))).toBe(true)
    expect(isRemembered(await distil('auto', { make }))).toBe(false)
    const wider = () => Object.assign(new PlainNet(), { fc: new nn.Linear(8, 4) })
    expect(isRemembered(await distil('exact', { make: wider }))).toBe(false)
    const unlike = () => Object.assign(new PlainNet(), { dropout: new nn.Dropout(0.5) })
    expect(isRemembered(await distil('exact', { make: unlike }))).toBe(false)
    expect(isRemembered(await distil('exact', { make, clipGradNorm: 1 }))).toBe(false)
    expect(isRemembered(await distil('exact', { make }))).toBe(true)
  })

  test('counts for one day where it was found on a busy machine', async () => {
    await distil('exact')
    editMemory(entry => Object.assign(entry, { isSure: true, day: '2020-01-01' }))
    expect((await distil('exact')).line).toMatch(/tried on 2020-01-01$/)
    editMemory(entry => Object.assign(entry, { isSure: false, day: '2020-01-01' }))
    expect((await distil('exact')).line).toContain('tried in')
  })

  const entry: Entry = {
    way: {
      precision: 'float32',
      memoryFormat: 'contiguous',
      prepareTeacher: true,
      threads: 2,
      compile: false,
    },
    choices: { threads: { what: '2 threads', why: 'as set' } },
    day: '2020-01-01',
    isSure: true,
  }
  const recalled = (content: unknown) => {
    writeFileSync(memoryFile(), typeof content === 'string' ? content : JSON.stringify(content))
    return recall('key')
  }

  test('is what the file has under the key', () => {
    expect(recalled({ version: 1, entries: { key: entry } })).toEqual(entry)
    expect(recalled({ version: 1, entries: { other: entry } })).toBeUndefined()
  })

  test.each([
    ['is empty', ''],
    ['is cut short', '{"version":1,"entr'],
    ['holds something else', [1, 2]],
    ['is null', null],
    ['is of another version', { version: 2, entries: { key: entry } }],
    ['has no entries', { version: 1, entries: null }],
    ['has a list of them', { version: 1, entries: [entry] }],
  ])('is nothing where the file %s', (_, content) => {
    expect(recalled(content)).toBeUndefined()
  })

  test.each<[string, Record<string, unknown>]>([
    ['a precision that does not exist', { way: { ...entry.way, precision: 'int8' } }],
    ['a memory format that does not exist', { way: { ...entry.way, memoryFormat: 7 } }],
    ['too many threads', { way: { ...entry.way, threads: 1e9 } }],
    ['no thread', { way: { ...entry.way, threads: 0 } }],
    ['threads as text', { way: { ...entry.way, threads: '2' } }],
    ['no answer on compiling', { way: { ...entry.way, compile: null } }],
    ['no way', { way: undefined }],
    ['no certainty', { isSure: undefined }],
    ['no day', { day: undefined }],
    ['choices of nothing', { choices: { constructor: { what: 'a', why: 'b' } } }],
    ['choices without words', { choices: { threads: 5 } }],
  ])('is nothing where the file names %s', (_, change) => {
    expect(recalled({ version: 1, entries: { key: { ...entry, ...change } } })).toBeUndefined()
  })

  test('is written anew over a file that is damaged', async () => {
    writeFileSync(memoryFile(), '{"version":1,"entr')
    expect((await distil('exact')).line).toContain('tried in')
    expect(isRemembered(await distil('exact'))).toBe(true)
  })

  test('need not be: training goes on where the file cannot be written or read', async () => {
    mkdirSync(memoryFile()) // a folder is in the way
    expect((await distil('exact')).line).toContain('tried in')
    process.env['ALAMBIC_CACHE'] = join(folder, 'file', 'cache')
    writeFileSync(join(folder, 'file'), 'no folder')
    expect((await distil('exact')).line).toContain('tried in')
  })
})
