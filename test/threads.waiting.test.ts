/** How OpenMP's threads wait, seen from their number in processes of their own. */
import { spawn, type ChildProcess } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { tellsWaitingTime } from '../lib/native/addon.js'

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

describe.skipIf(process.platform !== 'linux')('the threads of parallel operators', () => {
  it(
    'belong to the JavaScript thread or to training off it, not to both',
    async () => {
      const fixed = { OMP_NUM_THREADS: '2', GOMP_SPINCOUNT: '1000' } // no more threads while others compete
      const { before, computed, trained } = JSON.parse(await firstLine(start('teams', fixed))) as Teams
      expect(computed).toBe(before + 1)
      // Training keeps a thread of its own. Its team has ended, and so had that of the JavaScript thread.
      expect(trained).toBe(before + 1)
    },
    2 * patience,
  )

  it.skipIf(!tellsWaitingTime())(
    'sleep between operators while others compete for the processors',
    async () => {
      const processors = availableParallelism()
      const others: ChildProcess[] = []
      const compete = () => {
        for (let i = 0; i < 2 * processors; i++)
          others.push(spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore', timeout: patience }))
      }
      const free = { OMP_NUM_THREADS: '2', GOMP_SPINCOUNT: undefined, OMP_WAIT_POLICY: undefined }
      const watched = start('competition', free)
      try {
        let before = NaN
        // More threads than processors are kept, which is what makes GNU OpenMP put them to sleep. Without them there
        // are at most two more than before: the one that watches, and the second of the team that computes.
        for await (const line of createInterface(watched.stdout!)) {
          if (others.length === 0) compete()
          if (Number.isNaN(before)) before = Number(line)
          else if (Number(line) > before + 2) return
        }
        expect.fail('the process ended')
      } finally {
        for (const each of [watched, ...others]) each.kill('SIGKILL')
      }
    },
    2 * patience,
  )
})
