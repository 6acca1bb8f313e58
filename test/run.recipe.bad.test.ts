/** Recipes with one mistake each: what is said of it, and where. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import {
  AlambicError,
  loadRecipe,
  methods,
  models,
  saveStateDict,
  Term,
  type LoadRecipeOptions,
  type RecipeError,
  type Tensor,
} from '../lib/index.js'
import { registry as dataSets } from '../lib/data/registry.js'

const folder = mkdtempSync(join(tmpdir(), 'alambic-recipe-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** Whose value depends on which samples share a batch. */
class Relational extends Term {
  override readonly relational = true
  forward({ student }: { student: { logits: Tensor } }): Tensor {
    return student.logits.mean()
  }
}
methods.register('relational', () => new Relational())

const good = `data: { name: procedural, count: 40, testCount: 10, size: 16 }
teacher: { model: convNet, options: { widths: [16, 32] } }
student: { model: convNet, options: { widths: [8, 16] } }
objective:
  - { method: crossEntropy }
  - { method: kd, weight: 0.5 }
  - { method: attention, layers: [stage1, stage2] }
optimizer: { name: sgd, lr: 0.05 }
schedule: { name: multiStep, milestones: [2] }
epochs: 3
`

function write(name: string, text: string): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

async function mistakes(file: string, options?: LoadRecipeOptions): Promise<RecipeError> {
  const read = vi.spyOn(dataSets.get('procedural'), 'make')
  try {
    await loadRecipe(file, options)
  } catch (error) {
    expect(error).toBeInstanceOf(AlambicError)
    expect((error as AlambicError).code, String(error)).toBe('ERR_RECIPE')
    expect(read).not.toHaveBeenCalled()
    return error as RecipeError
  } finally {
    read.mockRestore()
  }
  throw new Error('expected a mistake to be found')
}

const smaller = models.create('convNet', { widths: [4, 16] })
await saveStateDict(smaller.stateDict(), join(folder, 'smaller.safetensors'))
mkdirSync(join(folder, 'empty'))

interface Bad {
  /** What is changed in the good recipe. */
  from?: string | RegExp
  to?: string
  /** What comes after it. */
  more?: string
  /** `line:column` */
  at: string
  path: string
  value?: unknown
  says: string
  suggestion?: string
}

const bad: Record<string, Bad> = {
  'a bracket that is not closed': {
    from: 'size: 16 }',
    to: 'size: 16 ',
    at: '2:1',
    path: '',
    says: 'not valid YAML',
  },
  'a key that comes twice': {
    more: 'epochs: 4\n',
    at: '11:1',
    path: '',
    says: 'the key "epochs" comes twice',
  },
  'an unknown key': {
    more: 'epoch: 4\n',
    at: '11:1',
    path: 'epoch',
    value: 'epoch',
    says: 'did you mean "epochs"?',
    suggestion: 'epochs',
  },
  'a key that belongs elsewhere': {
    more: 'validation: 4\n',
    at: '11:1',
    path: 'validation',
    value: 'validation',
    says: 'it belongs elsewhere: data.validation',
    suggestion: 'data.validation',
  },
  'negative epochs': {
    from: 'epochs: 3',
    to: 'epochs: -3',
    at: '10:9',
    path: 'epochs',
    value: -3,
    says: 'expected an integer of at least 1, got -3',
  },
  'a number in quotes': {
    from: 'epochs: 3',
    to: 'epochs: "3"',
    at: '10:9',
    path: 'epochs',
    value: '3',
    says: 'expected an integer of at least 1, got "3"',
  },
  'a seed that comes twice': {
    more: 'seed: [1, 1]\n',
    at: '11:7',
    path: 'seed',
    value: [1, 1],
    says: 'a list of different ones',
  },
  'an unknown method': {
    from: 'kd,',
    to: 'kdd,',
    at: '6:15',
    path: 'objective[1].method',
    value: 'kdd',
    says: 'there is no method "kdd"; did you mean "kd"?',
    suggestion: 'kd',
  },
  'an unknown network': {
    from: 'student: { model: convNet',
    to: 'student: { model: covNet',
    at: '3:19',
    path: 'student.model',
    value: 'covNet',
    says: 'there is no model "covNet"; did you mean "convNet"?',
    suggestion: 'convNet',
  },
  'an unknown data set': {
    from: 'procedural',
    to: 'proceduraI',
    at: '1:15',
    path: 'data.name',
    value: 'proceduraI',
    says: 'there is no data set "proceduraI"; did you mean "procedural"?',
    suggestion: 'procedural',
  },
  'an unknown optimizer': {
    from: 'sgd',
    to: 'addam',
    at: '8:20',
    path: 'optimizer.name',
    value: 'addam',
    says: 'there is no optimizer "addam"; did you mean "adam"?',
    suggestion: 'adam',
  },
  'an unknown schedule': {
    from: 'multiStep',
    to: 'multistep',
    at: '9:19',
    path: 'schedule.name',
    value: 'multistep',
    says: 'there is no schedule "multistep"; did you mean "multiStep"?',
    suggestion: 'multiStep',
  },
  'an option that a method has not': {
    from: 'kd, weight',
    to: 'kd, temprature: 3, weight',
    at: '6:19',
    path: 'objective[1].temprature',
    value: 'temprature',
    says: 'method kd: there is no option "temprature"; did you mean "temperature"?',
    suggestion: 'temperature',
  },
  'an option out of range': {
    from: 'kd, weight',
    to: 'kd, temperature: 0, weight',
    at: '6:32',
    path: 'objective[1].temperature',
    value: 0,
    says: 'expected a number from 0.000001 to 1000000, got 0',
  },
  'an option of a network of another kind': {
    from: '[8, 16]',
    to: '[8, x]',
    at: '3:47',
    path: 'student.options.widths',
    value: [8, 'x'],
    says: 'expected integers of at least 1',
  },
  'an option of another optimizer': {
    from: 'name: sgd',
    to: 'name: adam, momentum: 0.9',
    at: '8:26',
    path: 'optimizer.momentum',
    value: 'momentum',
    says: 'optimizer adam: there is no option "momentum"',
  },
  'options that exclude each other': {
    from: 'lr: 0.05',
    to: 'lr: 0.05, nesterov: true',
    at: '8:45',
    path: 'optimizer.nesterov',
    value: true,
    says: 'expected a momentum above 0',
  },
  'a schedule without what it needs': {
    from: ', milestones: [2]',
    to: '',
    at: '9:1',
    path: 'schedule.milestones',
    says: 'schedule multiStep: expected a list of epochs, got nothing',
  },
  'layers for a term that takes none': {
    from: 'kd, weight',
    to: 'kd, layers: [stage1], weight',
    at: '6:19',
    path: 'objective[1].layers',
    value: 'layers',
    says: 'there is no option "layers"',
  },
  'a layer that the networks do not have': {
    from: '[stage1, stage2]',
    to: '[stage1, stagee2]',
    at: '7:43',
    path: 'objective[2].layers[1]',
    value: 'stagee2',
    says: 'ConvNet has no layer "stagee2"',
    suggestion: 'stage2',
  },
  'a layer that the teacher does not have': {
    from: 'layers: [stage1, stage2]',
    to: 'layers: [{ student: stage1, teacher: stage11 }]',
    at: '7:63',
    path: 'objective[2].layers[0].teacher',
    value: 'stage11',
    says: 'ConvNet has no layer "stage11"',
    suggestion: 'stage1',
  },
  'a pair with a mistyped side': {
    from: 'stage2]',
    to: '{ student: stage2, techer: stage2 }]',
    at: '7:62',
    path: 'objective[2].layers[1].techer',
    value: 'techer',
    says: 'did you mean "teacher"?',
    suggestion: 'teacher',
  },
  'channels that cannot meet': {
    from: 'attention, layers',
    to: 'features, adapt: none, layers',
    at: '7:46',
    path: 'objective[2].layers',
    value: ['stage1', 'stage2'],
    says: 'expected equal channels, got student float32 (2, 8, 16, 16) and teacher float32 (2, 16, 16, 16)',
  },
  'pictures that the student does not take': {
    from: 'widths: [8, 16]',
    to: 'widths: [8, 16], inChannels: 1',
    at: '3:19',
    path: 'student.model',
    value: 'convNet',
    says: 'expected features with 1 channel (N, 1, H, W), got float32 (2, 3, 16, 16)',
  },
  'a student of other classes than the data': {
    from: 'widths: [8, 16]',
    to: 'widths: [8, 16], classes: 7',
    at: '3:65',
    path: 'student.options.classes',
    value: 7,
    says: 'expected a network of 10 classes, as many as procedural has, got one of 7',
  },
  'a teacher of other classes': {
    from: 'widths: [16, 32]',
    to: 'widths: [16, 32], classes: 7',
    at: '2:66',
    path: 'teacher.options.classes',
    value: 7,
    says: 'expected a network of 10 classes',
  },
  'no teacher for a term that needs one': {
    from: /teacher:.*\n/,
    to: '',
    at: '5:15',
    path: 'objective[1].method',
    value: 'kd',
    says: 'the method kd needs a teacher, and the recipe has none',
  },
  'a teacher that is not there': {
    from: 'kd, weight',
    to: 'kd, teacher: teachr, weight',
    at: '6:28',
    path: 'objective[1].teacher',
    value: 'teachr',
    says: 'expected "teacher", got "teachr"',
    suggestion: 'teacher',
  },
  'weights that are all 0': {
    from: /objective:[^]*stage2\] }/,
    to: 'objective: [{ method: crossEntropy, weight: 0 }]',
    at: '4:12',
    path: 'objective',
    says: 'all are 0 in epoch 1',
  },
  'a negative weight': {
    from: 'weight: 0.5',
    to: 'weight: -1',
    at: '6:27',
    path: 'objective[1].weight',
    value: -1,
    says: 'expected a number of at least 0, got -1',
  },
  'a rule of weights that there is not': {
    from: 'weight: 0.5',
    to: 'weight: { warmup: 3 }',
    at: '6:29',
    path: 'objective[1].weight.warmup',
    value: 'warmup',
    says: 'did you mean "warmUp"?',
    suggestion: 'warmUp',
  },
  'two terms of one name': {
    from: 'method: kd',
    to: 'name: a, method: kd }\n  - { name: a, method: kd',
    at: '7:13',
    path: 'objective[2].name',
    value: 'a',
    says: 'expected a name that no other part of the loss has',
  },
  'more validation than data': {
    from: 'size: 16',
    to: 'size: 16, validation: 40',
    at: '1:75',
    path: 'data.validation',
    value: 40,
    says: 'expected less than the 40 samples for training, got 40',
  },
  'a relational term on parts of a batch': {
    from: 'method: crossEntropy',
    to: 'method: relational',
    more: 'accumulate: 2\n',
    at: '5:15',
    path: 'objective[0]',
    value: 2,
    says: 'expected accumulate 1, got 2',
  },
  'a frozen part that the student has not': {
    more: 'frozen: [stage9]\n',
    at: '11:10',
    path: 'frozen[0]',
    value: 'stage9',
    says: 'ConvNet has no layer "stage9"',
    suggestion: 'stage1',
  },
  'patience without data to compare by': {
    more: 'patience: 3\n',
    at: '11:11',
    path: 'patience',
    value: 3,
    says: 'expected data to compare epochs by',
  },
  'a device that there is not': {
    more: 'device: gpu\n',
    at: '11:9',
    path: 'device',
    value: 'gpu',
    says: 'expected a device such as "cpu", "cuda" or "cuda:0", got "gpu"',
  },
  'weights that are missing': {
    from: 'student: { model: convNet',
    to: 'student: { weights: none.safetensors, model: convNet',
    at: '3:21',
    path: 'student.weights',
    value: 'none.safetensors',
    says: 'expected a file that can be read, got none at',
  },
  'weights that do not fit the network': {
    from: 'student: { model: convNet',
    to: 'student: { weights: smaller.safetensors, model: convNet',
    at: '3:21',
    path: 'student.weights',
    value: 'smaller.safetensors',
    says: 'stage1.0.conv.weight: expected (8, 3, 3, 3), got (4, 3, 3, 3)',
  },
  'weights of another network': {
    from: /student:.*/,
    to: 'student: { model: resnet20, weights: smaller.safetensors }',
    at: '3:38',
    path: 'student.weights',
    value: 'smaller.safetensors',
    says: 'into CifarResNet: missing keys: conv1.weight, bn1.weight, bn1.bias, … 97 in all; unexpected keys: stage1.0.bn',
  },
  'data that is missing': {
    from: /data:.*/,
    to: 'data: { name: cifar10, dir: empty }',
    at: '1:29',
    path: 'data.dir',
    value: 'empty',
    says: 'expected data_batch_1.bin',
  },
  'data without its folder': {
    from: /data:.*/,
    to: 'data: { name: cifar10 }',
    at: '1:1',
    path: 'data.dir',
    says: 'data set cifar10: expected the path of a folder, got nothing',
  },
  'no student': { from: /student:.*\n/, to: '', at: '1:1', path: 'student', says: 'got nothing' },
  'a stage with a mistake': {
    more: 'stages: [{ epochs: 0 }]\n',
    at: '11:20',
    path: 'stages[0].epochs',
    value: 0,
    says: 'expected an integer of at least 1, got 0',
  },
  'a circle of recipes': {
    more: 'extends: case.yaml\n',
    at: '11:10',
    path: 'extends',
    value: 'case.yaml',
    says: 'a circle',
  },
  'a recipe to extend that is missing': {
    more: 'extends: none.yaml\n',
    at: '11:10',
    path: 'extends',
    value: 'none.yaml',
    says: 'expected a file that can be read',
  },
  'a module that is missing': {
    more: 'import: [none.ts]\n',
    at: '11:10',
    path: 'import[0]',
    says: 'expected a module, got no such file',
  },
}

describe('a recipe with', () => {
  it('none is taken', async () => {
    expect((await loadRecipe(write('case.yaml', good))).warnings.map(({ path }) => path)).toEqual(['teacher'])
  })

  it.each(Object.entries(bad))('%s', async (_name, { from, to = '', more = '', at, path, ...expected }) => {
    const text = (from === undefined ? good : good.replace(from, to)) + more
    expect(text).not.toBe(good)
    const file = write('case.yaml', text)
    const error = await mistakes(file)
    expect(
      error.problems.map(({ line, column }) => `${line}:${column}`),
      error.message,
    ).toContain(at)
    const problem = error.problems.find(each => `${each.line}:${each.column}` === at)!
    expect(problem).toMatchObject({
      file,
      path,
      ...('value' in expected && { value: expected.value }),
      ...('suggestion' in expected && { suggestion: expected.suggestion }),
    })
    expect(problem.message).toContain(expected.says)
    expect(error.message).toContain(`${file}:${at}: ${path === '' ? '' : `${path}: `}${problem.message}`)
  })
})

describe('mistakes', () => {
  it('are reported all at once, in the order of the file', async () => {
    const text = good.replace('epochs: 3', 'epochs: -3').replace('kd,', 'kdd,').replace('sgd', 'addam')
    const { problems, message } = await mistakes(write('several.yaml', `${text}patiense: 3\n`))
    expect(problems.map(({ line, path }) => [line, path])).toEqual([
      [6, 'objective[1].method'],
      [8, 'optimizer.name'],
      [10, 'epochs'],
      [11, 'patiense'],
    ])
    expect(message.split('\n')).toHaveLength(4)
  })

  it.each([
    ['{ "epochs": 3,\n  "seed": }', '2:11', 'not valid JSON: Unexpected token'],
    ['{\n  "epochs": 3,\n}', '3:1', 'not valid JSON'],
    ['{ "epochs": 3', '1:14', 'not valid JSON'],
    ['{ "epochs": 3, "epochs": 4 }', '1:16', 'the key "epochs" comes twice'],
    ['{ a: 1 }', '1:3', 'not valid JSON'],
    ['', '1:1', 'not valid JSON'],
    ['[1]', '1:1', 'expected a recipe'],
  ])('of JSON are found: %j', async (text, at, says) => {
    const file = write('case.json', text)
    const { problems } = await mistakes(file)
    expect(problems).toMatchObject([
      { file, line: Number(at.split(':')[0]), column: Number(at.split(':')[1]) },
    ])
    expect(problems[0]!.message).toContain(says)
  })

  it.each([
    ['', 'expected a recipe: keys such as data and student, got null'],
    ['a: &a [*a]\n', 'nested too deep, or in circles'],
    ['__proto__: { a: 1 }\n', 'there is no key "__proto__"'],
    ['? [1]\n: 2\n', 'expected keys that are names'],
    ['a: 1\n---\nb: 2\n', 'not valid YAML'],
  ])('of YAML are found: %j', async (text, says) => {
    expect((await mistakes(write('case.yaml', text))).message).toContain(says)
  })

  it('of what a recipe extends are found where they are', async () => {
    const base = write('base.yaml', good.replace('lr: 0.05', 'lr: -1'))
    const { problems } = await mistakes(write('child.yaml', 'extends: base.yaml\nepochs: 0\n'))
    expect(problems).toMatchObject([
      { file: base, line: 8, column: 29, path: 'optimizer.lr', value: -1 },
      { file: join(folder, 'child.yaml'), line: 2, column: 9, path: 'epochs', value: 0 },
    ])
  })

  it.each([
    ['optimizer.lr=fast', 'optimizer.lr', 'expected a number of at least 0, got "fast"'],
    ['objective[1].weight=-2', 'objective[1].weight', 'expected a number of at least 0, got -2'],
    ['objective[7].weight=2', 'objective', 'expected a number below 3 in brackets, got 7'],
    ['epochs.first=2', 'epochs', 'expected something with keys, got 3'],
    ['epoch=2', 'epoch', 'did you mean "epochs"?'],
    ['epochs', '', 'expected key=value'],
    ['epochs=[1', 'epochs', 'not a value of YAML'],
    ['student=null', 'student', 'got nothing'],
  ])('of --set %s are said of it', async (text, path, says) => {
    const { problems, message } = await mistakes(write('case.yaml', good), { set: [text] })
    const problem = problems.find(each => each.path === path)!
    expect(problem.message).toContain(says)
    if (path !== 'student') expect(message).toContain(`--set ${text}: `)
  })

  it('of an object are said by their paths', async () => {
    const error = await loadRecipe({
      data: { name: 'procedural', count: 10 },
      student: { model: 'convNet' },
      objective: [{ method: 'kd', temperature: 0 }],
    }).catch((error: unknown) => error as RecipeError)
    expect((error as RecipeError).problems).toMatchObject([{ path: 'objective[0].temperature', value: 0 }])
    expect((error as RecipeError).message).toMatch(/^objective\[0\]\.temperature: expected/)
  })

  it('that are no recipes at all have codes', async () => {
    const circle: Record<string, unknown> = {}
    circle['data'] = circle
    const given: unknown[] = [
      null,
      1,
      [],
      () => 1,
      new Map(),
      circle,
      { data: () => 1 },
      { epochs: 5n },
      new Proxy({}, {}),
    ]
    for (const each of given) {
      const error = await loadRecipe(each as never).catch((error: unknown) => error)
      expect(error).toBeInstanceOf(AlambicError)
    }
    await expect(loadRecipe(join(folder, 'none.yaml'))).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' })
    await expect(loadRecipe('a\0b')).rejects.toMatchObject({ code: 'ERR_ARGUMENT' })
  })
})
