/** Importing the package loads nothing: where nothing is built, a program can catch what the first use throws. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'alambic-import-'))
for (const name of ['lib', 'package.json', 'tsconfig.json'])
  cpSync(join(root, name), join(folder, name), { recursive: true })
symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
afterAll(() => rmSync(folder, { recursive: true }))

function run(where: string, program: string): unknown {
  const file = join(folder, 'try.mts')
  writeFileSync(file, program.replace('./lib/', `${pathToFileURL(where).href}/lib/`))
  return JSON.parse(
    execFileSync(process.execPath, ['--import', 'tsx', file], { cwd: where, encoding: 'utf8' }),
  ) as unknown
}

it('does not fail where nothing is built; what is used first does, with the way out', () => {
  const uses = {
    function: 'alambic.zeros([2])',
    operator: 'alambic.torch.add',
    names: 'Object.keys(alambic.torch)',
    presence: '"add" in alambic.torch',
    namespace: 'alambic.torch.ops.aten.add',
    method: 'alambic.Tensor.prototype.add',
    layer: 'new alambic.nn.Linear(2, 2)',
    network: 'alambic.models.resnet20()',
    optimizer: 'new alambic.optim.SGD([])',
    seed: 'alambic.manualSeed(1)',
    twice: 'alambic.zeros([2])',
  }
  const result = run(
    folder,
    `import * as alambic from './lib/index.ts'
     const codes = {}
     const attempt = (name, use) => {
       try { use(); codes[name] = 'none' }
       catch (error) { codes[name] = [error instanceof alambic.AlambicError, error.code, /npm run setup|npx alambic setup/.test(error.message)] }
     }
     ${Object.entries(uses)
       .map(([name, use]) => `attempt(${JSON.stringify(name)}, () => ${use})`)
       .join('\n')}
     console.log(JSON.stringify(codes))`,
  )
  const expected = [true, 'ERR_ADDON_NOT_FOUND', true]
  expect(result).toEqual(Object.fromEntries(Object.keys(uses).map(name => [name, expected])))
}, 60_000)

it('lets pages of help be read where nothing is built', () => {
  const help = spawnSync(
    process.execPath,
    ['--import', 'tsx', join(folder, 'lib/cli/main.ts'), 'compare', '--help'],
    {
      cwd: folder,
      encoding: 'utf8',
    },
  )
  expect([help.status, help.stderr]).toEqual([0, ''])
  expect(help.stdout).toContain('--no-plot')
}, 60_000)

it('makes the operator table at first use, whichever it is, and the same one for all', () => {
  const result = run(
    root,
    `import * as alambic from './lib/index.ts'
     const early = alambic.torch // as a dynamic import hands it out
     const x = alambic.tensor([1, 2])
     const sums = [early.add(x, x), alambic.torch.add(x, x), x.add(x)].map(each => each.tolist())
     const { add } = early
     console.log(JSON.stringify({
       sums,
       isSame: early.add === alambic.torch.add && add === early.add,
       names: Object.keys(early).length === Object.keys(alambic.torch).length && Object.keys(early).length > 1000,
       has: ['add' in early, 'add' in alambic.torch, 'matmul' in x],
       then: typeof early.then,
     }))`,
  )
  expect(result).toEqual({
    sums: [
      [2, 4],
      [2, 4],
      [2, 4],
    ],
    isSame: true,
    names: true,
    has: [true, true, true],
    then: 'undefined',
  })
}, 60_000)

it('needs neither zod nor yaml: only recipes do', () => {
  const lean = mkdtempSync(join(tmpdir(), 'alambic-lean-'))
  try {
    for (const name of ['lib', 'package.json', 'tsconfig.json'])
      cpSync(join(root, name), join(lean, name), { recursive: true })
    mkdirSync(join(lean, 'node_modules'))
    for (const name of readdirSync(join(root, 'node_modules')))
      if (name !== 'zod' && name !== 'yaml')
        symlinkSync(join(root, 'node_modules', name), join(lean, 'node_modules', name))
    const file = join(lean, 'try.mts')
    writeFileSync(
      file,
      `import { loadRecipe } from './lib/index.ts'
       console.log(await loadRecipe({} as never).catch(error => error.code))`,
    )
    const out = execFileSync(process.execPath, ['--import', 'tsx', file], { cwd: lean, encoding: 'utf8' })
    expect(out.trim()).toBe('ERR_MODULE_NOT_FOUND')
  } finally {
    rmSync(lean, { recursive: true })
  }
}, 60_000)
