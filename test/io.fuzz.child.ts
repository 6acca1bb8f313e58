/**
 * Damages files at random and loads them: every one has to be refused with a coded error, or load. Started by
 * io.fuzz.test.ts and `npm run fuzz`, which watch it. Prints a line of JSON per file before it is tried, and a last one
 * with what came out.
 *
 * Arguments: the kind of file, the first seed, how many.
 */
import { readFileSync } from 'node:fs'
import { deflateRawSync } from 'node:zlib'
import { AlambicError, loadCheckpoint, loadStateDict, scope, type Tensor } from '../lib/index.js'
import { inspectWeights } from '../lib/io/inspect.js'
import { openSource } from '../lib/io/source.js'
import { validateZip } from '../lib/io/zip.js'
import { crc32OfZlib } from './io.crc32.js'
import { zip } from './io.fixtures.js'

export type Kind = 'safetensors' | 'torch.save' | 'old torch.save' | 'zip'

export interface Outcome {
  loaded: number
  refused: Record<string, number>
  maxRssBytes: number
}

interface Reference {
  cases: { name: string; file: string; needsNewer: boolean }[]
  plain: { name: string; file: string }[]
}

/** Numbers that reproduce: a linear congruential generator is random enough to break files. */
class Random {
  constructor(private state: number) {}

  below(limit: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0
    return Math.floor((this.state / 2 ** 32) * limit)
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }
}

const reference = JSON.parse(readFileSync(new URL('reference/io.json', import.meta.url), 'utf8')) as Reference

function filesOf(kind: Kind): Buffer[] {
  const prefix = kind === 'zip' ? 'torch.save' : kind
  return [...reference.cases, ...reference.plain]
    .filter(
      ({ name }) => name.startsWith(prefix) || (prefix === 'torch.save' && name === 'without checksums'),
    )
    .map(({ file }) => Buffer.from(file, 'base64'))
}

// ---- Ways to break a file ------------------------------------------------------------------------------------------------

type Mutation = (bytes: Buffer, random: Random) => Buffer

/** What sizes are made into. */
const extremes = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
]

const mutations: Mutation[] = [
  // Bits that flip.
  (bytes, random) => {
    for (let n = 1 + random.below(8); n > 0; n--) bytes[random.below(bytes.length)]! ^= 1 << random.below(8)
    return bytes
  },
  // Bytes of any value.
  (bytes, random) => {
    for (let n = 1 + random.below(16); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256)
    return bytes
  },
  // Cut short.
  (bytes, random) => bytes.subarray(0, random.below(bytes.length)),
  // A hole.
  (bytes, random) => {
    const from = random.below(bytes.length)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + random.below(64))])
  },
  // A part twice.
  (bytes, random) => {
    const from = random.below(bytes.length)
    const to = from + random.below(256)
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)])
  },
  // A number that lies.
  (bytes, random) => {
    const size = random.of([1, 2, 4, 8])
    const at = random.below(Math.max(bytes.length - size, 1))
    const lie = Buffer.alloc(8)
    lie.writeBigUInt64LE(random.of(extremes))
    lie.copy(bytes, at, 0, size)
    return bytes
  },
  // Digits that lie, where numbers are text.
  (bytes, random) => {
    const text = bytes.toString('latin1')
    const digits = [...text.matchAll(/\d+/g)]
    if (digits.length === 0) return bytes
    const chosen = random.of(digits)
    const lie = String(random.of([...extremes, -1n, 10n ** 30n]))
    return Buffer.from(
      text.slice(0, chosen.index) + lie + text.slice(chosen.index + chosen[0].length),
      'latin1',
    )
  },
  // Two parts change places.
  (bytes, random) => {
    const length = 1 + random.below(32)
    const [a, b] = [random.below(bytes.length - length), random.below(bytes.length - length)]
    const copy = Buffer.from(bytes.subarray(a, a + length))
    bytes.copy(bytes, a, b, b + length)
    copy.copy(bytes, b)
    return bytes
  },
]

/** Damage inside a pickle of a zip whose checksums are right again: it has to be found without them. */
function mutateInside(bytes: Buffer, random: Random): Buffer {
  const entries: { name: string; data: Buffer }[] = []
  for (let at = 0; bytes.readUInt32LE(at) === 0x04034b50;) {
    const name = bytes.toString('utf8', at + 30, at + 30 + bytes.readUInt16LE(at + 26))
    const from = at + 30 + bytes.readUInt16LE(at + 26) + bytes.readUInt16LE(at + 28)
    const to = bytes.indexOf('PK\x07\x08', from)
    entries.push({ name, data: Buffer.from(bytes.subarray(from, to)) })
    at = to + 16
  }
  const chosen = random.of(entries.slice(0, random.below(4) === 0 ? undefined : 1))
  if (chosen.data.length > 40) chosen.data = random.of(mutations)(chosen.data, random)
  return zip(entries)
}

// ---- Files made to do harm -------------------------------------------------------------------------------------------------

const oldHead = Buffer.from("L119547037146038801333356L\n.I1001\n.(S'little_endian'\nI01\nd.")
const pickle = (...parts: (string | Buffer)[]) =>
  Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)))

function header(json: string, data = 0): Buffer {
  const bytes = Buffer.from(json)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([length, bytes, Buffer.alloc(data)])
}

/** A list of two times the list before, so many times: 2^depth once written out. */
function laughs(depth: number): Buffer {
  const levels = Array.from({ length: depth }, (_, i) => `(g${i}\ng${i}\nlp${i + 1}\n`)
  return pickle('(lp0\n', ...levels)
}

const storage = (count: string) =>
  `(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu${count}tQ`
const rebuild = (shape: string, strides: string, count = 'K\x01') =>
  `\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(${storage(count)}K\0${shape}${strides}\x89}tRs.`
const long = (value: bigint) => {
  const bytes = Buffer.alloc(9)
  bytes.writeBigUInt64LE(value)
  return `\x8a\x09${bytes.toString('latin1')}`
}

/** Pickles that a reader might choke on; what follows them does not matter. */
const hostilePickles: Buffer[] = [
  pickle('\x80\x02', '('.repeat(1_000_000), '.'),
  pickle('\x80\x02', ']'.repeat(1_000_000), 'a'.repeat(999_999), '.'),
  pickle('\x80\x02', '}X\x01\0\0\0k'.repeat(100_000), 'N', 's'.repeat(100_000), '.'),
  pickle('\x80\x02', ')', '\x85'.repeat(1_000_000), '.'),
  pickle('\x80\x02]q\0h\0a.'),
  pickle('\x80\x02}q\0X\x01\0\0\0ah\0s.'),
  pickle(laughs(60), '.'),
  pickle(laughs(5000), '.'),
  pickle('\x80\x02', '}'.repeat(3_000_000), '.'),
  pickle('\x80\x02', 'N2'.repeat(2_000_000), '.'),
  pickle('\x80\x02\x8b\xff\xff\xff\x7f'),
  pickle('\x80\x02X\xff\xff\xff\xff'),
  pickle('\x80\x04\x8d', Buffer.alloc(8, 0xff)),
  pickle('\x80\x05\x96', Buffer.alloc(7), '\x40'),
  pickle('I', '9'.repeat(1_000_000), '\n.'),
  pickle('L', '9'.repeat(60_000), 'L\n.'),
  pickle('\x80\x02X\x09\0\0\0__proto__}X\x01\0\0\0aK\x01ss.'),
  ...[2n ** 31n, 2n ** 40n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n].flatMap(huge => [
    pickle(rebuild(`(${long(huge)}t`, '(K\0t')),
    pickle(rebuild(`(${long(huge)}${long(huge)}t`, '(K\0K\0t')),
    pickle(rebuild(`(K\x02t`, `(${long(huge)}t`)),
    pickle(rebuild(`(K\x01t`, `(K\x01t`, long(huge))),
  ]),
  pickle(rebuild(`(${'K\x01'.repeat(100)}t`, `(${'K\x01'.repeat(100)}t`)),
  pickle(rebuild(`(J\xff\xff\xff\xfft`, '(K\x01t')),
]

const withData = (bytes: Buffer) =>
  zip([
    { name: 'a/data.pkl', data: bytes },
    { name: 'a/data/0', data: Buffer.alloc(4) },
    { name: 'a/version', data: Buffer.from('3\n') },
  ])

const bomb = { name: 'a/data.pkl', data: Buffer.alloc(60 << 20), deflate: true }
const lyingBomb = (size: number) => {
  const packed = deflateRawSync(Buffer.alloc(1 << 20))
  const fields = { size, method: 8, crc: crc32OfZlib(Buffer.alloc(16)) }
  return zip([{ name: 'a/data.pkl', data: packed, central: fields, local: fields }])
}

const hostile: Record<Kind, () => Buffer[]> = {
  safetensors: () => [
    header('{'.repeat(1_000_000)),
    header(`{"a":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`),
    header(`{"a":${'{"a":'.repeat(300_000)}1${'}'.repeat(300_000)}}`),
    header(`{"a":[${'[],'.repeat(3_000_000)}[]]}`),
    header(
      `{${Array.from({ length: 30_000 }, (_, i) => `"k${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(',')}}`,
    ),
    header('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    header('{"a":{"dtype":"F32","shape":[0,9007199254740991,9007199254740991],"data_offsets":[0,0]}}'),
    header('{"a":{"dtype":"F32","shape":[1e308,1e308],"data_offsets":[0,0]}}'),
    header(
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
    ),
    header('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    header('{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,1]}}', 1),
    header('{"a":{"dtype":"U8","shape":[-1],"data_offsets":[1,0]}}', 1),
    header('{"a":null}'),
    header('[]'),
    header('{}'),
  ],
  'torch.save': () => hostilePickles.map(withData),
  'old torch.save': () => hostilePickles.map(bytes => Buffer.concat([oldHead, bytes])),
  zip: () => [
    zip([bomb]),
    zip(Array.from({ length: 5 }, (_, i) => ({ ...bomb, name: `a/${i}` }))),
    lyingBomb(2 ** 31),
    lyingBomb(16),
    lyingBomb(0xffffffff),
    zip(
      Array.from({ length: 70_000 }, (_, i) => ({ name: `a/${i}`, data: Buffer.alloc(0) })),
      { zip64: true },
    ),
  ],
}

// ---- Trying ----------------------------------------------------------------------------------------------------------------

async function attempt(kind: Kind, bytes: Buffer): Promise<void> {
  if (kind === 'zip') {
    await validateZip(await openSource(bytes))
    return
  }
  await inspectWeights(bytes)
  const loaded = await loadStateDict(bytes)
  touch(loaded)
  await loadCheckpoint(bytes)
}

/** Reads every element, unless a tensor claims to be large: then it is a view that repeats what is there. */
function touch(tensors: Record<string, Tensor>): void {
  scope(() => {
    for (const tensor of Object.values(tensors)) if (tensor.numel() < 1e6) tensor.toTypedArray()
  })
  for (const tensor of Object.values(tensors)) tensor.dispose()
}

function* files(kind: Kind, first: number, count: number): Generator<[name: string, bytes: Buffer]> {
  if (first === 0) for (const [i, bytes] of hostile[kind]().entries()) yield [`hostile ${i}`, bytes]
  const originals = filesOf(kind)
  for (let seed = first; seed < first + count; seed++) {
    const random = new Random(seed * 2654435761 + 1)
    const original = Buffer.from(random.of(originals))
    const inside = (kind === 'torch.save' || kind === 'zip') && random.below(3) > 0
    let bytes = inside ? mutateInside(original, random) : random.of(mutations)(original, random)
    if (random.below(4) === 0 && bytes.length > 64) bytes = random.of(mutations)(Buffer.from(bytes), random)
    yield [`seed ${seed}`, bytes]
  }
}

async function run(kind: Kind, first: number, count: number): Promise<Outcome> {
  const outcome: Outcome = { loaded: 0, refused: {}, maxRssBytes: 0 }
  for (const [name, bytes] of files(kind, first, count)) {
    process.stdout.write(`${JSON.stringify({ trying: name })}\n`)
    try {
      await attempt(kind, bytes)
      outcome.loaded++
    } catch (error) {
      if (!(error instanceof AlambicError))
        throw new Error(`${kind}, ${name}: no coded error`, { cause: error })
      outcome.refused[error.code] = (outcome.refused[error.code] ?? 0) + 1
    }
  }
  outcome.maxRssBytes = process.resourceUsage().maxRSS * 1024
  return outcome
}

const [kind, first, count] = process.argv.slice(2)
console.log(JSON.stringify(await run(kind as Kind, Number(first), Number(count))))
