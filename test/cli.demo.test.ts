/** `alambic demo` and `compare` look for what they need before they read data and train. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'alambic-demo-'))
afterAll(() => rmSync(folder, { recursive: true }))

function run(args: string[], nodeOptions: string[] = []) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeOptions, main, ...args], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  return { status, stdout, stderr }
}

/** Makes the packages for drawing look as if they were not installed. */
const withoutVega = [
  '--import',
  `data:text/javascript,${encodeURIComponent(`
    import { register } from 'node:module'
    register('data:text/javascript,' + encodeURIComponent(\`
      export function resolve(name, context, next) {
        if (name !== 'vega' && name !== 'vega-lite') return next(name, context)
        throw Object.assign(new Error('Cannot find package ' + name), { code: 'ERR_MODULE_NOT_FOUND' })
      }\`), ${JSON.stringify(pathToFileURL('/').href)})`)}`,
]

/** A training that would have begun has printed its data. */
const expectNothingDone = ({ status, stdout }: ReturnType<typeof run>) => {
  expect(status).toBe(1)
  expect(stdout).toBe('')
}

const short = ['--train-size', '40', '--teacher-epochs', '1', '--epochs', '1']

describe.each(['demo', 'compare'])('%s', command => {
  it('refuses a plot in a folder that is not there, or in the place of one', () => {
    for (const [path, reason] of [
      [join(folder, 'missing', 'plot.svg'), /ENOENT/],
      [folder, /it is a folder/],
    ] as const) {
      const result = run([command, ...short, '--plot', path])
      expectNothingDone(result)
      expect(result.stderr).toContain(`--plot: expected a file that can be written, got ${path}`)
      expect(result.stderr).toMatch(reason)
    }
  })

  it('refuses a device that is not there', () => {
    const result = run([command, ...short, '--no-plot', '--device', 'cuda:99'])
    expectNothingDone(result)
    expect(result.stderr).toContain('cuda:99')
  })

  it('says which packages a plot needs, and does without them where there is none', () => {
    mkdirSync(join(folder, command))
    const missing = run([command, ...short, '--plot', join(folder, command, 'plot.svg')], withoutVega)
    expectNothingDone(missing)
    expect(missing.stderr).toMatch(/vega/)
  })
})

it('demo without a plot needs no packages for one', { timeout: 300_000 }, () => {
  const { status, stdout, stderr } = run(['demo', ...short, '--no-plot'], withoutVega)
  expect(status, stderr).toBe(0)
  expect(stdout).toContain('student alone')
})
