import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { REFERENCE_VERSION, findLibtorch } from '../lib/native/libtorch.js'
import { installArchive } from '../scripts/setup/archive.js'
import { installByPip } from '../scripts/setup/pip.js'
import { Progress } from '../scripts/setup/progress.js'
import { fakeLibtorch, temporaryFolder, writeFile } from './setup.fixtures.js'

let cache: string
const shown: string[] = []
const stream = { isTTY: false, write: (text: string) => shown.push(text) > 0 }
const options = { yes: false, progress: new Progress({ verbose: false, stream: stream as never }) }

beforeEach(() => {
  shown.length = 0
  cache = temporaryFolder()
  vi.stubEnv('ALAMBIC_CACHE', cache)
  vi.stubEnv('LIBTORCH', '')
  return () => vi.unstubAllEnvs()
})

function managed() {
  return findLibtorch({ env: { PATH: '', ALAMBIC_CACHE: cache }, systemRoots: [] }).libtorch
}

/**
 * A `python3` on PATH that makes environments and whose pip installs a libtorch without content. It fails for the
 * requirements that match `refused`.
 */
function pipStub(refused: string): { log: string } {
  const folder = temporaryFolder()
  const log = join(folder, 'log')
  const torch = fakeLibtorch(join(folder, 'torch'), { version: REFERENCE_VERSION })
  const script = join(folder, 'bin', 'python3')
  const facts = { executable: script, version: '3.12', venv: true, ensurepip: true, pip: true }
  writeFile(
    script,
    `#!/bin/sh
PATH=/usr/bin:/bin
echo "$@" >> '${log}'
case "$*" in
  *${refused}*) echo "ERROR: no matching distribution"; exit 1 ;;
  "-c "*) echo '${JSON.stringify(facts)}' ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip "*) packages="\${0%/bin/python}/lib/python3.12/site-packages"; mkdir -p "$packages"; cp -r '${torch}' "$packages" ;;
esac
`,
  )
  chmodSync(script, 0o755)
  vi.stubEnv('PATH', join(folder, 'bin'))
  return { log }
}

describe.runIf(process.platform === 'linux')('the managed copy by pip', () => {
  it('is a private environment with the reference version, for the CPU without the packages of Python', async () => {
    const { log } = pipStub('NOTHING')
    const libtorch = await installByPip(options)
    expect(libtorch).toMatchObject({ version: REFERENCE_VERSION, source: 'managed', headers: true })
    expect(libtorch.root.startsWith(cache)).toBe(true)
    expect(managed()).toEqual(libtorch)
    const install = readFileSync(log, 'utf8')
      .split('\n')
      .find(line => line.startsWith('-m pip'))!
    expect(install).toMatch(/^-m pip install --quiet /)
    expect(install).toContain(` torch==${REFERENCE_VERSION}`)
    if (install.includes('+cpu')) expect(install).toContain('--no-deps')
  })

  it('is installed once', async () => {
    const { log } = pipStub('NOTHING')
    await installByPip(options)
    const before = readFileSync(log, 'utf8')
    shown.length = 0
    await installByPip(options)
    expect(readFileSync(log, 'utf8')).toBe(before)
    expect(shown).toEqual([])
  })

  it('takes the next wheel when there is none for this machine', async () => {
    const { log } = pipStub(`torch==${REFERENCE_VERSION}+cpu`)
    expect((await installByPip(options)).version).toBe(REFERENCE_VERSION)
    expect(readFileSync(log, 'utf8')).toMatch(new RegExp(`torch==${REFERENCE_VERSION}$`, 'm'))
  })

  it("shows pip's words when it fails, and leaves nothing behind", async () => {
    pipStub('torch==')
    await expect(installByPip(options)).rejects.toThrow('ERROR: no matching distribution')
    expect(managed()).toBeNull()
    expect(readdirSync(cache)).toEqual([])
  })
})

const archiveExists = ['linux-x64', 'darwin-arm64'].includes(`${process.platform}-${process.arch}`)

describe.runIf(archiveExists)('the managed copy from the archive', () => {
  /** Serves one zip file under every path. */
  async function mirror(): Promise<{ sha256: string; requested: string[] }> {
    const folder = temporaryFolder()
    fakeLibtorch(join(folder, 'libtorch'), { version: REFERENCE_VERSION })
    const zip = spawnSync('cmake', ['-E', 'tar', 'cf', 'libtorch.zip', '--format=zip', 'libtorch'], {
      cwd: folder,
    })
    expect(zip.status).toBe(0)
    const content = readFileSync(join(folder, 'libtorch.zip'))
    const requested: string[] = []
    const server = createServer((request, response) => {
      requested.push(request.url ?? '')
      response.end(content)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { port } = server.address() as { port: number }
    vi.stubEnv('ALAMBIC_LIBTORCH_MIRROR', `http://127.0.0.1:${port}/mirror`)
    return { sha256: createHash('sha256').update(content).digest('hex'), requested }
  }

  it('is taken when its checksum is the expected one', async () => {
    const { sha256, requested } = await mirror()
    vi.stubEnv('ALAMBIC_LIBTORCH_SHA256', sha256)
    const libtorch = await installArchive(options)
    expect(libtorch).toMatchObject({ version: REFERENCE_VERSION, source: 'managed' })
    expect(managed()).toEqual(libtorch)
    expect(requested).toHaveLength(1)
    expect(requested[0]).toMatch(/^\/mirror\/cpu\/libtorch-.*\.zip$/)
    expect(readdirSync(join(cache, `libtorch-${REFERENCE_VERSION}-cpu`))).not.toContain('libtorch.zip')
  })

  it('is refused when its checksum differs, and nothing of it stays', async () => {
    const { sha256 } = await mirror()
    vi.stubEnv('ALAMBIC_LIBTORCH_SHA256', '0'.repeat(64))
    await expect(installArchive(options)).rejects.toThrow(
      `has the SHA-256 ${sha256}, expected ${'0'.repeat(64)}`,
    )
    expect(managed()).toBeNull()
    expect(existsSync(join(cache, `libtorch-${REFERENCE_VERSION}-cpu`))).toBe(false)
  })

  it('is not even downloaded while no checksum is known', async () => {
    const { requested } = await mirror()
    vi.stubEnv('ALAMBIC_LIBTORCH_SHA256', '')
    await expect(installArchive(options)).rejects.toThrow('set ALAMBIC_LIBTORCH_SHA256 to it')
    expect(requested).toEqual([])
  })

  it('says so when the mirror cannot be reached', async () => {
    vi.stubEnv('ALAMBIC_LIBTORCH_MIRROR', 'http://127.0.0.1:9')
    vi.stubEnv('ALAMBIC_LIBTORCH_SHA256', '0'.repeat(64))
    await expect(installArchive(options)).rejects.toThrow('http://127.0.0.1:9/cpu/libtorch-')
  })
})
