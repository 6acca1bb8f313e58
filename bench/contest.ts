/** Measuring several ways in turn, A B C A B C …, so that other work on the machine meets all of them. */
import { setTimeout as pause } from 'node:timers/promises'
import { median } from './statistics.js'

/** Milliseconds in which the threads of the side before stop spinning. */
const rest = 10

export interface Contestant {
  /** Milliseconds of one run. */
  run: () => Promise<number> | number
}

/** Stands for Python where there is none. */
export const absent: Contestant = { run: () => NaN }

/** Median milliseconds of each, after runs that do not count. */
export async function contest<Name extends string>(
  contestants: Record<Name, Contestant>,
  { rounds, warmups = 1 }: { rounds: number; warmups?: number },
): Promise<Record<Name, number>> {
  const entries = Object.entries(contestants) as [Name, Contestant][]
  const samples = new Map<Name, number[]>(entries.map(([name]) => [name, []]))
  for (let round = -warmups; round < rounds; round++)
    for (const [name, { run }] of entries) {
      await pause(rest)
      const milliseconds = await run()
      if (round >= 0) samples.get(name)!.push(milliseconds)
    }
  return Object.fromEntries(entries.map(([name]) => [name, median(samples.get(name)!)])) as Record<
    Name,
    number
  >
}
