/** Memory over a long training, in processes of its own: what other tests leave behind would blur it. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Report, Sample } from './memory.training.child.js'

const child = fileURLToPath(new URL('memory.training.child.ts', import.meta.url))
const kib = 1024
const patience = 300_000

async function train(...args: (string | number)[]): Promise<Report> {
  const options = ['--expose-gc', '--import', 'tsx', child, ...args.map(String)]
  // One thread: the net is far too small for two, and other test files run beside this one.
  const env = { ...process.env, OMP_NUM_THREADS: '1' }
  const running = spawn(process.execPath, options, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  running.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  const code = await new Promise(resolve => running.once('close', resolve))
  expect(code, output).toBe(0)
  const report = JSON.parse(output.slice(output.lastIndexOf('\n{') + 1)) as Report
  expect(report.lastLoss).toBeLessThan(report.firstLoss / 10) // it did learn
  return report
}

/** What the process held at most between two steps. */
function highest(what: 'tensors' | 'resident', samples: Sample[], from: number, to: number): number {
  return Math.max(...samples.filter(({ step }) => step >= from && step <= to).map(sample => sample[what]))
}

/** How much more memory the last third of 3,000 steps held than the second sixth. */
function growth({ samples }: Report): number {
  return highest('resident', samples, 2000, 3000) - highest('resident', samples, 500, 1500)
}

/** Far above what the allocator adds now and then, half of what a tensor of 4 KiB a step adds. */
const mostGrowth = 3000 * kib

describe('1,000 steps of Adam', () => {
  it(
    'hold no tensor more and flat memory when a scope releases',
    async () => {
      const { samples, tensorsBefore, tensorsAfter } = await train('scope', 1000)
      expect(highest('tensors', samples, 0, 1000)).toBe(tensorsBefore)
      expect(tensorsAfter).toBe(tensorsBefore)
      const warm = highest('resident', samples, 250, 600)
      expect(highest('resident', samples, 650, 1000) - warm).toBeLessThan(4000 * kib)
    },
    patience,
  )

  it(
    'hold bounded numbers of both when finalizers do, whenever the engine collects',
    async () => {
      const { samples, tensorsBefore, tensorsAfter } = await train('backstop', 1000)
      // Left alone they would be 10,000 tensors, of 400 MB.
      expect(highest('tensors', samples, 0, 1000)).toBeLessThan(6000)
      expect(tensorsAfter).toBe(tensorsBefore)
      const warm = highest('resident', samples, 250, 500)
      expect(highest('resident', samples, 550, 1000) - warm).toBeLessThan(100_000 * kib)
    },
    patience,
  )
})

describe('3,000 steps, with garbage collected every 50', () => {
  it.each(['scope', 'backstop'] as const)(
    'leave nothing behind that %s should release',
    async releasedBy => {
      const report = await train(releasedBy, 3000, 'collect')
      expect(highest('tensors', report.samples, 0, 3000)).toBe(report.tensorsBefore)
      expect(growth(report)).toBeLessThan(mostGrowth)
    },
    patience,
  )

  it(
    'would show a leak of one tensor of 4 KiB a step',
    async () => {
      const report = await train('scope', 3000, 'collect', 'leak')
      expect(report.tensorsAfter - report.tensorsBefore).toBe(3000)
      expect(growth(report)).toBeGreaterThan(mostGrowth)
    },
    patience,
  )
})
