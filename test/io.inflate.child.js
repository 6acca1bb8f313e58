/** A worker that unpacks what it is given, and says whether Node's zlib was asked. */
import { createHook } from 'node:async_hooks'
import { parentPort, workerData } from 'node:worker_threads'

let asked = 0
createHook({
  init(_id, type) {
    if (type === 'ZLIB') asked++
  },
}).enable()
const { gunzip } = await import('../dist/data/gunzip.js')
const { ZipArchive } = await import('../dist/io/zip.js')
const { openSource } = await import('../dist/io/source.js')

const outcomes = []
for (const { kind, bytes, announced } of workerData) {
  asked = 0
  try {
    const content =
      kind === 'gzip'
        ? await gunzip(bytes, 'file', () => announced)
        : await (await ZipArchive.open(await openSource(bytes))).read('a')
    outcomes.push({ content: Buffer.from(content).toString('base64'), asked })
  } catch (error) {
    outcomes.push({ error: error instanceof Error ? error.message : String(error), asked })
  }
}
parentPort?.postMessage(outcomes)
