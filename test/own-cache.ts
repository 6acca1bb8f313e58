import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'

/** For the tests of a file: what other runs on this machine remember of `speed` does not count. */
export function useOwnCache(): void {
  const before = process.env['ALAMBIC_CACHE']
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'alambic-cache-'))
    process.env['ALAMBIC_CACHE'] = folder
  })
  afterAll(() => {
    rmSync(folder, { recursive: true })
    if (before === undefined) delete process.env['ALAMBIC_CACHE']
    else process.env['ALAMBIC_CACHE'] = before
  })
}
