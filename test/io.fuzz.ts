/** Runs io.fuzz.child.ts and watches it: no file may crash it, hold it up, or fill its memory. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Kind, Outcome } from './io.fuzz.child.js'

export type { Kind, Outcome } from './io.fuzz.child.js'

export const kinds: Kind[] = ['safetensors', 'torch.save', 'old torch.save', 'zip']

/** For one file. */
const MAX_SECONDS = 10
const MAX_RSS_BYTES = 2 ** 30

const child = fileURLToPath(new URL('io.fuzz.child.ts', import.meta.url))

/** Tries the files of the seeds `first` to `first + count - 1`, and hostile ones with seed 0. Throws when one is not survived. */
export async function fuzz(kind: Kind, first: number, count: number): Promise<Outcome> {
  const options = ['--import', 'tsx', child, kind, String(first), String(count)]
  const running = spawn(process.execPath, options, {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let errors = ''
  running.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  let trying = 'the start'
  let outcome: Outcome | undefined
  let isHung = false
  let timer: NodeJS.Timeout | undefined
  const watch = (seconds: number) => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      isHung = true
      running.kill('SIGKILL')
    }, seconds * 1000)
  }
  watch(120)
  for await (const line of createInterface({ input: running.stdout })) {
    const message = JSON.parse(line) as { trying?: string } & Outcome
    if (message.trying === undefined) outcome = message
    else trying = message.trying
    watch(MAX_SECONDS)
  }
  const closed = running.exitCode ?? running.signalCode
  const code =
    closed ?? (await new Promise<number | string>(done => running.once('exit', (c, s) => done(c ?? s!))))
  clearTimeout(timer)
  if (isHung) throw new Error(`${kind}, ${trying}: took more than ${MAX_SECONDS} s`)
  if (code !== 0 || outcome === undefined)
    throw new Error(`${kind}, ${trying}: ended with ${code}\n${errors}`)
  if (outcome.maxRssBytes > MAX_RSS_BYTES)
    throw new Error(`${kind}: took ${Math.round(outcome.maxRssBytes / 2 ** 20)} MiB of memory`)
  return outcome
}
