/** OpenMP's threads: how many there are, and how long they wait for the next operator; seen in processes of their own. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadAddon } from '../lib/native/loader.js'

const child = fileURLToPath(new URL('threads.waiting.child.js', import.meta.url))

const patience = 45_000

/** Numbers of threads. */
interface Teams {
  before: number
  computed: number
  trained: number
}

function start(mode: string, environment: NodeJS.ProcessEnv): ChildProcess {
  return spawn(process.execPath, [child, mode], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: patience, // none outlives the test
  })
}

async function firstLine(process: ChildProcess): Promise<string> {
  for await (const line of createInterface(process.stdout!)) return line
  return expect.fail('the process printed nothing')
}

const unset = { GOMP_SPINCOUNT: undefined, OMP_WAIT_POLICY: undefined }

describe.skipIf(process.platform !== 'linux')('the threads of parallel operators', () => {
  it(
    'belong to the JavaScript thread or to training off it, not to both',
    async () => {
      const { before, computed, trained } = JSON.parse(
        await firstLine(start('teams', { OMP_NUM_THREADS: '2' })),
      ) as Teams
      expect(computed).toBe(before + 1)
      // Training keeps a thread of its own. Its team has ended, and so had that of the JavaScript thread.
      expect(trained).toBe(before + 1)
    },
    2 * patience,
  )

  it(
    'are not started for the loss of a few features and logits',
    async () => {
      const { before, after, computed } = JSON.parse(
        await firstLine(start('small', { OMP_NUM_THREADS: '2' })),
      ) as {
        before: number
        after: number
        computed: number
      }
      expect([after, computed]).toEqual([before, before + 1])
    },
    patience,
  )

  it.each(['1', '2'])(
    'are as many as OMP_NUM_THREADS=%s says, also while others compete for the processors',
    async given => {
      const others: ChildProcess[] = []
      const compete = () => {
        for (let i = 0; i < 2 * availableParallelism(); i++)
          others.push(spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore', timeout: patience }))
      }
      const watched = start('competition', { ...unset, OMP_NUM_THREADS: given })
      try {
        const counts: number[] = []
        for await (const line of createInterface(watched.stdout!)) {
          if (counts.length === 0) compete()
          if (counts.push(Number(line)) > 20) break
        }
        const [before, ...computing] = counts
        expect(computing).toHaveLength(20)
        expect(Math.max(...computing)).toBe(before! + Number(given) - 1)
      } finally {
        for (const each of [watched, ...others]) each.kill('SIGKILL')
      }
    },
    2 * patience,
  )
})

/** What libgomp says, when it is loaded, of how long it lets threads spin; where the libtorch comes with it. */
describe.skipIf(!usesLibgomp())('GNU OpenMP', () => {
  function spinCount(mode: string, environment: NodeJS.ProcessEnv): { said: string[]; afterwards: string } {
    const { stdout, stderr, status } = spawnSync(process.execPath, [child, mode], {
      env: { ...process.env, ...unset, OMP_DISPLAY_ENV: 'verbose', ...environment },
      encoding: 'utf8',
      timeout: patience,
    })
    expect(status, stderr).toBe(0)
    return {
      said: Array.from(stderr.matchAll(/GOMP_SPINCOUNT = '(.*)'/g), match => match[1]!),
      afterwards: stdout.trim(),
    }
  }

  it.each([
    ['the main thread', 'environment'],
    ['a worker', 'worker'],
  ])(
    'spins for a moment where Alambic is first used in %s, and children hear nothing of it',
    (_, mode) => {
      expect(spinCount(mode, {})).toEqual({ said: ['2500'], afterwards: '{"own":null,"child":""}' })
    },
    patience,
  )

  it.each([
    [{ GOMP_SPINCOUNT: '77' }, '77', '77'],
    [{ OMP_WAIT_POLICY: 'passive' }, '0', null],
    [{ OMP_WAIT_POLICY: 'active', GOMP_SPINCOUNT: '5' }, '5', '5'],
  ])(
    'does what the environment says: %j',
    (environment, expected, own) => {
      const { said, afterwards } = spinCount('environment', environment)
      expect(said).toEqual([expected])
      expect(JSON.parse(afterwards)).toEqual({ own, child: own ?? '' })
    },
    patience,
  )
})

function usesLibgomp(): boolean {
  Object.assign(process.report, { excludeNetwork: true })
  loadAddon()
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] }
  return sharedObjects.some(path => path.includes('libgomp'))
}
