/** Recipes: what they say, what they make, and the files that go with them. */
import Ajv from 'ajv'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import {
  AlambicError,
  data,
  getRngState,
  loadRecipe,
  loadStateDict,
  manualSeed,
  models,
  nn,
  noGrad,
  Objective,
  optim,
  recipeSchema,
  saveStateDict,
  scope,
  trainWithObjective,
  type DistillerOptions,
  type Recipe,
} from '../lib/index.js'
import { registry as dataSets } from '../lib/data/registry.js'
import { packageRoot } from '../lib/native/loader.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-recipe-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

function write(name: string, text: string): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

const recipe = {
  seed: [1, 2],
  data: { name: 'procedural', count: 30, testCount: 10, size: 8, validation: 10, batchSize: 5 },
  teacher: { model: 'convNet', options: { widths: [8, 8] } },
  student: { model: 'convNet', options: { widths: [4, 4] } },
  objective: [
    { method: 'crossEntropy' },
    { method: 'kd', weight: { value: 0.5, warmUp: 2 } },
    { method: 'features', layers: ['stage1', 'stage2'] },
  ],
  optimizer: { name: 'sgd', lr: 0.1, momentum: 0.9 },
  schedule: { name: 'cosine', warmUp: 1 },
  epochs: 3,
} satisfies Recipe

const examples = join(packageRoot, 'examples/recipes')
const exampleFiles = readdirSync(examples).filter(name => name.endsWith('.yaml'))

/** The logits of a batch by what a recipe makes. */
function logits({ student, train }: DistillerOptions): number[][] {
  return noGrad(() =>
    scope(() =>
      student
        .eval()
        .forward(train.batch([0, 1]).data)
        .tolist(),
    ),
  ) as number[][]
}

describe('a recipe', () => {
  const text = stringify(recipe)

  it('is the same as YAML, as JSON, and as an object', async () => {
    const loaded = [
      await loadRecipe(write('same.yaml', text)),
      await loadRecipe(pathToFileURL(write('same.json', JSON.stringify(recipe, null, '\t')))),
      await loadRecipe({ ...recipe, name: 'same' }),
    ]
    for (const each of loaded) expect(each.recipe).toEqual(loaded[0]!.recipe)
    expect(loaded.map(({ path }) => path)).toEqual([
      join(folder, 'same.yaml'),
      join(folder, 'same.json'),
      undefined,
    ])
  })

  it('has all its defaults once it is loaded, and loads again to the same', async () => {
    const {
      recipe: resolved,
      seeds,
      toYaml,
    } = await loadRecipe(write('r20.yaml', text)).then(loaded => ({
      recipe: loaded.recipe,
      seeds: loaded.seeds,
      toYaml: () => loaded.toYaml(),
    }))
    expect(seeds).toEqual([1, 2])
    expect(resolved).toMatchObject({
      name: 'r20',
      data: { evaluationBatchSize: 256, dropLast: false, mean: [0.47, 0.47, 0.47], augment: [], classes: 10 },
      teacher: { cache: 'never' },
      student: { model: 'convNet', options: { widths: [4, 4], depth: 1, classes: 10, inChannels: 3 } },
      optimizer: { dampening: 0, weightDecay: 0 },
      precision: 'auto',
      checkpoint: { everyEpochs: 1, everySeconds: 600, keep: 2, onError: 'continue' },
    })
    expect(resolved.objective![1]).toEqual({
      method: 'kd',
      weight: { value: 0.5, warmUp: 2 },
      temperature: 4,
    })
    const again = await loadRecipe(write('again.yaml', toYaml()))
    expect(again.recipe).toEqual(resolved)
    expect(again.toYaml()).toBe(toYaml())
  })

  it('takes anchors and merge keys of YAML', async () => {
    const file = write(
      'anchors.yaml',
      text.replace('student:', 'student: &net') +
        'stages:\n  - { optimizer: { <<: { name: sgd, lr: 1 }, lr: 0.5 } }\n',
    )
    const loaded = await loadRecipe(file)
    expect(loaded.recipe.stages![0]!.optimizer).toMatchObject({ name: 'sgd', lr: 0.5 })
  })

  it('is not disturbed by, and does not disturb, random numbers of the program', async () => {
    manualSeed(5)
    const before = getRngState().tolist()
    await loadRecipe(recipe)
    expect(getRngState().tolist()).toEqual(before)
  })

  it('may warn of what is no mistake', async () => {
    const { warnings } = await loadRecipe({
      ...recipe,
      schedule: { name: 'multiStep', milestones: [1, 30] },
    })
    expect(warnings.map(({ path }) => path)).toEqual(['teacher', 'schedule.milestones'])
    expect(warnings[1]!.message).toBe('30 will not be reached: there are 3 epochs')
  })
})

describe('what extends another', () => {
  it('changes keys, replaces lists, and removes by null', async () => {
    write('base.yaml', stringify(recipe))
    write('middle.yaml', 'extends: base.yaml\nseed: 7\noptimizer: { lr: 0.2 }\nschedule: null\n')
    const { recipe: resolved } = await loadRecipe(
      write('child.yaml', 'extends: middle.yaml\nobjective: [{ method: kd }]\n'),
    )
    expect(resolved).toMatchObject({
      seed: 7,
      optimizer: { name: 'sgd', lr: 0.2, momentum: 0.9 },
      objective: [{ method: 'kd' }],
      epochs: 3,
    })
    expect(resolved.schedule).toBeUndefined()
    expect(resolved.extends).toBeUndefined()
  })

  it('finds files from where they are written', async () => {
    const student = models.create('convNet', { widths: [4, 4] })
    await saveStateDict(student.stateDict(), join(folder, 'student.safetensors'))
    write(
      'weights.yaml',
      stringify({ ...recipe, student: { ...recipe.student, weights: 'student.safetensors' } }),
    )
    const { recipe: resolved, ...loaded } = await loadRecipe({
      extends: join(folder, 'weights.yaml'),
    } as never)
    expect(loaded.path).toBeUndefined()
    expect(resolved.student.weights).toBe(join(folder, 'student.safetensors'))
  })

  it('is overridden from outside', async () => {
    const { recipe: resolved } = await loadRecipe(write('set.yaml', stringify(recipe)), {
      set: [
        'optimizer.lr=1e-2',
        'objective[1].weight=2',
        'objective[2].layers=[stage2]',
        'teacher.options.depth=2',
        'schedule=null',
        'patience=5',
        'checkpoint.keep=9',
      ],
    })
    expect(resolved).toMatchObject({
      optimizer: { lr: 0.01, momentum: 0.9 },
      objective: [{ method: 'crossEntropy' }, { weight: 2 }, { layers: ['stage2'] }],
      teacher: { options: { depth: 2, widths: [8, 8] } },
      patience: 5,
      checkpoint: { keep: 9, everyEpochs: 1 },
    })
    expect(resolved.schedule).toBeUndefined()
  })
})

describe('a build', () => {
  it('has all that a run is made of, and trains', async () => {
    const loaded = await loadRecipe({
      ...recipe,
      ema: 0.9,
      clipGradNorm: 1,
      precision: 'float32',
      accumulate: 2,
    })
    const built = await loaded.build(1)
    expect(built).toMatchObject({
      epochs: 3,
      batchSize: 5,
      validation: 10,
      accumulate: 2,
      ema: 0.9,
      clipGradNorm: 1,
      precision: 'float32',
      scheduleInterval: 'epoch',
      seed: 1,
      about: {
        model: 'convNet',
        modelOptions: { widths: [4, 4], classes: 10, inChannels: 3 },
        mean: [0.47, 0.47, 0.47],
        std: [0.285, 0.285, 0.285],
        inputShape: [3, 8, 8],
      },
    })
    expect(built.about!.classes).toHaveLength(10)
    expect(built.train).toHaveLength(30)
    expect(built.test).toHaveLength(10)
    expect(built.objective).toBeInstanceOf(Objective)
    const result = await trainWithObjective(
      built.teacher!,
      built.student,
      new data.DataLoader(built.train, { batchSize: 10 }),
      null,
      {
        objective: built.objective!,
        optimizer: built.optimizer!,
        scheduler: built.schedule!,
        epochs: built.epochs!,
        log: null,
      },
    )
    expect(result.history).toHaveLength(3)
  })

  it('raises the learning rate over a warm-up, and counts milestones from the beginning', async () => {
    const built = await (
      await loadRecipe({
        ...recipe,
        schedule: { name: 'multiStep', milestones: [4], gamma: 0.5, warmUp: 2 },
        epochs: 6,
      })
    ).build()
    const optimizer = await built.optimizer!(built.student.parameters())
    const schedule = built.schedule!(optimizer)
    const rates = Array.from({ length: 6 }, () => {
      const { lr } = optimizer.paramGroups[0]!
      schedule.step(0)
      return Number(lr.toFixed(6))
    })
    expect(rates).toEqual([0.05, 0.1, 0.1, 0.1, 0.05, 0.05])
  })

  it('gives a student that depends on the seed alone', async () => {
    const [first, other] = [
      await loadRecipe(recipe),
      await loadRecipe({ ...recipe, teacher: { model: 'resnet20' }, objective: [{ method: 'kd' }] }),
    ]
    const one = await first.build(1)
    expect(logits(await other.build(1))).toEqual(logits(one))
    expect(logits(await first.build(2))).not.toEqual(logits(one))
    expect(logits(await first.build(1))).toEqual(logits(one))
  })

  it('reads the data once for all seeds', async () => {
    const loaded = await loadRecipe(recipe)
    const [one, two] = [await loaded.build(1), await loaded.build(2)]
    expect(two.train).toBe(one.train)
    expect(two.test).toBe(one.test)
  })

  it('loads weights, by their entry and prefix, and converts pictures for a teacher', async () => {
    const teacher = models.create('convNet', { widths: [8, 8] })
    const state = Object.fromEntries(
      Object.entries(teacher.stateDict()).map(([key, value]) => [`module.${key}`, value]),
    )
    const file = join(folder, 'teacher.safetensors')
    await saveStateDict(state, file)
    const loaded = await loadRecipe({
      ...recipe,
      teacher: {
        ...recipe.teacher,
        weights: { file, prefix: 'module.' },
        input: { to: { mean: [0.5], std: [0.5], size: 16 } },
      },
    })
    expect(loaded.warnings).toEqual([])
    const built = await loaded.build()
    const made = built.teacher as nn.Module
    expect(made.stateDict()['classifier.weight']!.tolist()).toEqual(
      (await loadStateDict(file))['module.classifier.weight']!.tolist(),
    )
    expect(built.teacherInput).toEqual({
      from: { mean: [0.47, 0.47, 0.47], std: [0.285, 0.285, 0.285] },
      to: { mean: [0.5], std: [0.5], size: 16 },
    })
  })

  it('has several teachers, stages and mixed pictures where they are asked for', async () => {
    const built = await (
      await loadRecipe({
        seed: 0,
        data: { ...recipe.data, mixUp: {} },
        teachers: { small: recipe.teacher, large: { model: 'resnet20' } },
        student: recipe.student,
        stages: [
          {
            name: 'hint',
            objective: [
              { method: 'features', layers: [{ student: 'stage1', teacher: 'layer1' }], teacher: 'large' },
            ],
            trained: ['stage1'],
            epochs: 1,
          },
          { objective: [{ method: 'kd', teacher: 'small' }, { method: 'crossEntropy' }], accumulate: 2 },
        ],
        optimizer: { name: 'adamw', lr: 0.01 },
        schedule: { name: 'oneCycle', maxLr: 0.1 },
        epochs: 2,
      })
    ).build()
    expect(Object.keys(built.teacher!)).toEqual(['small', 'large'])
    expect(built.transform).toBeInstanceOf(Function)
    expect(built.objective).toBeUndefined()
    expect(built.stages).toMatchObject([
      { name: 'hint', trained: ['stage1'], epochs: 1, accumulate: 1, scheduleInterval: 'step' },
      { epochs: 2, accumulate: 2, scheduleInterval: 'step' },
    ])
    // 20 of the 30 pictures are trained on, 5 in a batch: 4 steps an epoch in the first stage, 2 in the second.
    for (const [stage, steps] of [
      [0, 4],
      [1, 4],
    ] as const) {
      const { optimizer, schedule } = built.stages![stage]!
      const made = schedule!(await optimizer!(built.student.parameters())) as optim.lrScheduler.OneCycleLR
      expect(made.stateDict()['total_steps']).toBe(steps)
    }
  })

  it('classifies where there is no teacher', async () => {
    const built = await (await loadRecipe({ data: recipe.data, student: recipe.student, epochs: 1 })).build()
    expect(built.teacher).toBeNull()
    expect((built.objective as Objective).weights(1)).toEqual({ crossEntropy: 1 })
  })
})

describe('what is registered from outside', () => {
  it('is used from a recipe that imports one file', async () => {
    const loaded = await loadRecipe(join(examples, 'own.yaml'))
    expect(loaded.recipe.import).toEqual([join(examples, 'own.ts')])
    const built = await loaded.build()
    expect(noGrad(() => built.student.forward(built.train.batch([0, 1, 2]).data)).shape).toEqual([3, 2])
    expect(built.about).toMatchObject({ model: 'perceptron', classes: ['inside', 'outside'] })
    const schedule = built.schedule!(await built.optimizer!(built.student.parameters()))
    expect(schedule).toMatchObject({ stepSize: 2 })
  })

  it('is checked by its own schema, at its place', async () => {
    await expect(
      loadRecipe(join(examples, 'own.yaml'), { set: ['data.count=0', 'data.cout=1'] }),
    ).rejects.toMatchObject({
      problems: [
        { path: 'data.count', set: 'data.count=0', value: 0 },
        { path: 'data.cout', set: 'data.cout=1' },
      ],
    })
  })

  it('may say nothing of its data beforehand: networks are then tried once it was read', async () => {
    data.register('unknownToTheEnd', () => data.proceduralImages({ count: 20, size: 8, classes: 3 }))
    const given = { data: { name: 'unknownToTheEnd' }, student: { model: 'convNet' } }
    const built = await (await loadRecipe(given)).build()
    expect(built.about).toMatchObject({ inputShape: [3, 8, 8], classes: ['disc', 'ring', 'half disc'] })
    expect(logits(built)[0]).toHaveLength(3)
    const bad = await loadRecipe({ ...given, student: { model: 'convNet', options: { classes: 4 } } })
    await expect(bad.build()).rejects.toMatchObject({
      code: 'ERR_RECIPE',
      problems: [{ path: 'student.options.classes', value: 4 }],
    })
  })

  it('that is missing is said, also under Node.js itself', () => {
    const where = mkdtempSync(join(folder, 'own-'))
    for (const name of ['own.yaml', 'own.ts']) cpSync(join(examples, name), join(where, name))
    const program = `
      import { loadRecipe } from ${JSON.stringify(pathToFileURL(join(packageRoot, 'lib/index.ts')).href)}
      const error = await loadRecipe(${JSON.stringify(join(where, 'own.yaml'))}, { set: ['import=none.js'] }).catch(e => e)
      console.log(JSON.stringify([error.code, error.problems[0].set]))`
    const file = write('program.mts', program)
    const out = execFileSync(process.execPath, ['--import', 'tsx', file], {
      cwd: packageRoot,
      encoding: 'utf8',
    })
    expect(JSON.parse(out)).toEqual(['ERR_RECIPE', 'import=none.js'])
  })
})

describe('the recipes of docs/recipes.md', () => {
  const page = readFileSync(join(packageRoot, 'docs/recipes.md'), 'utf8')
  const blocks = Array.from(page.matchAll(/^```yaml\n([^]*?)^```/gm), ([, block]) => block!)

  it.each(blocks)('have no mistakes: %j', async block => {
    // The one that another extends is the first.
    write('r20.yaml', blocks[0]!)
    const loaded = await loadRecipe(write('page.yaml', block), { checkFiles: false })
    expect(loaded.recipe.student.model).toMatch(/resnet20B|convNet/)
  })
})

describe('the example recipes', () => {
  it.each(exampleFiles)('%s has no mistakes', async name => {
    const loaded = await loadRecipe(join(examples, name), { checkFiles: false })
    expect(loaded.seeds.length).toBeGreaterThan(0)
  })

  it('find data that is there, and miss data that is not', async () => {
    const error: unknown = await loadRecipe(join(examples, 'fashion-mnist.yaml')).catch(
      (error: unknown) => error,
    )
    expect(error).toBeInstanceOf(AlambicError)
    expect((error as AlambicError).message).toContain(
      'data.dir: FashionMNIST: expected train-images-idx3-ubyte',
    )
  })
})

describe('the JSON Schema', () => {
  it('in the package is the one of this version: `npm run generate:recipes`', () => {
    const file = JSON.parse(readFileSync(join(packageRoot, 'recipe.schema.json'), 'utf8')) as unknown
    // What the tests above registered is not in it.
    const program = `
      import { recipeSchema } from './lib/index.ts'
      console.log(JSON.stringify(await recipeSchema()))`
    const out = execFileSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '--eval', program],
      { cwd: packageRoot, encoding: 'utf8', maxBuffer: 2 ** 26 },
    )
    expect(JSON.parse(out)).toEqual(file)
  })

  it('takes good recipes and refuses bad ones', async () => {
    const fits = new Ajv({ allErrors: true }).compile(await recipeSchema())
    for (const name of exampleFiles) {
      const good: unknown = parse(readFileSync(join(examples, name), 'utf8'))
      expect(fits(good), `${name}: ${JSON.stringify(fits.errors)}`).toBe(true)
    }
    expect(fits({ extends: 'base.yaml', optimizer: { lr: 1 } })).toBe(true)
    const bad: Record<string, unknown>[] = [
      { ...recipe, epochs: -1 },
      { ...recipe, epoch: 3 },
      { ...recipe, student: undefined },
      { ...recipe, objective: [{ method: 'kd', temprature: 3 }] },
      { ...recipe, objective: [{ method: 'kd', temperature: 'hot' }] },
      { ...recipe, optimizer: { name: 'sgd', betas: [0.9, 0.99] } },
      { ...recipe, student: { model: 'convNet', options: { width: 3 } } },
      { ...recipe, data: { name: 'procedural', count: 0 } },
      { ...recipe, checkpoint: { keep: 'all' } },
    ]
    for (const each of bad) expect(fits(JSON.parse(JSON.stringify(each))), JSON.stringify(each)).toBe(false)
  })

  it('describes every key, and every option of ours', () => {
    const schema: unknown = JSON.parse(readFileSync(join(packageRoot, 'recipe.schema.json'), 'utf8'))
    const bare: string[] = []
    const look = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null) return
      const { properties } = value as { properties?: Record<string, Record<string, unknown>> }
      for (const [key, each] of Object.entries(properties ?? {}))
        if (!['description', '$ref', 'allOf', 'not'].some(name => name in each) && !path.endsWith('items'))
          bare.push(`${path}.${key}`)
      for (const [key, each] of Object.entries(value)) look(each, `${path}.${key}`)
    }
    look(schema, '')
    expect(bare.filter(path => !/\.(files|layers|augment)\./.test(path))).toEqual([])
  })

  it('covers what is registered by whoever asks', async () => {
    const { definitions } = (await recipeSchema()) as { definitions: Record<string, unknown> }
    expect(JSON.stringify(definitions['data'])).toContain('"circle"')
    expect(dataSets.names()).toContain('circle')
  })
})
