/** Runs the real set-up script in a small tree: the real build files around an addon of a few lines. */
import { spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../lib/native/loader.js'
import { minorVersion } from '../lib/native/libtorch.js'
import { fakePython, libtorchOfThisRun, writeFile } from './setup.fixtures.js'

const core = (body: string) =>
  `#include <node_api.h>\n#include <cstdlib>\nNAPI_MODULE_INIT() {\n  (void)env;\n  ${body}\n  return exports;\n}\n`

let tree: string
let secondsOfAll: number

beforeAll(() => {
  tree = realpathSync(mkdtempSync(join(tmpdir(), 'alambic-tree-')))
  const copied = [
    'scripts',
    'CMakeLists.txt',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
  ]
  for (const name of [...copied, 'native/loader.c'])
    cpSync(join(packageRoot, name), join(tree, name), { recursive: true })
  const native = join('lib', 'native')
  for (const name of readdirSync(join(packageRoot, native)).filter(each => each.endsWith('.js')))
    cpSync(join(packageRoot, native, name), join(tree, native, name))
  symlinkSync(join(packageRoot, 'node_modules'), join(tree, 'node_modules'))
  writeFile(join(tree, 'lib', 'cli', 'main.ts'), "console.log('hello')\n")
  writeFile(join(tree, 'lib', 'old.ts'), 'export const old = 1\n')
  writeFile(join(tree, 'native', 'precompiled.h'), '#pragma once\n#include <cstdlib>\n')
  writeFile(join(tree, 'native', 'addon.cc'), core(''))
})

afterAll(() => rmSync(tree, { recursive: true, force: true }))

interface Run {
  status: number | null
  output: string
  seconds: number
}

async function setUp(args: string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  const started = performance.now()
  const child = spawn(process.execPath, ['scripts/setup.js', ...args], {
    cwd: tree,
    env: { ...process.env, CI: '', LIBTORCH: libtorchOfThisRun().root, ...env },
  })
  let output = ''
  child.stdout.on('data', data => (output += data))
  child.stderr.on('data', data => (output += data))
  const status = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { status, output, seconds: (performance.now() - started) / 1000 }
}

function corePath(): string {
  return join(tree, 'build', 'Release', `alambic-torch-${minorVersion(libtorchOfThisRun().version)}.so`)
}

describe('npm run setup', { timeout: 180_000 }, () => {
  it('names all missing tools in one message', async () => {
    const bin = fakePython(join(tree, 'bin'), null)
    writeFile(join(bin, 'apt-get'))
    const { status, output } = await setUp([], { PATH: bin, CXX: '' })
    expect(status).toBe(1)
    expect(output).toMatch(/These tools are missing:[^]*C\+\+ compiler[^]*cmake 3\.18[^]*make or ninja/)
    expect(output).toMatch(/apt-get install g\+\+ cmake make/)
    expect(output).not.toContain('    at ')
  })

  it('builds the addon and the TypeScript', async () => {
    const { status, output, seconds } = await setUp()
    secondsOfAll = seconds
    expect({ status, output }).toMatchObject({ status: 0 })
    expect(existsSync(corePath())).toBe(true)
    expect(existsSync(join(tree, 'build', 'Release', 'alambic.node'))).toBe(true)
    expect(existsSync(join(tree, 'dist', 'cli', 'main.js'))).toBe(true)
    expect(output).not.toContain('npm packages')
  })

  it('does nothing the second time, silently and in a small part of the time', async () => {
    const built = statSync(corePath()).mtimeMs
    const runs = [await setUp(), await setUp(), await setUp()]
    for (const { status, output } of runs) expect({ status, output }).toEqual({ status: 0, output: '' })
    // The quickest of three: other tests run beside this one.
    expect(Math.min(...runs.map(({ seconds }) => seconds))).toBeLessThan(secondsOfAll / 5)
    expect(statSync(corePath()).mtimeMs).toBe(built)
  })

  it('compiles again only what changed', async () => {
    unlinkSync(join(tree, 'lib', 'old.ts'))
    const typescript = await setUp()
    expect(typescript).toMatchObject({ status: 0 })
    expect(typescript.output).toContain('TypeScript')
    expect(typescript.output).not.toContain('addon')
    expect(existsSync(join(tree, 'dist', 'old.js'))).toBe(false)

    writeFile(join(tree, 'native', 'addon.cc'), `${core('')}// changed\n`)
    const addon = await setUp()
    expect(addon).toMatchObject({ status: 0 })
    expect(addon.output).toContain('addon')
    expect(addon.output).not.toContain('TypeScript')
  })

  it('works once when two processes ask for it at a time', async () => {
    writeFile(join(tree, 'native', 'addon.cc'), `${core('')}// changed again\n`)
    const [first, second] = await Promise.all([setUp(), setUp()])
    expect([first.status, second.status]).toEqual([0, 0])
    const outputs = [first.output, second.output]
    expect(outputs.filter(output => output.includes('addon for libtorch'))).toHaveLength(1)
    expect(outputs.filter(output => output.includes('waiting for the set-up'))).toHaveLength(1)
    expect(await setUp()).toMatchObject({ status: 0, output: '' })
  })

  it('refuses an addon that kills its process, and says so', async () => {
    writeFile(join(tree, 'native', 'addon.cc'), core('std::abort();'))
    const { status, output } = await setUp()
    expect(status).toBe(1)
    expect(output).toContain('the process died with SIGABRT while opening it')
    expect(output).not.toContain('    at ')
  })

  it("shows the compiler's message when the sources do not compile", async () => {
    writeFile(join(tree, 'native', 'addon.cc'), 'int broken = nonsense;\n')
    const { status, output } = await setUp()
    expect(status).toBe(1)
    expect(output).toMatch(/nonsense.* was not declared/)
  })

  it('says what is wrong with LIBTORCH instead of taking another libtorch', async () => {
    const { status, output } = await setUp([], { LIBTORCH: join(tree, 'nothing') })
    expect(status).toBe(1)
    expect(output).toMatch(/LIBTORCH names no usable libtorch:[^]*nothing\): the folder does not exist/)
  })

  it('refuses unknown options', async () => {
    const { status, output } = await setUp(['--frobnicate'])
    expect(status).toBe(1)
    expect(output).toContain('unknown option --frobnicate')
    expect((await setUp(['--help'])).output).toContain('--only-addon')
  })
})
