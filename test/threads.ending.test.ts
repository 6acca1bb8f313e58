/** What ends while something computes: workers, the main thread, the process. In processes of their own. */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exportTorchScript, models, randn } from '../lib/index.js'
import { handmadeScript, slow } from './script.handmade.js'

const child = fileURLToPath(new URL('threads.ending.child.js', import.meta.url))
const stress = fileURLToPath(new URL('../scripts/stress-workers.js', import.meta.url))
let folder = ''

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'alambic-ending-'))
  const model = new models.ConvNet({ widths: [4, 4, 8, 8] }).eval()
  await exportTorchScript(model, [randn([4, 3, 16, 16])], join(folder, 'model.pt'))
  writeFileSync(join(folder, 'slow.pt'), handmadeScript({ body: slow }))
})
afterAll(() => rmSync(folder, { recursive: true }))

interface End {
  code: number | null
  signal: NodeJS.Signals | null
  output: string
  errors: string
}

function run(args: string[], environment: NodeJS.ProcessEnv = {}): Promise<End> {
  const process_ = spawn(process.execPath, args, { env: { ...process.env, ...environment } })
  let [output, errors] = ['', '']
  process_.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  process_.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  return new Promise(resolve => {
    process_.once('close', (code, signal) => resolve({ code, signal, output: output.trim(), errors }))
  })
}

const runCase = (name: string, ...args: string[]) => run([child, name, ...args])

describe('workers that are terminated while they compute', () => {
  it(
    'end, and the process goes on: a short run of the stress test, every workload',
    { timeout: 600_000 },
    async () => {
      const { code, output } = await run([stress, '--workers', '5', '--rounds', '2'])
      expect(output).not.toContain('DIED')
      expect(output.match(/: lived/g)).toHaveLength(15)
      expect(code).toBe(0)
    },
  )
})

describe('the main thread exits with the code that was asked for', () => {
  const busy = ['operators', 'results', 'losses', 'training', 'compiled', 'script', 'loading']

  it.each(busy)('by process.exit(7) while a worker computes: %s', { timeout: 120_000 }, async workload => {
    const { code, signal, errors } = await runCase('exits', workload, folder)
    expect([code, signal], errors).toEqual([7, null])
  })

  it.each(busy)('by an uncaught error while a worker computes: %s', { timeout: 120_000 }, async workload => {
    const { code, signal, errors } = await runCase('throws', workload, folder)
    expect([code, signal], errors).toEqual([1, null])
    expect(errors).toContain('Error: meant')
  })

  it.each([
    ['exitsItself', 7],
    ['exitsUnheard', 7],
    ['throwsItself', 1],
  ] as const)('while calls of its own run in other threads: %s', async (name, expected) => {
    // Several at a time: what comes first in an end differs where others compute.
    for (const { code, signal, errors } of await Promise.all([1, 2, 3, 4].map(() => runCase(name, folder))))
      expect([code, signal], errors).toEqual([expected, null])
  })

  it('and not before its calls in other threads are done, where nobody asks', async () => {
    expect(await runCase('waits', folder)).toMatchObject({ code: 0, output: 'done' })
  })

  it('as does a worker', async () => {
    expect(await runCase('workerExits', folder)).toMatchObject({ code: 0, output: '3' })
  })
})

describe('environments', () => {
  it('beyond the 256th are refused by an error that the loader hands on', async () => {
    const { code, output, errors } = await runCase('tooMany')
    expect(code, errors).toBe(0)
    expect(output.split('\n')).toEqual([
      'after enough: ERR_THREAD',
      'ERR_THREAD',
      'more than 256 threads use Alambic at once: let workers end, or share them',
      '2',
    ])
  })

  it('never take a handle of one that ended for their own', { timeout: 120_000 }, async () => {
    expect(await runCase('stale', '40')).toMatchObject({ code: 0, output: '0 true' })
  })

  it(
    'take over the number of one that wore out a slot, without that slot',
    { timeout: 300_000 },
    async () => {
      const { code, output, errors } = await runCase('wornOut')
      expect(code, errors).toBe(0)
      const [worn, next] = output.split('\n').map(line => JSON.parse(line) as [number, number][])
      const number = worn![0]![0]
      expect(worn).toEqual([
        [number, 1],
        [number, 3], // slot 2 retired
      ])
      expect(next).toEqual(worn)
    },
  )
})

const compiler = spawnSync('cc', ['--version']).status === 0
describe.runIf(compiler && process.platform === 'linux')('where no thread can be started', () => {
  it('a call in another thread is an error, and a later one succeeds', async () => {
    const source = join(folder, 'no-threads.c')
    const library = join(folder, 'no-threads.so')
    writeFileSync(
      source,
      `#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
  return getenv("NO_THREADS") ? EAGAIN : create(thread, attributes, start, argument);
}
`,
    )
    expect(spawnSync('cc', ['-shared', '-fPIC', '-o', library, source, '-ldl']).status).toBe(0)
    const { code, output, errors } = await run([child, 'noThreads', folder], {
      LD_PRELOAD: library,
      OMP_NUM_THREADS: '1',
    })
    expect(code, errors).toBe(0)
    expect(output.split('\n')).toEqual(['ERR_THREAD', 'no error', 'no error'])
  })
})
