/** Everything that the package exports, called with values that it does not take. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const child = fileURLToPath(new URL('exports.junk.child.ts', import.meta.url))

it('exports given junk: a result or an AlambicError with a code', { timeout: 600_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'alambic-junk-'))
  try {
    const tsx = fileURLToPath(import.meta.resolve('tsx'))
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', tsx, child, '1', '70'], {
      cwd: folder,
      maxBuffer: 2 ** 26,
    })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.slice(0, -1)).toEqual([])
    expect(Number(/^(\d+) calls/.exec(lines.at(-1)!)?.[1])).toBeGreaterThan(10_000)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
