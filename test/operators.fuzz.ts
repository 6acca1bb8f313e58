/** Runs operators.fuzz.child.ts and watches it: what kills it or holds it up is noted, and the next process goes on behind it. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Message, Summary } from './operators.fuzz.child.js'

export interface OperatorReport extends Summary {
  cases: number
  /** `name: how it ended`. */
  crashes: string[]
  /** What took longer than `patience`; sizes can be huge, so that this may be right. */
  slow: string[]
}

const child = fileURLToPath(new URL('operators.fuzz.child.ts', import.meta.url))

/** Of all data, so that a huge size is an error and no burden for the machine. */
const MAX_DATA_BYTES = 4 * 2 ** 30

/** Tries one case of `thinning`. `patience`: seconds for one. */
export async function fuzzOperators(
  thinning: number,
  patience: number,
  onCrash: (crash: string) => void = () => {},
): Promise<OperatorReport> {
  const report: OperatorReport = { cases: 0, results: 0, refused: {}, strange: [], crashes: [], slow: [] }
  let next = 0
  for (;;) {
    const { summary, last, tried, end } = await runFrom(thinning, next, patience)
    report.cases += tried
    if (summary !== null) {
      report.results += summary.results
      report.strange.push(...summary.strange)
      for (const [code, count] of Object.entries(summary.refused))
        report.refused[code] = (report.refused[code] ?? 0) + count
      return report
    }
    if (last === null) throw new Error(`the process ended before its first case: ${end}`)
    if (end === 'slow') report.slow.push(last.name)
    else {
      report.crashes.push(`${last.name}: ${end}`)
      onCrash(`${last.name}: ${end}`)
    }
    next = last.at + 1
  }
}

interface Run {
  summary: Summary | null
  last: { at: number; name: string } | null
  tried: number
  end: string
}

async function runFrom(thinning: number, first: number, patience: number): Promise<Run> {
  const node = [process.execPath, '--import', 'tsx', child, String(thinning), String(first)]
  const running = spawn('prlimit', [`--data=${MAX_DATA_BYTES}`, '--core=0', ...node], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<string>(resolve =>
    running.once('close', (code, signal) => resolve(signal ?? String(code))),
  )
  let errors = ''
  running.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-2000)))
  let last: Run['last'] = null
  let summary: Summary | null = null
  let tried = 0
  let isSlow = false
  let timer: NodeJS.Timeout | undefined
  const watch = (seconds: number) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      isSlow = true
      running.kill('SIGKILL')
    }, seconds * 1000)
  }
  watch(120)
  for await (const line of createInterface({ input: running.stdout })) {
    let message: Message
    try {
      message = JSON.parse(line) as Message
    } catch {
      continue // what an operator printed
    }
    if ('at' in message) {
      last = message
      tried++
    } else summary = message
    watch(patience)
  }
  const status = await ended
  clearTimeout(timer)
  const reason = errors.trim().split('\n').slice(-3).join(' | ').slice(0, 300)
  return { summary, last, tried, end: isSlow ? 'slow' : `${status} ${reason}` }
}
