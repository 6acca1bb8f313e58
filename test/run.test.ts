/** Runs: interrupted, resumed, killed, without room on the disk; what they keep and what they say. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import {
  AlambicError,
  Distiller,
  evaluate,
  loadStateDict,
  methods,
  nn,
  optim,
  randn,
  Term,
  type DistillerOptions,
  type Observation,
  type RunEpoch,
  type Tensor,
} from '../lib/index.js'
import { DataLoader } from '../lib/data/loader.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { digestOf, exampleRun } from './run.child.js'
import { settledTensors } from './settle.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-run-'))
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})
const at = (name: string) => join(folder, name)

async function failure(promise: Promise<unknown>): Promise<AlambicError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(AlambicError)
  return error as AlambicError
}

/** Without the times, and without what tells of interruptions. */
function metricsOf(path: string): Record<string, unknown>[] {
  return readFileSync(join(path, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map(line => {
      const { seconds: _, imagesPerSecond: __, ...rest } = JSON.parse(line) as Record<string, unknown>
      return rest
    })
    .filter(({ type }) => type !== 'resumed')
}

/** The steps of {@link exampleRun}: 13 in each of its 5 epochs. */
const steps = 65

async function wholeRun(options: Partial<DistillerOptions> = {}, name?: string): Promise<string> {
  const made = { ...exampleRun(), ...options, ...(name !== undefined && { folder: at(name) }) }
  return digestOf(made, await new Distiller(made).start())
}

/** Stops after each of these steps, and goes on each time with everything made anew. */
async function interrupted(name: string, stops: readonly number[], options: Partial<DistillerOptions> = {}) {
  for (const [i, stop] of [...stops, Infinity].entries()) {
    const made = { ...exampleRun(), ...options }
    randn([i + 1]).dispose() // whatever else draws random numbers
    const path = at(name)
    const run = i === 0 ? new Distiller({ ...made, folder: path }) : await Distiller.resume(path, made)
    const stopper = new AbortController()
    run.on('step', ({ runStep }) => {
      if (runStep === stop) stopper.abort()
    })
    const result = await run.start({ signal: stopper.signal })
    expect(result.stopped).toBe(stop !== Infinity)
    if (!result.stopped) return { digest: digestOf(made, result), result }
  }
  throw new Error('unreachable')
}

describe('a run that is interrupted and goes on ends as one that is not', () => {
  it('kept or not, compiled or not', async () => {
    const digest = await wholeRun()
    expect(await wholeRun({}, 'kept')).toBe(digest)
    expect(await wholeRun({ compile: true }, 'compiled')).toBe(digest)
    expect(metricsOf(at('compiled'))).toEqual(metricsOf(at('kept')))
  })

  it.each([false, true])('stopped at every kind of step (compile: %s)', async compile => {
    const name = `stopped-${compile}`
    // The first, the last of an epoch, of a stage, of the run, and in between.
    const { digest } = await interrupted(name, [1, 2, 13, 14, 20, 26, 27, 40, 52, 64, 65], { compile })
    expect(digest).toBe(await wholeRun())
    expect(metricsOf(at(name))).toEqual(metricsOf(at('kept')))
  })

  it('with gradients of several batches', async () => {
    const { digest } = await interrupted('accumulated', [3, 7, 12], { accumulate: 3 })
    expect(digest).toBe(await wholeRun({ accumulate: 3 }))
  })

  it('with patience', async () => {
    const { digest, result } = await interrupted('patience', [30, 39], { patience: 1 })
    expect(result.endedEarly).toBe(true)
    expect(result.epochs.length).toBeLessThan(5)
    expect(digest).toBe(await wholeRun({ patience: 1 }))
    const made = exampleRun()
    const again = await Distiller.resume(at('patience'), { ...made, patience: 1 })
    expect(digestOf(made, await again.start())).toBe(digest)
  })

  it('when it is over already', async () => {
    const digest = await wholeRun({}, 'over')
    const made = exampleRun()
    const again = await Distiller.resume(at('over'), made)
    expect(digestOf(made, await again.start())).toBe(digest)
  })
})

// ---- Processes that die --------------------------------------------------------------------------------------------------

const child = fileURLToPath(new URL('run.child.ts', import.meta.url))

interface Ending {
  signal: NodeJS.Signals | null
  output: string
}

function runChild(path: string, compile: boolean, killAfter?: number): Promise<Ending> {
  return new Promise((resolve, reject) => {
    const process_ = spawn(process.execPath, ['--import', 'tsx', child, path, String(compile), '10'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    process_.stdout.on('data', (text: Buffer) => {
      if (output === '' && killAfter !== undefined) setTimeout(() => process_.kill('SIGKILL'), killAfter)
      output += String(text)
    })
    process_.on('error', reject)
    process_.on('exit', (_, signal) => {
      resolve({ signal, output })
    })
  })
}

it.each([false, true])('a process that is killed again and again (compile: %s)', async compile => {
  const path = at(`killed-${compile}`)
  // Moments within the run, whatever the machine is busy with: each process comes further than the one before.
  let kills = 0
  for (let ending: Ending; ; kills++) {
    ending = await runChild(path, compile, kills < 5 ? 30 + 97 * ((kills * 7) % 5) : undefined)
    if (ending.signal !== null) continue
    const last = JSON.parse(ending.output.trim().split('\n').at(-1)!) as { digest: string }
    expect(last.digest).toBe(await wholeRun())
    break
  }
  expect(kills).toBeGreaterThan(0)
})

it('a folder belongs to one process at a time', async () => {
  const path = at('locked')
  const run = new Distiller({ ...exampleRun(), folder: path })
  const other = new Distiller({ ...exampleRun(), folder: path })
  let busy: AlambicError | undefined
  run.on('step', async ({ runStep }) => {
    if (runStep === 1) busy = await failure(other.start())
  })
  const running = run.start()
  expect((await failure(run.start())).code).toBe('ERR_BUSY')
  await running
  expect(busy!.code).toBe('ERR_BUSY')
  expect(busy!.message).toContain(path)
  expect((await failure(other.start())).message).toMatch(/has a run already; Distiller.resume\(\)/)
})

// ---- What is kept --------------------------------------------------------------------------------------------------------

describe('the folder of a run', () => {
  it('has the student with what it is, and the newest checkpoints only', async () => {
    const made = { ...exampleRun(), about: { model: 'net', classes: ['a', 'b', 'c', 'd'] } }
    const path = at('files')
    const result = await new Distiller({ ...made, folder: path, checkpoint: { keep: 1 } }).start()
    expect(readdirSync(path).sort()).toEqual([
      'checkpoints',
      'environment.json',
      'metrics.jsonl',
      'result.json',
      'student.safetensors',
    ])
    expect(readdirSync(join(path, 'checkpoints')).filter(name => name.endsWith('.pt'))).toHaveLength(1)
    const weights = await loadStateDict(join(path, 'student.safetensors'))
    const other = exampleRun()
    other.student.loadStateDict(weights)
    expect(await evaluate(other.student, new DataLoader(made.test!, { batchSize: 40 }))).toBe(
      result.testAccuracy,
    )
    const { metadata } = await inspectWeights(join(path, 'student.safetensors'))
    expect(JSON.parse(metadata['alambic']!)).toMatchObject({
      model: 'net',
      chosen: 'best',
      epoch: result.best!.epoch,
    })
  })

  it('tells last, best and mean of the last ten apart', async () => {
    const epochs: RunEpoch[] = []
    const { stages: _, ema: __, ...made } = exampleRun()
    const run = new Distiller({ ...made, objective: [new methods.CrossEntropy()], epochs: 12 })
    run.on('epoch', epoch => epochs.push(epoch))
    const result = await run.start()
    const accuracies = epochs.map(({ accuracy }) => accuracy!)
    expect(result.last).toBe(accuracies.at(-1))
    expect(result.best!.accuracy).toBe(Math.max(...accuracies))
    expect(result.best!.epoch).toBe(accuracies.indexOf(Math.max(...accuracies)) + 1)
    const ten = accuracies.slice(-10)
    expect(result.meanOfLastTen).toBeCloseTo(ten.reduce((sum, each) => sum + each) / 10, 10)
    expect(result.comparedBy).toBe('validation')
  })

  it('goes on from an older checkpoint where the newest is damaged, and says so', async () => {
    const path = at('damaged')
    await interrupted('damaged', [20])
    rmSync(path, { recursive: true })
    const made = exampleRun()
    const stopper = new AbortController()
    const run = new Distiller({ ...made, folder: path, checkpoint: { everySteps: 1 } })
    run.on('checkpoint', () => undefined)
    run.on('step', ({ runStep }) => {
      if (runStep === 40) stopper.abort()
      return new Promise(resolve => setTimeout(resolve, 5))
    })
    await run.start({ signal: stopper.signal })
    const checkpoints = readdirSync(join(path, 'checkpoints'))
      .filter(name => name.endsWith('.pt'))
      .sort()
    expect(checkpoints).toHaveLength(2)
    writeFileSync(join(path, 'checkpoints', checkpoints[1]!), 'half of a file')
    const again = exampleRun()
    const resumed = await Distiller.resume(path, again)
    const problems: string[] = []
    resumed.on('problem', ({ message }) => problems.push(message))
    expect(digestOf(again, await resumed.start())).toBe(await wholeRun())
    expect(problems[0]).toContain(checkpoints[1])
  })

  it('keeps what was saved where the disk is full, and goes on or stops as set', async context => {
    const disk = at('small')
    mkdirSync(disk)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', disk], { stdio: 'ignore' })
    } catch {
      context.skip()
    }
    try {
      const problems: string[] = []
      const made = exampleRun()
      const run = new Distiller({ ...made, folder: join(disk, 'a'), checkpoint: { everySteps: 5 } })
      run.on('checkpoint', () => {
        if (!existsSync(join(disk, 'ballast'))) fill(join(disk, 'ballast'))
      })
      run.on('problem', ({ message }) => problems.push(message))
      run.on('step', () => new Promise(resolve => setTimeout(resolve, 5)))
      // The student's own file is what the run is for: without it the run fails, and can be finished later.
      expect((await failure(run.start())).message).toMatch(/no space left/)
      expect(problems.length).toBeGreaterThan(0)
      expect(problems[0]).toMatch(/could not be written: .*no space left.*; the run goes on/)
      rmSync(join(disk, 'ballast'))
      const again = exampleRun()
      const resumed = await Distiller.resume(join(disk, 'a'), again)
      expect(digestOf(again, await resumed.start())).toBe(await wholeRun())

      fill(join(disk, 'ballast'))
      const other = { ...exampleRun(), folder: join(disk, 'b'), checkpoint: { onError: 'stop' } } as const
      expect((await failure(new Distiller(other).start())).message).toMatch(/no space left/)
    } finally {
      execFileSync('umount', ['-l', disk])
    }
  })

  /** Leaves no room. */
  function fill(path: string): void {
    try {
      writeFileSync(path, Buffer.alloc(2 ** 20))
    } catch {
      // as intended
    }
  }
})

// ---- What is said --------------------------------------------------------------------------------------------------------

class Broken extends Term {
  override readonly needsTeacher = false
  private steps = 0
  override forward({ student }: Observation): Tensor {
    const value = student.logits.mean()
    return ++this.steps === 5 ? value.mul(NaN) : value
  }
}

describe('a run', () => {
  it('stops at a loss that is not finite, and names the term', async () => {
    const made = exampleRun()
    const objective = [new methods.CrossEntropy(), { term: new Broken(), name: 'broken' }]
    const run = new Distiller({
      ...made,
      stages: undefined,
      objective,
      epochs: 1,
      folder: at('nan'),
    })
    const { code, message } = await failure(run.start())
    expect(code).toBe('ERR_NAN_LOSS')
    expect(message).toMatch(/epoch 1, step 5: .*it is broken that is not/)
  })

  it('says which options changed by hand, and where', async () => {
    await interrupted('changed', [10]).catch(() => undefined)
    const path = at('by-hand')
    const stopper = new AbortController()
    const run = new Distiller({ ...exampleRun(), folder: path }).withRecipe(
      'optimizer: { lr: 0.1 }\nepochs: 2\n',
    )
    run.on('step', ({ runStep }) => {
      if (runStep === 7) stopper.abort()
    })
    await run.start({ signal: stopper.signal })
    const again = (await Distiller.resume(path, exampleRun())).withRecipe(
      'optimizer: { lr: 0.2 }\nepochs: 2\n',
    )
    const { changes } = await again.start()
    expect(changes).toEqual(['optimizer.lr: 0.1 → 0.2 (from step 7 on)'])
  })

  it('says which plain options of a run without a recipe changed', async () => {
    const path = at('objects')
    const stopper = new AbortController()
    const run = new Distiller({ ...exampleRun(), folder: path })
    run.on('step', ({ runStep }) => {
      if (runStep === 3) stopper.abort()
    })
    await run.start({ signal: stopper.signal })
    const again = await Distiller.resume(path, { ...exampleRun(), clipGradNorm: 5, ema: 0.8 })
    const { changes } = await again.start()
    expect(changes).toContain('ema: 0.9 → 0.8 (from step 3 on)')
    expect(changes).toContain('clipGradNorm: nothing → 5 (from step 3 on)')
  })

  it('takes optimizers that are made asynchronously', async () => {
    const { stages: _, ...made } = exampleRun()
    const optimizer = (parameters: Tensor[]) => Promise.resolve(new optim.SGD(parameters, { lr: 0.01 }))
    const run = new Distiller({ ...made, objective: [new methods.CrossEntropy()], epochs: 1, optimizer })
    expect((await run.start()).epochs[0]!.lr).toEqual([0.01])
  })

  it('writes again what somebody removed while it trains', async () => {
    const path = at('removed')
    const made = exampleRun()
    const run = new Distiller({ ...made, folder: path }).withRecipe('epochs: 1\n')
    run.on('step', ({ runStep }) => {
      if (runStep === 20) rmSync(path, { recursive: true })
    })
    await run.start()
    expect(readdirSync(path)).toEqual(
      expect.arrayContaining(['recipe.yaml', 'environment.json', 'student.safetensors']),
    )
    const again = exampleRun()
    const resumed = (await Distiller.resume(path, again)).withRecipe('epochs: 1\n')
    expect(digestOf(again, await resumed.start())).toBe(await wholeRun())
  })

  it('ends with the error of a listener', async () => {
    const run = new Distiller(exampleRun())
    run.on('epoch', () => Promise.reject(new Error('mine')))
    await expect(run.start()).rejects.toThrow('mine')
  })

  it('takes stages that train parts of the student, and leaves the others as they are', async () => {
    const made = exampleRun()
    const before = (made.student as unknown as { head: nn.Linear }).head.weight.tolist()
    const run = new Distiller({ ...made, choose: 'last', stages: made.stages!.slice(0, 1) })
    await run.start()
    expect((made.student as unknown as { head: nn.Linear }).head.weight.tolist()).toEqual(before)
  })

  it.each([
    ['an unknown option', { epoch: 3 }, /no option "epoch"; did you mean "epochs"/],
    ['no objective', { stages: [{}] }, /stages\[0\]: objective: expected/],
    ['no stage', { stages: [] }, /stages: expected at least one stage/],
    ['patience without data', { patience: 3, validation: null }, /patience: expected validation data/],
    ['best without data', { choose: 'best', validation: null }, /choose: expected validation data/],
    ['the average without one', { choose: 'ema', ema: undefined }, /choose: expected ema/],
    [
      'more validation than data',
      { validation: 230 },
      /validation: expected fewer samples than train has \(230\)/,
    ],
    [
      'a test each epoch without data',
      { testEachEpoch: true, test: null },
      /testEachEpoch: expected test data/,
    ],
    [
      'an unknown rule for checkpoints',
      { checkpoint: { every: 3 } },
      /checkpoint: there is no option "every"/,
    ],
  ])('refuses %s', (_, options, message) => {
    const make = () => new Distiller({ ...exampleRun(), ...(options as object) })
    expect(make).toThrow(message)
    expect(make).toThrow(AlambicError)
  })

  it('refuses to go on where nothing is', async () => {
    expect((await failure(Distiller.resume(at('nowhere'), exampleRun()))).code).toBe('ERR_FILE_NOT_FOUND')
  })
})

it('counts its steps', async () => {
  let last = 0
  const run = new Distiller(exampleRun())
  run.on('step', ({ runStep }) => (last = runStep))
  await run.start()
  expect(last).toBe(steps)
})

it('leaves no tensor behind', async () => {
  const counts: number[] = []
  for (const name of ['tidy-a', 'tidy-b']) {
    const before = await settledTensors()
    const { result } = await interrupted(name, [20])
    expect(result.stopped).toBe(false)
    counts.push((await settledTensors()) - before)
  }
  expect(counts[1]).toBeLessThanOrEqual(counts[0]!)
})
