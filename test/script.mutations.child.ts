/**
 * Loads files that are wrong, one after the other, and tells of each before and after:
 *
 *     node --import tsx script.mutations.child.ts malicious
 *     node --import tsx script.mutations.child.ts FIRST COUNT [FILE ...]
 *
 * Of a file that loads, what a user would look at first is looked at.
 */
import { readFileSync } from 'node:fs'
import { AlambicError, loadTorchScript, scope } from '../lib/index.js'
import { ZipArchive } from '../lib/io/zip.js'
import { openSource } from '../lib/io/source.js'
import { handmadeScript } from './script.handmade.js'
import { malicious, mutated } from './script.mutations.js'

export interface Line {
  name: string
  /** After: a code, or that it loaded. */
  result?: string
  milliseconds?: number
  /** The most memory so far, in MiB. */
  peak?: number
}

function tell(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

async function attempt(bytes: Uint8Array): Promise<string> {
  try {
    const model = await loadTorchScript(bytes)
    scope(() => {
      model.summary()
      model.code()
      model.toString()
      for (const value of Object.values(model.stateDict())) value.toTypedArray()
    })
    return 'loaded'
  } catch (error) {
    if (error instanceof AlambicError) return error.code
    throw error
  }
}

async function report(name: string, bytes: Uint8Array): Promise<void> {
  tell({ name })
  const start = performance.now()
  const result = await attempt(bytes)
  const peak = process.resourceUsage().maxRSS / 1024
  tell({ name, result, milliseconds: performance.now() - start, peak })
}

const [first, count, ...files] = process.argv.slice(2)
if (first === 'malicious') for (const [name, make] of Object.entries(malicious())) await report(name, make())
else {
  const originals = [handmadeScript(), ...files.map(file => readFileSync(file))]
  const unpacked = await Promise.all(originals.map(entriesOf))
  for (let index = Number(first); index < Number(first) + Number(count); index++) {
    const which = index % originals.length
    await report(String(index), mutated(originals[which]!, unpacked[which]!, index))
  }
}

async function entriesOf(file: Uint8Array): Promise<Record<string, Buffer>> {
  const archive = await ZipArchive.open(await openSource(file))
  const entries: Record<string, Buffer> = {}
  for (const name of archive.entries.keys()) entries[name] = await archive.read(name)
  return entries
}
