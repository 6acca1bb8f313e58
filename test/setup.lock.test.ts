import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { packageRoot } from '../lib/native/loader.js'
import { withLock } from '../scripts/setup/lock.js'
import { temporaryFolder, writeFile } from './setup.fixtures.js'

const lockModule = pathToFileURL(join(packageRoot, 'scripts', 'setup', 'lock.js')).href

/** A process that notes when it enters and leaves the locked part. */
async function worker(lock: string, log: string): Promise<number | null> {
  const code = `
    import { appendFileSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { withLock } from ${JSON.stringify(lockModule)}
    await withLock(${JSON.stringify(lock)}, () => undefined, async () => {
      appendFileSync(${JSON.stringify(log)}, 'in\\n')
      await sleep(100)
      appendFileSync(${JSON.stringify(log)}, 'out\\n')
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'inherit' })
  return new Promise(resolve => child.on('close', resolve))
}

it('lets one process in at a time', async () => {
  const folder = temporaryFolder()
  const [lock, log] = [join(folder, 'lock'), join(folder, 'log')]
  expect(await Promise.all([1, 2, 3, 4].map(() => worker(lock, log)))).toEqual([0, 0, 0, 0])
  expect(readFileSync(log, 'utf8')).toBe('in\nout\n'.repeat(4))
  expect(existsSync(lock)).toBe(false)
})

it('takes over the lock of a process that is gone, once', async () => {
  const folder = temporaryFolder()
  const gone = spawn(process.execPath, ['-e', ''])
  await new Promise(resolve => gone.on('close', resolve))
  const lock = writeFile(join(folder, 'lock'), `${hostname()} ${gone.pid} 0`)
  const log = join(folder, 'log')
  expect(await Promise.all([1, 2, 3].map(() => worker(lock, log)))).toEqual([0, 0, 0])
  expect(readFileSync(log, 'utf8')).toBe('in\nout\n'.repeat(3))
})

it('says who holds it while it waits, and is free again after a failure', async () => {
  const lock = join(temporaryFolder(), 'lock')
  const owners: string[] = []
  const first = withLock(
    lock,
    () => undefined,
    async () => {
      await new Promise(resolve => setTimeout(resolve, 300))
      throw new Error('the work failed')
    },
  )
  const failed = expect(first).rejects.toThrow('the work failed')
  await new Promise(resolve => setTimeout(resolve, 100))
  const second = await withLock(
    lock,
    owner => owners.push(owner),
    () => Promise.resolve('done'),
  )
  await failed
  expect(second).toBe('done')
  expect(owners).toHaveLength(1)
  expect(owners[0]).toContain(` ${process.pid} `)
})
