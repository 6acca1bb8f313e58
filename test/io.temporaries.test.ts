/** What a process leaves that dies while it saves: the next save of that name clears it, and nothing of those that live. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { exportTorchScript, nn, saveCheckpoint, saveStateDict, tensor, zeros } from '../lib/index.js'
import { writeJson } from '../lib/native/state.js'
import { temporaryFor } from '../lib/native/temporaries.js'
import { folderWith } from './data.fixtures.js'

const child = fileURLToPath(new URL('io.temporaries.child.ts', import.meta.url))
const hasProc = process.platform === 'linux'

function start(how: string, path: string): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', child, how, path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

async function exitOf(started: ChildProcess): Promise<unknown> {
  const [code, signal] = (await once(started, 'exit')) as [number | null, string | null]
  return code ?? signal
}

/** Until it says so. */
async function says(started: ChildProcess, word: string): Promise<void> {
  for await (const chunk of started.stdout!.iterator({ destroyOnReturn: false }))
    if (String(chunk).includes(word)) return
  throw new Error(`ended without saying ${word}`)
}

const save = (path: string) => saveStateDict({ a: tensor([1]) }, path)

describe('A process that dies while it saves', () => {
  it('leaves a file that the next save of that name clears, and no other', async () => {
    const folder = await folderWith()
    const path = join(folder, 'a.pt')
    expect(await exitOf(start('exit', path))).toBe(3)
    expect(readdirSync(folder)).toHaveLength(1)
    expect(statSync(join(folder, readdirSync(folder)[0]!)).size).toBe(1 << 20)

    await save(join(folder, 'b.pt'))
    await save(join(folder, 'a.pt.pt'))
    expect(readdirSync(folder)).toHaveLength(3)
    await save(path)
    expect(readdirSync(folder).sort()).toEqual(['a.pt', 'a.pt.pt', 'b.pt'])
  })

  it('by a signal, is cleared by a checkpoint of that name', async () => {
    const folder = await folderWith()
    const started = start('wait', join(folder, 'a.pt'))
    await says(started, 'writing')
    started.kill('SIGKILL')
    expect(await exitOf(started)).toBe('SIGKILL')
    expect(readdirSync(folder)).toHaveLength(1)
    await saveCheckpoint({ epoch: 1 }, join(folder, 'a.pt'))
    expect(readdirSync(folder)).toEqual(['a.pt'])
  })

  it('while it exports, is cleared by the next export', async () => {
    const folder = await folderWith()
    const path = join(folder, 'a.pt')
    expect(await exitOf(start('export', path))).toBe(3)
    expect(readdirSync(folder)).toHaveLength(1)
    await exportTorchScript(new nn.ReLU(), [zeros([1])], path, { warn: null })
    expect(readdirSync(folder)).toEqual(['a.pt'])
  })
})

describe('A process that lives', () => {
  it('saves on while others save under the same name', async () => {
    const folder = await folderWith()
    const path = join(folder, 'a.pt')
    const started = start('wait', path)
    await says(started, 'writing')
    await save(path)
    expect(readdirSync(folder)).toHaveLength(2)
    started.stdin!.write('go on')
    expect(await exitOf(started)).toBe(0)
    expect(readdirSync(folder)).toEqual(['a.pt'])
    expect(statSync(path).size).toBe(1 << 20)
  })

  it('may save under one name several times at once', async () => {
    const folder = await folderWith()
    await Promise.all(Array.from({ length: 8 }, () => save(join(folder, 'a.pt'))))
    expect(readdirSync(folder)).toEqual(['a.pt'])
  })

  it.runIf(hasProc)('keeps what its worker threads write, until a thread is gone', async () => {
    const folder = await folderWith()
    const path = join(folder, 'a.pt')
    const worker = new Worker(
      `import('tsx/esm/api').then(({ register }) => { register(); return import(${JSON.stringify(child)}) })`,
      {
        eval: true,
        argv: ['wait', path],
      },
    )
    expect(await once(worker, 'message')).toEqual(['writing'])
    await save(path)
    expect(readdirSync(folder)).toHaveLength(2)
    await worker.terminate()
    await save(path)
    expect(readdirSync(folder)).toEqual(['a.pt'])
  })
})

describe('Names', () => {
  /** A name as a process has it that is not there, with parts of it in place of its own. */
  function left(folder: string, parts: { machine?: string; pid?: number; start?: string }): string {
    const temporary = temporaryFor(join(folder, 'a.pt'))
    temporary.done()
    const [, machine, pid, start, random] = /\.([0-9a-f]{8})-(\d+)-(\d+)-(\w+)\.tmp$/.exec(temporary.path)!
    const name = `.a.pt.${parts.machine ?? machine}-${parts.pid ?? pid}-${parts.start ?? start}-${random}.tmp`
    writeFileSync(join(folder, name), 'x')
    return name
  }

  it.runIf(hasProc)('tell a process from a later one with its number', async () => {
    const folder = await folderWith()
    left(folder, { start: '1' })
    left(folder, { pid: 1, start: '12345678901' })
    const alive = left(folder, { pid: process.ppid, start: '0' })
    await save(join(folder, 'a.pt'))
    expect(readdirSync(folder)).toEqual([alive, 'a.pt'])
  })

  it('of other machines are left alone, but not for ever', async () => {
    const folder = await folderWith()
    const young = left(folder, { machine: '00000000' })
    const old = left(folder, { machine: '00000001' })
    utimesSync(join(folder, old), 1, 1)
    await save(join(folder, 'a.pt'))
    expect(readdirSync(folder)).toEqual([young, 'a.pt'])
  })

  it('that only look alike are not touched', async () => {
    const folder = await folderWith()
    const others = ['.a.pt.tmp', '.a.pt.12-34.tmp', 'a.pt.00000000-1-1-000000000000.tmp', '.a.pt.backup']
    for (const name of others) writeFileSync(join(folder, name), 'mine')
    await save(join(folder, 'a.pt'))
    expect(readdirSync(folder).sort()).toEqual([...others, 'a.pt'].sort())
  })

  it('may be as long as file systems bear', async () => {
    const folder = await folderWith()
    const name = 'n'.repeat(252) + '.pt'
    await save(join(folder, name))
    expect(readdirSync(folder)).toEqual([name])
  })

  it('with other letters are fine', async () => {
    const folder = await folderWith()
    await mkdir(join(folder, 'ü'))
    await save(join(folder, 'ü', '(größe) [1].pt'))
    expect(readdirSync(join(folder, 'ü'))).toEqual(['(größe) [1].pt'])
  })
})

it('What set-up remembers is written by the same rule', async () => {
  const folder = await folderWith()
  const path = join(folder, 'state.json')
  const temporary = temporaryFor(path)
  temporary.done()
  writeFileSync(temporary.path.replace(/-\d+-\d+-/, '-999999999-1-'), 'x')
  writeJson(path, { a: 1 })
  expect(readdirSync(folder)).toEqual(['state.json'])
})
