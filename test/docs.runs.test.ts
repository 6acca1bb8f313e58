/** What docs/runs.md shows is run as it stands, but for less data and fewer epochs. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { packageRoot } from '../lib/native/loader.js'

const page = readFileSync(join(packageRoot, 'docs', 'runs.md'), 'utf8')
const folder = mkdtempSync(join(tmpdir(), 'alambic-docs-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

function firstBlock(language: string): string {
  return new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(page)![1]!
}

function run(...args: string[]) {
  return spawnSync(process.execPath, args, { encoding: 'utf8', cwd: folder, timeout: 240_000 })
}

it('its commands, one after the other', { timeout: 600_000 }, () => {
  const main = join(packageRoot, 'dist', 'cli', 'main.js')
  const small = `
data: { name: procedural, count: 200, testCount: 50, size: 16, validation: 40, batchSize: 40 }
student: { model: convNet, options: { widths: [4, 4] } }
epochs: 1
`
  for (const name of ['a', 'b']) writeFileSync(join(folder, `${name}.yaml`), small)
  const commands = firstBlock('sh').trim().split('\n')
  expect(commands.length).toBeGreaterThan(4)
  for (const line of commands) {
    const [command] = line.split('#')
    expect(command).toMatch(/^npx alambic /)
    const { status, stderr } = run(main, ...command!.trim().split(/ +/).slice(2))
    expect(status, `${line}\n${stderr}`).toBe(0)
    // What init writes is for real training.
    if (command!.includes(' init ')) writeFileSync(join(folder, 'recipe.yaml'), small)
  }
})

it('its program', { timeout: 300_000 }, () => {
  const program = firstBlock('ts')
    .replace(
      "from 'alambic'",
      `from ${JSON.stringify(pathToFileURL(join(packageRoot, 'dist', 'index.js')).href)}`,
    )
    .replace('models.resnet56()', 'new models.ConvNet({ widths: [4, 4] })')
    .replace('models.resnet20()', 'new models.ConvNet({ widths: [4, 4] })')
    .replace('count: 2000', 'count: 300')
    .replace('epochs: 20', 'epochs: 2')
  writeFileSync(join(folder, 'program.mjs'), program)
  const { status, stdout, stderr } = run(join(folder, 'program.mjs'))
  expect(status, stderr).toBe(0)
  expect(stdout).toMatch(/^1 [\d.]+ [\d.]+\n2 [\d.]+ [\d.]+\n[\d.]+ \{/)
})
