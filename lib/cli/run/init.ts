/** Writes a recipe to begin with. */
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createInterface, type Interface } from 'node:readline/promises'
import { nearest } from '../../checks/names.js'
import * as data from '../../data/index.js'
import { AlambicError } from '../../errors.js'
import * as methods from '../../methods/index.js'
import * as models from '../../models/index.js'
import type { Module } from '../../nn/module.js'

export interface InitFlags {
  data?: string
  dir?: string
  teacher?: string
  teacherWeights?: string
  student?: string
  method?: string
  yes?: boolean
  force?: boolean
}

interface Answers {
  data: string
  dir: string
  teacher: string
  teacherWeights: string
  student: string
  method: string
}

const none = 'none'

/** Runs as it is: the pictures are made, and the teacher has new weights. */
const defaults: Answers = {
  data: 'procedural',
  dir: 'data',
  teacher: 'resnet56',
  teacherWeights: '',
  student: 'resnet20',
  method: 'kd',
}

export async function init(file: string, flags: InitFlags): Promise<void> {
  if (existsSync(file) && flags.force !== true)
    throw new AlambicError('ERR_ARGUMENT', `${file}: there is such a file; --force writes over it`)
  if (!/\.ya?ml$/.test(file))
    throw new AlambicError('ERR_ARGUMENT', `init: expected a file that ends with .yaml, got ${file}`)
  const answers = await answersFor(flags)
  await writeFile(file, recipeText(answers)).catch((error: unknown) => {
    throw new AlambicError(
      'ERR_FILE_NOT_FOUND',
      `${file}: expected a place that can be written to: ${(error as Error).message}`,
      { cause: error },
    )
  })
  process.stdout.write(
    `${file} written; \`alambic train ${file} --check\` looks for mistakes, \`alambic train ${file}\` trains\n`,
  )
}

async function answersFor(flags: InitFlags): Promise<Answers> {
  const isAsking = process.stdin.isTTY && process.stdout.isTTY && flags.yes !== true
  const terminal = isAsking ? createInterface({ input: process.stdin, output: process.stdout }) : null
  try {
    const name = await choose(terminal, 'data set', flags.data, defaults.data, data.names())
    const dir =
      name === 'procedural' ? '' : await ask(terminal, 'folder of its files', flags.dir, defaults.dir)
    const networks = models.names()
    const teacher = await choose(terminal, 'teacher', flags.teacher, defaults.teacher, [none, ...networks])
    const teacherWeights =
      teacher === none ? '' : await ask(terminal, "file of the teacher's weights", flags.teacherWeights, '')
    const student = await choose(terminal, 'student', flags.student, defaults.student, networks)
    const method =
      teacher === none ? '' : await choose(terminal, 'method', flags.method, defaults.method, methods.names())
    return { data: name, dir, teacher, teacherWeights, student, method }
  } finally {
    terminal?.close()
  }
}

async function ask(
  terminal: Interface | null,
  question: string,
  given: string | undefined,
  otherwise: string,
): Promise<string> {
  if (given !== undefined || terminal === null) return given ?? otherwise
  const hint = otherwise === '' ? '' : ` [${otherwise}]`
  return (await terminal.question(`${question}${hint}: `)).trim() || otherwise
}

/** Asks again where the answer is none of the names. */
async function choose(
  terminal: Interface | null,
  question: string,
  given: string | undefined,
  otherwise: string,
  names: readonly string[],
): Promise<string> {
  for (let offered = given; ; offered = undefined) {
    if (offered === undefined && terminal !== null) terminal.write(`${names.join(', ')}\n`)
    const answer = await ask(terminal, question, offered, otherwise)
    if (names.includes(answer)) return answer
    const near = nearest(answer, names, 1)[0]
    const message = `${question}: there is no ${answer}; ${near === undefined ? `there are: ${names.join(', ')}` : `did you mean ${near}?`}`
    if (terminal === null) throw new AlambicError('ERR_ARGUMENT', message)
    terminal.write(`${message}\n`)
  }
}

/** Methods by features need to know where they are: at the stages that both networks have. */
function layersLine(method: string, teacher: string, student: string): string {
  if (!['features', 'attention'].includes(method)) return ''
  const [theirs, ours] = [teacher, student].map(name => stagesOf(models.create(name)))
  const both = ours!.filter(path => theirs!.includes(path))
  return both.length > 0
    ? `\n    layers: [${both.join(', ')}]`
    : `\n    layers: [{ teacher: ${theirs!.at(-1)!}, student: ${ours!.at(-1)!} }]`
}

function stagesOf(model: Module): string[] {
  const paths = model.namedModules().map(([path]) => path)
  const stages = paths.filter(path => /^(layer|stage|block)\d+$/.test(path))
  return stages.length > 0 ? stages : paths.filter(path => /^features\.\d+$/.test(path)).slice(-3)
}

/** As YAML. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : JSON.stringify(text)
}

function recipeText({ data, dir, teacher, teacherWeights, student, method }: Answers): string {
  const isAlone = teacher === none
  const weight = isAlone ? '1' : '0.1'
  const teacherPart = isAlone
    ? ''
    : `
# The network that is learned from. Without weights it knows nothing: train it first, with a recipe of its own.
teacher:
  model: ${teacher}
${teacherWeights === '' ? '  # weights: teacher.safetensors' : `  weights: ${quoted(teacherWeights)}`}
`
  const methodPart = isAlone
    ? ''
    : `
  - method: ${method}
    weight: 0.9${layersLine(method, teacher, student)}`
  return `# yaml-language-server: $schema=node_modules/alambic/recipe.schema.json
# All keys: docs/recipes.md. Train with \`alambic train\`, change single values with --set epochs=3.

# One run is made of each seed.
seed: 1

data:
  name: ${data}${dir === '' ? '\n  count: 4000\n  testCount: 1000' : `\n  dir: ${quoted(dir)}`}
  batchSize: 64
  augment: [flip, { crop: 4 }]
  # So many training samples are held out, to compare epochs by. The test data are looked at once, at the end.
  validation: 500
${teacherPart}
student:
  model: ${student}

# What is minimised: a weighted sum.
objective:
  - method: crossEntropy
    weight: ${weight}${methodPart}

optimizer: { name: sgd, lr: 0.05, momentum: 0.9, weightDecay: 5.0e-4 }
schedule: { name: cosine }
epochs: 20
`
}
