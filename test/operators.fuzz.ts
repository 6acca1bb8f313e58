/** Runs operators.fuzz.child.ts and watches it: what kills it or holds it up is noted, and the next process goes on behind it. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Calls, Message } from './operators.fuzz.child.js'

export interface OperatorReport {
  cases: number
  results: number
  refused: Record<string, number>
  /** `name: how it ended`. */
  crashes: string[]
  /** Errors that are no AlambicError, or have no code of their own (`ERR_NATIVE`). */
  strange: string[]
  /** What took longer than `patience`; sizes can be huge, so that this may be right. */
  slow: string[]
}

export interface FuzzOptions extends Calls {
  /** Seconds for one case. */
  patience: number
  /** The number of the first case. Default: 0. */
  first?: number
  /** Called with each crash, and the number of its case. */
  onCrash?: (crash: string, at: number) => void
}

const child = fileURLToPath(new URL('operators.fuzz.child.ts', import.meta.url))

/** Of all data, so that a huge size is an error and no burden for the machine. AddressSanitizer has its own limit. */
const MAX_DATA_BYTES = 4 * 2 ** 30
const limiter =
  process.platform === 'linux' && process.env['ASAN_OPTIONS'] === undefined
    ? ['prlimit', `--data=${MAX_DATA_BYTES}`, '--core=0']
    : []

/**
 * glibc's own checks: memory that a call damaged ends the process soon, and not in a later call. They need memory, of
 * which the huge tensors among the calls with one hostile place leave none.
 */
const heapChecks = ({ joint }: Calls): NodeJS.ProcessEnv =>
  limiter.length > 0 && joint !== undefined
    ? { LD_PRELOAD: 'libc_malloc_debug.so.0', MALLOC_CHECK_: '3' }
    : {}

export async function fuzzOperators(options: FuzzOptions): Promise<OperatorReport> {
  const report: OperatorReport = { cases: 0, results: 0, refused: {}, crashes: [], strange: [], slow: [] }
  let next = options.first ?? 0
  for (;;) {
    const { last, isComplete, end } = await runFrom(next, options, report)
    if (isComplete) return report
    if (last === null) throw new Error(`the process ended before its first case: ${end}`)
    if (end === 'slow') report.slow.push(last.name)
    else {
      report.crashes.push(`${last.name}: ${end}`)
      options.onCrash?.(`${last.name}: ${end}`, last.at)
    }
    next = last.at + 1
  }
}

interface Run {
  last: { at: number; name: string } | null
  isComplete: boolean
  end: string
}

function count(report: OperatorReport, name: string, outcome: string): void {
  if (outcome === 'result') report.results++
  else if (outcome.startsWith('!') || outcome.startsWith('ERR_NATIVE'))
    report.strange.push(`${name}: ${outcome}`)
  else report.refused[outcome] = (report.refused[outcome] ?? 0) + 1
}

async function runFrom(
  first: number,
  { patience, thinning, only, joint }: FuzzOptions,
  report: OperatorReport,
): Promise<Run> {
  const calls: Calls = { thinning, only, joint }
  const node = [process.execPath, '--import', 'tsx', child, String(first), JSON.stringify(calls)]
  const [command, ...args] = [...limiter, ...node]
  const running = spawn(command!, args, {
    env: { ...heapChecks(calls), ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise<string>(resolve =>
    running.once('close', (code, signal) => resolve(signal ?? String(code))),
  )
  let errors = ''
  running.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-2000)))
  let last: Run['last'] = null
  let isComplete = false
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
    if (last !== null && message.before !== null) count(report, last.name, message.before)
    if (message.at === undefined) isComplete = true
    else {
      last = { at: message.at, name: message.name! }
      report.cases++
    }
    watch(patience)
  }
  const status = await ended
  clearTimeout(timer)
  const words = errors.split('\n').filter(line => line.trim() !== '' && !line.startsWith('[W'))
  return { last, isComplete, end: isSlow ? 'slow' : `${status} ${words.slice(-2).join(' | ').slice(0, 200)}` }
}
