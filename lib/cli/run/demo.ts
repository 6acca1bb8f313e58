/** `alambic demo`: the recipes in `examples/recipes/demo`, beside each other. */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { AlambicError } from '../../errors.js'
import { native, packageRoot } from '../../native/loader.js'
import { RunFolder } from '../../run/folder.js'
import { loadRecipe, type LoadedRecipe } from '../../run/index.js'
import { zeros } from '../../tensors/factories.js'
import type { DemoFlags } from '../demo.js'
import { stopOnSignal, stoppedCode } from '../stop.js'
import { checkPlot, writePlot } from './plot.js'
import { renderTable, type Row } from './table.js'
import { runOf } from './train.js'

/** Held out of the training data, to compare epochs by. */
const validation = { procedural: 500, files: 5000 }

/** On real data a few epochs of many images. */
const epochsOnFiles = 4

const dataNames = { 'fashion-mnist': 'fashionMnist', mnist: 'mnist', cifar10: 'cifar10' } as const

export async function runDemo(flags: DemoFlags): Promise<void> {
  const output = flags.json ? process.stderr : process.stdout
  await checkNeeds(flags)
  const started = performance.now()
  const folder = await mkdtemp(join(tmpdir(), 'alambic-demo-'))
  const stop = stopOnSignal(output)
  const rows: Row[] = []
  try {
    await trainAll(flags, folder, rows, output, stop.signal)
  } finally {
    stop.release()
    await rm(folder, { recursive: true, force: true })
  }
  if (flags.json) {
    const { data, seed, device } = flags
    process.stdout.write(`${JSON.stringify({ data, seed, device, models: rows }, null, 2)}\n`)
  }
  output.write(`\n${renderTable(rows, 'student alone', output.isTTY)}\n`)
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  output.write(`${seconds} s in all${stop.signal.aborted ? ', stopped before the end' : ''}\n`)
  if (flags.plot && rows.length > 0) {
    await writePlot(flags.plot, rows, `${flags.data}, accuracy on validation images`)
    output.write(`plot: ${flags.plot}\n`)
  }
  if (stop.signal.aborted) process.exitCode = stoppedCode
}

/** What is missing is said before data are read and models trained. */
async function checkNeeds({ plot, device, data, dataDir }: DemoFlags): Promise<void> {
  if (plot) await checkPlot(plot)
  zeros([1], { device }).dispose()
  if (data !== 'procedural' && dataDir === undefined)
    throw new AlambicError(
      'ERR_ARGUMENT',
      `--data ${data} needs --data-dir DIR, the folder that holds its files (for example ${join('data', data)})`,
    )
}

async function trainAll(
  flags: DemoFlags,
  folder: string,
  rows: Row[],
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<void> {
  const teacher = await readRecipe('teacher', flags, [])
  output.write(await headOf(flags, teacher))
  await addRow(teacher, flags, join(folder, 'teacher'), rows, output, signal)
  const weights = `teacher.weights=${JSON.stringify(new RunFolder(join(folder, 'teacher')).student)}`
  for (const method of flags.methods) {
    if (signal.aborted) return
    const recipe = await readRecipe(method, flags, method === 'alone' ? [] : [weights])
    await addRow(recipe, flags, join(folder, method), rows, output, signal)
  }
}

async function addRow(
  recipe: LoadedRecipe,
  { seed }: DemoFlags,
  folder: string,
  rows: Row[],
  output: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<void> {
  const { parameters, ...result } = await runOf(recipe, seed, folder, output, signal)
  const { epochs: history, stopped, testAccuracy } = result
  rows.push({ name: recipe.recipe.name!, parameters, history, stopped, testAccuracy })
}

function readRecipe(name: string, flags: DemoFlags, set: readonly string[]): Promise<LoadedRecipe> {
  const path = join(packageRoot, 'examples', 'recipes', 'demo', `${name}.yaml`)
  return loadRecipe(path, { set: [...overridesOf(flags, name === 'teacher'), ...set] })
}

/** What the flags change in the recipes. */
function overridesOf(flags: DemoFlags, isTeacher: boolean): string[] {
  const { data, dataDir, trainSize, batchSize, lr, seed, device } = flags
  const isProcedural = data === 'procedural'
  const held = isProcedural ? validation.procedural : validation.files
  const source = isProcedural
    ? [`data.seed=${seed}`]
    : [
        `data=${JSON.stringify({ name: dataNames[data], dir: dataDir, validation: held, dropLast: true })}`,
        `epochs=${epochsOnFiles}`,
      ]
  const epochs = isTeacher ? flags.teacherEpochs : flags.epochs
  return [
    ...source,
    `data.batchSize=${batchSize}`,
    ...(trainSize === undefined ? [] : [`data.samples=${trainSize + held}`]),
    ...(trainSize === undefined || trainSize >= batchSize ? [] : ['data.dropLast=false']),
    ...(epochs === undefined ? [] : [`epochs=${epochs}`]),
    `optimizer.lr=${lr}`,
    `schedule.maxLr=${lr}`,
    `seed=${seed}`,
    `device=${device}`,
  ]
}

async function headOf({ data, device }: DemoFlags, recipe: LoadedRecipe): Promise<string> {
  const options = await recipe.build()
  const held = recipe.recipe.data.validation ?? 0
  return [
    `data      ${data}: ${options.train.length - held} training, ${held} validation and ${options.test?.length ?? 0} test images`,
    'recipes   examples/recipes/demo',
    `machine   ${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} CPUs; ${device}, ${native.numThreads()} threads, ` +
      `libtorch ${native.systemInfo().torchVersion}`,
    '',
    '',
  ].join('\n')
}
