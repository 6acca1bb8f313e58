/** Teachers' outputs that are computed once, kept, and used instead of the teachers: the same weights, bit for bit. */
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  data,
  Distiller,
  manualSeed,
  methods,
  nn,
  noGrad,
  optim,
  scope,
  Term,
  tensor,
  type DistillerOptions,
  type ErrorCode,
  type Observation,
  type Tensor,
} from '../lib/index.js'
import { layoutOf, pack, unpack } from '../lib/cache/layout.js'
import { digestOf } from './run.child.js'

/** Counts how often it runs. */
class Net extends nn.Module<[Tensor], Tensor> {
  readonly body: nn.Sequential
  readonly head: nn.Linear
  readonly dropout = new nn.Dropout(0.2)
  runs = 0

  constructor(width: number) {
    super()
    this.body = new nn.Sequential(
      new nn.Conv2d(3, width, 3, { padding: 1, stride: 2 }),
      new nn.BatchNorm2d(width),
      new nn.ReLU(),
      new nn.Conv2d(width, width, 3, { padding: 1, stride: 2 }),
    )
    this.head = new nn.Linear(width, 4)
  }

  override forward(x: Tensor): Tensor {
    this.runs++
    return this.head.forward(this.dropout.forward(this.body.forward(x).relu().mean([2, 3])))
  }
}

/** A term on the embedding. */
class Embedding extends Term {
  override readonly needsEmbedding = true

  forward({ student, teacher }: Observation): Tensor {
    const mean = (x: Tensor) => x.mean([1])
    return mean(student.embedding!).sub(mean(teacher.embedding!)).square().mean()
  }
}

const images = { size: 16, classes: 4, seed: 3 }
const count = 43 // batches of 16, 16 and 11

function example(options: Partial<DistillerOptions> = {}): DistillerOptions & { teachers: Net[] } {
  manualSeed(11)
  const [student, a, b] = [new Net(6), new Net(12), new Net(8)]
  return {
    student,
    teacher: { a, b },
    teachers: [a, b],
    train: data.proceduralImages({ ...images, count }),
    batchSize: 16,
    epochs: 3,
    seed: 5,
    objective: [
      new methods.CrossEntropy(),
      new methods.KD(),
      { term: new methods.Features({ layers: ['body.0', 'body'], adapt: 'student' }), teacher: 'a' },
      { term: new Embedding(), teacher: 'b', name: 'embedding' },
    ],
    optimizer: parameters => new optim.SGD(parameters, { lr: 0.05, momentum: 0.9 }),
    ...options,
  }
}

/** Trains, and gives a digest of all that came of it, the log, and how often teachers ran. */
async function train({ teachers, ...options }: ReturnType<typeof example>) {
  const log: string[] = []
  const run = new Distiller({ ...options, log: line => log.push(line) })
  const before = teachers.map(({ runs }) => runs)
  const result = await run.start()
  return { digest: digestOf(options, result), log, runs: teachers.map(({ runs }, i) => runs - before[i]!) }
}

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'alambic-cache-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const always = () => ({ mode: 'always', folder }) as const

async function expectRefusal(run: Promise<unknown>, code: ErrorCode, text: string): Promise<void> {
  await expect(run).rejects.toMatchObject({ code, message: expect.stringContaining(text) as string })
}

async function shardsIn(root: string): Promise<string[]> {
  const files = await readdir(root, { recursive: true })
  return files.filter(file => file.endsWith('.safetensors')).map(file => join(root, file))
}

describe('a run with a teacher cache', () => {
  const augment = { horizontalFlip: true, cropPadding: 2, views: 2 }
  const cases: Record<string, Partial<DistillerOptions>> = {
    'as it is': {},
    compiled: { compile: true },
    'with two views': { train: data.proceduralImages({ ...images, count, augment }) },
    'with two views, compiled': {
      train: data.proceduralImages({ ...images, count, augment }),
      compile: true,
    },
    'with a last batch that rounds otherwise': { train: data.proceduralImages({ ...images, count: 35 }) },
    'with data held out': { validation: 8 },
    'in bfloat16': { precision: 'bfloat16' },
    'with a format for teachers': {
      teacherInput: {
        from: { mean: [0, 0, 0], std: [1, 1, 1] },
        to: { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] },
      },
    },
  }
  for (const [name, options] of Object.entries(cases))
    it(`ends with the weights of one without: ${name}`, async () => {
      const plain = await train(example(options))
      const filled = await train(example({ ...options, teacherCache: always() }))
      const again = await train(example({ ...options, teacherCache: always() }))
      expect(filled.digest).toBe(plain.digest)
      expect(again.digest).toBe(plain.digest)
    })

  it('runs the teachers for each sample once, and later only for a look at a batch', async () => {
    const options = () => example({ epochs: 5, teacherCache: always() })
    const first = await train(options())
    const later = await train(options())
    expect(first.runs).toEqual([3 + 3, 3 + 3])
    expect(later.runs).toEqual([3, 3])
    expect(first.log.filter(line => line.startsWith('teacher cache: a: 43 samples × 1 view'))).toHaveLength(1)
    expect(first.log.join('\n')).toContain('logits (4) and 2 features: ')
    expect(first.log.join('\n')).toContain('logits (4) and the embedding: ')
    expect(later.log.join('\n')).not.toContain('computed in')
  })

  it('goes on after an interruption as if nothing had happened', async () => {
    const whole = await train(example({ folder: join(folder, 'whole'), teacherCache: always() }))
    const { teachers: _, ...options } = example({ teacherCache: always() })
    const path = join(folder, 'parts')
    const stop = new AbortController()
    const run = new Distiller({ ...options, folder: path })
    run.on('step', ({ runStep }) => {
      if (runStep === 5) stop.abort()
    })
    expect((await run.start({ signal: stop.signal })).stopped).toBe(true)
    const { teachers: __, ...same } = example({ teacherCache: always() })
    const result = await (await Distiller.resume(path, same)).start()
    expect(digestOf(same, result)).toBe(whole.digest)
  })
})

describe('what is kept', () => {
  it('is computed again where it is damaged, missing or of another teacher', async () => {
    const plain = await train(example())
    await train(example({ teacherCache: always() }))
    const [first, second] = await shardsIn(folder)
    const bytes = await readFile(first!)
    bytes[bytes.length - 3]! ^= 1
    await writeFile(first!, bytes)
    await truncate(second!, 100)
    const repaired = await train(example({ teacherCache: always() }))
    expect(repaired.digest).toBe(plain.digest)
    expect(repaired.log.filter(line => line.includes('1 of 1 shards computed'))).toHaveLength(2)

    await rm(first!)
    expect((await train(example({ teacherCache: always() }))).digest).toBe(plain.digest)

    const other = example({ teacherCache: always() })
    noGrad(() => other.teachers[0]!.head.bias!.add_(0.1))
    const changed = await train(other)
    expect(changed.log.filter(line => line.includes('shards computed'))).toHaveLength(1)
    expect(changed.digest).not.toBe(plain.digest)
  })

  it('is left alone by later runs, and is not used for other data, seeds of views or precisions', async () => {
    const filling = async (options: Partial<DistillerOptions>) =>
      (await train(example({ ...options, teacherCache: always() }))).log.some(line =>
        line.includes('computed in'),
      )
    const views = { horizontalFlip: true, views: 2 }
    expect(await filling({})).toBe(true)
    const times = await Promise.all((await shardsIn(folder)).map(async file => (await stat(file)).mtimeMs))
    expect(await filling({ seed: 6 })).toBe(false)
    expect(await filling({ train: data.proceduralImages({ ...images, count, seed: 9 }) })).toBe(true)
    expect(
      await filling({ train: data.proceduralImages({ ...images, count }).with({ mean: [1, 1, 1] }) }),
    ).toBe(true)
    expect(await filling({ precision: 'bfloat16' })).toBe(true)
    expect(await filling({ train: data.proceduralImages({ ...images, count, augment: views }) })).toBe(true)
    expect(
      await filling({ train: data.proceduralImages({ ...images, count, augment: views }), seed: 6 }),
    ).toBe(true)
    const after = await Promise.all((await shardsIn(folder)).map(async file => (await stat(file)).mtimeMs))
    expect(after).toEqual(expect.arrayContaining(times))
  })

  it('is filled by two runs at once without harm', async () => {
    const plain = await train(example())
    const both = [example({ teacherCache: always() }), example({ teacherCache: always() })]
    const [a, b] = await Promise.all(
      both.map(async ({ teachers: _, ...options }) => {
        // Runs in one process share random numbers: only what they keep is looked at.
        await new Distiller({ ...options, epochs: 1 }).start()
        return true
      }),
    )
    expect([a, b]).toEqual([true, true])
    expect((await train(example({ teacherCache: always() }))).digest).toBe(plain.digest)
  })

  it("has data sets of one's own that promise views", async () => {
    const source = data.proceduralImages({ ...images, count })
    const own = (views?: number): data.Dataset => ({
      length: source.length,
      ...(views !== undefined && { views }),
      batch: (indices, _random, view) => {
        const batch = source.batch(indices)
        return view?.number === 1 ? { ...batch, data: batch.data.flip([3]) } : batch
      },
    })
    const plain = await train(example({ train: own(2) }))
    const cached = await train(example({ train: own(2), teacherCache: always() }))
    expect(cached.digest).toBe(plain.digest)
    expect(cached.log.join('\n')).toContain('43 samples × 2 views')
    await expectRefusal(train(example({ train: own(0), teacherCache: always() })), 'ERR_ARGUMENT', 'views')
    await expectRefusal(
      train(example({ train: own(), teacherCache: always() })),
      'ERR_ARGUMENT',
      'does not promise',
    )
    const junk = { length: count, views: 1, batch: () => ({ data: 5 }) } as never
    await expectRefusal(train(example({ train: junk, teacherCache: always() })), 'ERR_ARGUMENT', 'a batch')
  })

  it('may be in another dtype', async () => {
    const { log } = await train(example({ teacherCache: { ...always(), dtype: 'float16' } }))
    expect(log.join('\n')).toContain('2 features: 82.9 kB in')
  })
})

describe('largest logits', () => {
  it('keep their probabilities; the rest is spread evenly over the others', () => {
    const logits = tensor([
      [3, -1, 0.5, 2, -2],
      [0, 0, 9, 0, 1],
    ])
    const taught = { output: logits, features: {} }
    const parts = layoutOf(taught, 2, { topK: 2, dtype: undefined })
    if (typeof parts === 'string') throw new Error(parts)
    const { output } = scope(() => unpack(parts, pack(parts, taught)))
    const [exact, kept] = [logits, output].map(each => each.softmax(1).tolist() as number[][])
    for (const [row, top] of [
      [0, [0, 3]],
      [1, [2, 4]],
    ] as const) {
      const others = [0, 1, 2, 3, 4].filter(i => !(top as readonly number[]).includes(i))
      const rest = others.reduce((sum, i) => sum + exact![row]![i]!, 0)
      for (const i of top) expect(kept![row]![i]).toBeCloseTo(exact![row]![i]!, 6)
      for (const i of others) expect(kept![row]![i]).toBeCloseTo(rest / 3, 6)
    }
  })

  it('are an approximation that a run is told of', async () => {
    const plain = await train(example())
    const { log, digest } = await train(example({ teacherCache: { folder, topK: 2 } }))
    expect(log.join('\n')).toContain('the 2 largest of logits (4)')
    expect(digest).not.toBe(plain.digest)
    const all = await train(example({ teacherCache: { folder, topK: 4 } }))
    expect(all.digest).toBe(plain.digest)
  })
})

describe('where outputs cannot be kept', () => {
  class BatchStatistics extends Net {
    readonly norm = new nn.BatchNorm1d(4, { trackRunningStats: false })
    override forward(x: Tensor): Tensor {
      return this.norm.forward(super.forward(x))
    }
  }
  const reasons: [string, Partial<DistillerOptions>, string][] = [
    [
      'augmentation',
      { train: data.proceduralImages({ ...images, count, augment: { horizontalFlip: true } }) },
      'draws anew',
    ],
    ['a transform', { transform: data.mixUp({ classes: 4 }) }, 'the transform changes the batches'],
    ['a function as teacherInput', { teacherInput: x => x.mul(2) }, 'is a function'],
    ['size', { teacherCache: { maxBytes: 100 } }, 'maxBytes is 100 bytes'],
  ]
  for (const [name, options, reason] of reasons)
    it(`says why, for ${name}, and goes on without or refuses`, async () => {
      const objective = [new methods.CrossEntropy(), new methods.KD()]
      const given = () => ({ ...options, objective, epochs: 1 })
      const settings = typeof options.teacherCache === 'object' ? options.teacherCache : {}
      const { log } = await train(example({ ...given(), teacherCache: { folder, ...settings } }))
      expect(log.filter(line => line.startsWith('teacher cache: not used, '))).toHaveLength(1)
      expect(log.join('\n')).toContain(reason)
      await expectRefusal(
        train(example({ ...given(), teacherCache: { folder, ...settings, mode: 'always' } })),
        'ERR_ARGUMENT',
        reason,
      )
    })

  it('says so of a teacher that mixes the samples of a batch', async () => {
    const { teachers: _, ...options } = example({
      teacher: new BatchStatistics(6),
      objective: [new methods.KD()],
    })
    await expectRefusal(
      new Distiller({ ...options, teacherCache: always() }).start(),
      'ERR_ARGUMENT',
      'depend on the other samples',
    )
  })

  it('goes on without where the folder cannot be written to', async () => {
    const file = join(folder, 'file')
    await writeFile(file, '')
    const { log } = await train(example({ teacherCache: { folder: file }, epochs: 1 }))
    expect(log.join('\n')).toContain('teacher cache: not used, ')
    const refused = train(example({ teacherCache: { folder: file, mode: 'always' } }))
    await expectRefusal(refused, 'ERR_FILE_NOT_FOUND', 'folder')
  })

  it('refuses options that are none', () => {
    for (const teacherCache of [
      'sometimes',
      { modes: 'auto' },
      { topK: 0 },
      { folder: '' },
      { dtype: 'int8' },
      5,
    ]) {
      const { teachers: _, ...options } = example({ teacherCache } as never)
      expect(() => new Distiller(options)).toThrow('teacherCache')
    }
  })
})
