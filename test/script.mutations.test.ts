/** Damaged and malicious TorchScript: always a coded error or a sound model; no crash, no hang, no flood of memory. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { findModels } from './script.fixtures.js'
import type { Line } from './script.mutations.child.js'
import { malicious } from './script.mutations.js'

const child = fileURLToPath(new URL('script.mutations.child.ts', import.meta.url))
const models = findModels()
const files =
  'folder' in models
    ? ['shared.traced', 'structured.scripted', 'tied', 'branches.scripted'].map(name =>
        join(models.folder, `${name}.pt`),
      )
    : []

/** What it told of each file; the last line is that of the file that ended it, if one did. */
async function load(...args: (string | number)[]): Promise<{ lines: Line[]; exit: unknown }> {
  const options = ['--import', 'tsx', child, ...args.map(String)]
  const running = spawn(process.execPath, options, {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [output, errors] = ['', '']
  running.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  running.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const exit = await new Promise(resolve => running.once('close', (code, signal) => resolve(signal ?? code)))
  const lines = output
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as Line)
  expect(exit, `${JSON.stringify(lines.at(-1))}\n${errors.slice(-2000)}`).toBe(0)
  return { lines: lines.filter(line => line.result !== undefined), exit }
}

function expectHarmless(lines: Line[]): void {
  expect(lines.filter(line => line.milliseconds! > 10_000)).toEqual([])
  expect(Math.max(...lines.map(line => line.peak!))).toBeLessThan(1024)
}

describe('files that are wrong', () => {
  test('by chance: 2400 mutations', { timeout: 300_000 }, async () => {
    const [count, processes] = [2400, 2]
    const share = count / processes
    const parts = await Promise.all(
      Array.from({ length: processes }, (_, i) => load(i * share, share, ...files)),
    )
    const lines = parts.flatMap(part => part.lines)
    expect(lines).toHaveLength(count)
    expectHarmless(lines)
    const refused = lines.filter(line => line.result === 'ERR_FILE_FORMAT').length
    const loaded = lines.filter(line => line.result === 'loaded').length
    expect(refused + loaded).toBe(count)
    expect(refused).toBeGreaterThan(count / 2)
    expect(loaded).toBeGreaterThan(0) // some mutations do no harm: a comment, a weight's byte with its checksum
  })

  test('by design: each is refused', { timeout: 120_000 }, async () => {
    const { lines } = await load('malicious')
    expect(lines.map(({ name, result }) => [name, result])).toEqual(
      Object.keys(malicious()).map(name => [name, 'ERR_FILE_FORMAT']),
    )
    expectHarmless(lines)
  })
})
