/** What is deflated is the same in workers, where Node's zlib is left alone: a worker may end at any moment. */
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { gunzip } from '../lib/data/gunzip.js'
import { openSource } from '../lib/io/source.js'
import { ZipArchive } from '../lib/io/zip.js'
import { someBytes } from './data.fixtures.js'
import { zip } from './io.fixtures.js'

interface Case {
  kind: 'gzip' | 'zip'
  bytes: Uint8Array
  /** Bytes that the content begins by announcing. */
  announced: number
}

type Outcome = { content: string; asked: number } | { error: string; asked: number }

const child = fileURLToPath(new URL('io.inflate.child.js', import.meta.url))

function inWorker(cases: Case[]): Promise<Outcome[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(child, { workerData: cases })
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

async function here({ kind, bytes, announced }: Case): Promise<Partial<{ content: string; error: string }>> {
  try {
    const content =
      kind === 'gzip'
        ? await gunzip(bytes, 'file', () => announced)
        : await (await ZipArchive.open(await openSource(bytes))).read('a')
    return { content: content.toString('base64') }
  } catch (error) {
    return { error: (error as Error).message }
  }
}

const noise = Buffer.from(someBytes(200_000))
const even = Buffer.alloc(3_000_000, 'abcdefgh')
const gz = (content: Buffer, announced = content.length): Case => ({
  kind: 'gzip',
  bytes: gzipSync(content),
  announced,
})
const archive = (data: Buffer): Case => ({
  kind: 'zip',
  bytes: zip([{ name: 'a', data, deflate: true }]),
  announced: 0,
})
const changed = (made: Case, change: (bytes: Buffer) => Uint8Array): Case => ({
  ...made,
  bytes: change(Buffer.from(made.bytes)),
})
const flip = (at: number) => (bytes: Buffer) => {
  bytes[at < 0 ? bytes.length + at : at]! ^= 0x55
  return bytes
}
/** A header with a name, a comment, an extra field and a check sum of its own. */
const decorated = (bytes: Buffer) => {
  const header = Buffer.from(bytes.subarray(0, 10))
  header[3] = 4 | 8 | 16
  return Buffer.concat([
    header,
    Buffer.from([3, 0, 1, 2, 3]),
    Buffer.from('name\0comment\0'),
    bytes.subarray(10),
  ])
}

describe('deflated data in a worker', () => {
  it('that is as it should be is unpacked without zlib', async () => {
    const cases = [
      gz(noise),
      gz(even),
      gz(Buffer.alloc(0)),
      gz(even, 100_000), // more than announced: nobody reads on
      changed(gz(noise), decorated),
      archive(noise),
      archive(even),
      archive(Buffer.alloc(0)),
    ]
    const outcomes = await inWorker(cases)
    for (const [i, outcome] of outcomes.entries())
      expect(outcome).toEqual({ ...(await here(cases[i]!)), asked: 0 })
  })

  it('that is not gives what it gives in the main thread', async () => {
    const whole = gz(noise)
    const cases = [
      changed(whole, bytes => Buffer.concat([bytes, gzipSync(even)])), // two members
      changed(whole, bytes => bytes.subarray(0, 1000)),
      changed(whole, bytes => bytes.subarray(0, 12)),
      changed(whole, flip(-6)), // the check sum
      changed(whole, flip(-2)), // the length
      changed(whole, flip(2)),
      changed(whole, flip(3)),
      changed(gz(even), flip(40)),
      changed(archive(even), flip(45)),
      changed(archive(noise), flip(5000)),
    ]
    const outcomes = await inWorker(cases)
    for (const [i, outcome] of outcomes.entries()) {
      const { asked, ...rest } = outcome
      expect(rest).toEqual(await here(cases[i]!))
      if ('error' in rest) expect(asked).toBeLessThanOrEqual(1)
    }
    expect(outcomes.filter(each => 'error' in each).length).toBeGreaterThan(6)
  })
})
