/** `npm run fuzz -- [files per format] [first seed] [format]`: damages files of each format and loads them, in child processes. */
import { fuzz, kinds } from '../test/io.fuzz.js'

const [count = 3000, first = 0] = process.argv.slice(2, 4).map(Number)
/** A fresh process now and then: what one holds in memory is what its files took. */
const PER_PROCESS = 500

const only = process.argv[4]
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
