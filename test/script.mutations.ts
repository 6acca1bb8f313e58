/** Files that were TorchScript once: by chance, and by design. */
import { deflateRawSync } from 'node:zlib'
import { zip } from './io.fixtures.js'
import {
  handmadeEntries,
  handmadeScript,
  netPickle,
  partsOf,
  program,
  tensor,
  type HandmadeScript,
} from './script.handmade.js'

/** A generator with a seed: mulberry32. */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0
  return below => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** The number of the mutation decides all. Half of them keep checksums and sizes right, and reach the inner formats. */
export function mutated(file: Buffer, entries: Record<string, Buffer>, index: number): Buffer {
  const next = random(index)
  switch (next(8)) {
    case 0:
      return flipped(file, 1 + next(8), next)
    case 1:
      return file.subarray(0, next(file.length))
    case 2:
      return overwritten(file, next)
    case 3:
      return Buffer.concat([file.subarray(0, next(file.length)), file.subarray(next(file.length))])
    default:
      return zip(partsOf(mutatedEntries(entries, next)))
  }
}

function mutatedEntries(
  entries: Record<string, Buffer>,
  next: (below: number) => number,
): Record<string, Buffer> {
  const names = Object.keys(entries).filter(name => !name.endsWith('.debug_pkl'))
  const inner = names.filter(name => /(pkl|py|version)$/.test(name))
  const name = next(4) > 0 ? inner[next(inner.length)]! : names[next(names.length)]!
  const data = entries[name]!
  const changed = { ...entries }
  switch (next(6)) {
    case 0:
      delete changed[name]
      break
    case 1:
      changed[name] = data.subarray(0, next(data.length + 1))
      break
    case 2:
      changed[name] = spliced(data, next)
      break
    default:
      changed[name] = flipped(data, 1 + next(4), next)
  }
  return changed
}

function flipped(bytes: Buffer, count: number, next: (below: number) => number): Buffer {
  const copy = Buffer.from(bytes)
  for (let i = 0; i < count && copy.length > 0; i++) copy[next(copy.length)]! ^= 1 << next(8)
  return copy
}

/** A number in the place of another one: sizes, counts, offsets. */
function overwritten(bytes: Buffer, next: (below: number) => number): Buffer {
  const copy = Buffer.from(bytes)
  const values = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, copy.length]
  copy.writeUInt32LE(values[next(values.length)]!, next(Math.max(copy.length - 4, 1)))
  return copy
}

/** A piece of it, again, somewhere else. */
function spliced(bytes: Buffer, next: (below: number) => number): Buffer {
  const from = next(bytes.length + 1)
  const piece = bytes.subarray(from, from + next(64))
  const at = next(bytes.length + 1)
  return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + next(64))])
}

// ---- By design -------------------------------------------------------------------------------------------------------------

const forward = (expression: string) =>
  `  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n    return ${expression}\n`

const deep = 200_000

/** Each is to be refused. */
export function malicious(): Record<string, () => Buffer> {
  const script = (changes: HandmadeScript) => () => handmadeScript(changes)
  const weight = (lies: Parameters<typeof tensor>[0]) => script({ pickle: netPickle(tensor(lies)) })
  const latin1 = (value: string) => Buffer.from(value, 'latin1')
  const nested = (open: string, close: string) => program(latin1(open.repeat(deep) + close.repeat(deep)))
  const deflated = (name: string, bytes: number, saying = bytes) => ({
    name: `net/${name}`,
    data: Buffer.alloc(bytes),
    deflate: true,
    central: { size: saying },
    local: { size: saying },
  })
  return {
    'a tensor larger than its storage': weight({ shape: [1000, 1000], strides: [1000, 1] }),
    'a tensor of more elements than memory has': weight({ shape: [2 ** 40, 2 ** 20], strides: [2 ** 20, 1] }),
    'a shape that overflows': weight({ shape: [2 ** 31, 2 ** 31, 2 ** 31], strides: [1, 1, 1] }),
    'strides beyond the storage': weight({ strides: [10 ** 9, 1] }),
    'negative strides': weight({ strides: [-3, 1] }),
    'negative sizes': weight({ shape: [-2, 3] }),
    'an offset beyond the storage': weight({ offset: 10 ** 9 }),
    'a negative offset': weight({ offset: -1 }),
    'fewer strides than sizes': weight({ strides: [1] }),
    'a storage of another size': weight({ numel: 10 ** 9 }),
    'a storage that is not there': weight({ key: '7' }),
    'a storage outside of the archive': weight({ key: '../../etc/passwd' }),
    'a storage of a type that is none': weight({ storage: 'NoStorage' }),
    'a device that is none': weight({ location: 'nowhere:0' }),
    'lists nested deep': script({ pickle: nested(']', 'a') }),
    'tuples nested deep': script({ pickle: program(Buffer.concat([latin1(')'), Buffer.alloc(deep, 0x85)])) }),
    'lists nested deep through the memo': script({
      pickle: program(latin1(']q\x00' + ']h\x00aq\x00'.repeat(deep))),
    }),
    'a list that holds itself': script({ pickle: program(latin1(']q\x00h\x00a')) }),
    'a marker without end': script({ pickle: program(latin1('('.repeat(deep))) }),
    'an empty pickle': script({ pickle: Buffer.alloc(0) }),
    'a pickle that is no module': script({ pickle: program(latin1('K\x01')) }),
    'a pickle that calls': script({ pickle: program(latin1('cos\nsystem\nX\x04\x00\x00\x00true\x85R')) }),
    'a module of a class that is not there': script({
      pickle: program(latin1('c__torch__\nNowhere\n)\x81}b')),
    }),
    'brackets nested deep': script({ body: forward('('.repeat(deep) + 'x' + ')'.repeat(deep)) }),
    'unary operators nested deep': script({ body: forward('-'.repeat(deep) + 'x') }),
    'not, nested deep': script({ body: forward('not '.repeat(deep) + 'x') }),
    'attributes in a long row': script({ body: forward('x' + '.T'.repeat(deep)) }),
    'a sum of many': script({ body: forward('x' + ' + x'.repeat(deep)) }),
    'a sum over many lines': script({ body: forward('x' + ' \\\n + x'.repeat(deep)) }),
    'calls in a long row': script({ body: forward('x' + '()'.repeat(deep)) }),
    'blocks nested deep': script({
      body:
        '  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n' +
        Array.from({ length: 3000 }, (_, i) => `${' '.repeat(4 + i)}if True:\n`).join('') +
        `${' '.repeat(3010)}pass\n    return x\n`,
    }),
    'a type nested deep': script({
      body: `  def forward(self: __torch__.Net,\n    x: ${'List['.repeat(deep)}int${']'.repeat(deep)}) -> Tensor:\n    return x\n`, // prettier-ignore
    }),
    'a declaration without a type': script({ body: '  what = []\n' + forward('x') }),
    'code that does not end': script({ body: forward('torch.mul(x, ') }),
    'an operator that does not exist': script({ body: forward('torch.no_such_operator(x)') }),
    'a class that is its own part': script({
      entries: {
        'code/__torch__.py':
          'class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n  inner : __torch__.Net\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n    return (self.inner).forward(x, )\n',
      },
      pickle: program(latin1('c__torch__\nNet\n)\x81q\x00}X\x05\x00\x00\x00innerh\x00sb')),
    }),
    'big-endian data': script({ entries: { byteorder: 'big' } }),
    'a version of the far future': script({ entries: { version: '999999\n' } }),
    'a version that is no number': script({ entries: { version: 'x\n' } }),
    'no code': () => {
      const { 'net/code/__torch__.py': _, ...rest } = handmadeEntries()
      return zip(partsOf(rest))
    },
    'no constants': () => {
      const { 'net/constants.pkl': _, ...rest } = handmadeEntries()
      return zip(partsOf(rest))
    },
    'a source that is all zeros': () => {
      const { 'net/code/__torch__.py': _, ...rest } = handmadeEntries()
      return zip([...partsOf(rest), deflated('code/__torch__.py', 1 << 22)])
    },
    'an entry that says it is huge': () =>
      zip([...partsOf(handmadeEntries()), deflated('code/a.py', 1 << 20, 1 << 30)]),
    'a zip bomb of many entries': () => {
      const data = Buffer.from(Array.from({ length: 1 << 14 }, random(1).bind(null, 256)))
      const part = { data, deflate: true, central: { size: 1 << 24 }, local: { size: 1 << 24 } }
      const bombs = Array.from({ length: 100 }, (_, i) => ({ ...part, name: `net/code/${i}.py` }))
      return zip([...partsOf(handmadeEntries()), ...bombs])
    },
    'a deflated entry that says it is small': () =>
      zip([...partsOf(handmadeEntries()), deflated('code/a.py', 1 << 20, 10)]),
    'the same entry twice': () => zip([...partsOf(handmadeEntries()), ...partsOf(handmadeEntries())]),
    'no archive, only a deflate stream': () => deflateRawSync(handmadeScript()),
  }
}
