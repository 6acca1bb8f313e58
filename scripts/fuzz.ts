/**
 * `npm run fuzz -- [files per format] [first seed] [format]`: damages files of each format and loads them.
 * `npm run fuzz -- operators [thinning] [first case] [names]`: calls every operator with one hostile value; one case of
 * so many.
 * `npm run fuzz -- operators joint [calls per operator] [seed] [names]`: with random values in all places of a call.
 * `names` is a regular expression. All in child processes.
 */
import { fuzz, kinds } from '../test/io.fuzz.js'
import { fuzzOperators, type FuzzOptions } from '../test/operators.fuzz.js'

/** A fresh process now and then: what one holds in memory is what its files took. */
const PER_PROCESS = 500

/** For one call. */
const PATIENCE = 20

async function fuzzFiles(count: number, first: number, only: string | undefined): Promise<void> {
  for (const kind of kinds.filter(each => only === undefined || each === only)) {
    let loaded = 0
    let memory = 0
    const refused: Record<string, number> = {}
    const start = performance.now()
    for (let seed = first; seed < first + count; seed += PER_PROCESS) {
      const outcome = await fuzz(kind, seed, Math.min(PER_PROCESS, first + count - seed))
      loaded += outcome.loaded
      memory = Math.max(memory, outcome.maxRssBytes)
      for (const [code, number] of Object.entries(outcome.refused))
        refused[code] = (refused[code] ?? 0) + number
    }
    const codes = Object.entries(refused).map(([code, number]) => `${number} ${code}`)
    const seconds = Math.round((performance.now() - start) / 1000)
    console.log(
      `${kind}: ${loaded} loaded, ${codes.join(', ')}; at most ${Math.round(memory / 2 ** 20)} MiB; ${seconds} s`,
    )
  }
}

function count(list: readonly string[]): string {
  return `${list.length}${list.map(each => `\n    ${each}`).join('')}`
}

async function fuzzAllOperators(calls: Partial<FuzzOptions>): Promise<void> {
  const start = performance.now()
  const report = await fuzzOperators({
    thinning: 1,
    patience: PATIENCE,
    ...calls,
    onCrash: (crash, at) => console.log(`  crashed, case ${at}: ${crash}`),
  })
  const codes = Object.entries(report.refused).map(([code, number]) => `${number} ${code}`)
  console.log(
    `operators: ${report.cases} calls, ${report.results} results, ${codes.join(', ')}; ` +
      `${Math.round((performance.now() - start) / 1000)} s\n` +
      `  crashes: ${count(report.crashes)}\n` +
      `  errors without a code: ${count(report.strange)}\n` +
      `  slower than ${PATIENCE} s: ${count(report.slow)}`,
  )
  if (report.crashes.length + report.strange.length > 0) process.exitCode = 1
}

const [what = '3000', ...rest] = process.argv.slice(2)
if (what === 'operators' && rest[0] === 'joint')
  await fuzzAllOperators({
    joint: { calls: Number(rest[1] ?? 30), seed: Number(rest[2] ?? 0) },
    only: rest[3],
  })
else if (what === 'operators')
  await fuzzAllOperators({ thinning: Number(rest[0] ?? 1), first: Number(rest[1] ?? 0), only: rest[2] })
else await fuzzFiles(Number(what), Number(rest[0] ?? 0), rest[1])
