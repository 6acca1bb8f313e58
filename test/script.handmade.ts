/** TorchScript files written without Python: small, and wrong on purpose where a test wants it. */
import { zip, type ZipPart } from './io.fixtures.js'

export interface HandmadeScript {
  /** Methods of the class `__torch__.Net`, indented by two. */
  body?: string
  /** Instead of a pickled `Net`. */
  pickle?: Buffer
  /** Further or other entries, by their name in the archive's folder. */
  entries?: Record<string, Buffer | string>
}

/**
 * A module with a weight (2, 3), and a part `inner` that forward calls inside of an `if`. `forward` of another body can
 * use both.
 */
export function handmadeScript({
  body = forward,
  pickle = netPickle(),
  entries = {},
}: HandmadeScript = {}): Buffer {
  return zip(partsOf(handmadeEntries({ body, pickle, entries })))
}

export function handmadeEntries({
  body = forward,
  pickle = netPickle(),
  entries = {},
}: HandmadeScript = {}): Record<string, Buffer> {
  const files: Record<string, Buffer | string> = {
    'data.pkl': pickle,
    'code/__torch__.py': code(body),
    'data/0': Buffer.from(new Float32Array([1, 2, 3, 4, 5, 6]).buffer),
    'constants.pkl': Buffer.from('\x80\x02).', 'latin1'),
    version: '3\n',
    ...entries,
  }
  return Object.fromEntries(
    Object.entries(files).map(([name, data]) => [`net/${name}`, Buffer.from(data as Buffer)]),
  )
}

export function partsOf(entries: Record<string, Buffer>): ZipPart[] {
  return Object.entries(entries).map(([name, data]) => ({ name, data }))
}

const code = (body: string) => `class Inner(Module):
  __parameters__ = []
  __buffers__ = []
  def forward(self: __torch__.Inner,
    x: Tensor) -> Tensor:
    return torch.relu(x)
class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  training : bool
  weight : Tensor
  inner : __torch__.Inner
${body}`

const forward = `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    inner = self.inner
    weight = self.weight
    if bool(torch.gt(torch.numel(x), 0)):
      y = (inner).forward(torch.mul(x, weight), )
    else:
      y = x
    return y
`

// ---- Pickles ---------------------------------------------------------------------------------------------------------------

const latin1 = (text: string) => Buffer.from(text, 'latin1')
export const global = (module: string, name: string) => latin1(`c${module}\n${name}\n`)
export const text = (value: string) => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(value.length)
  return Buffer.concat([latin1('X'), length, latin1(value)])
}
export const integer = (value: number) => {
  const bytes = Buffer.alloc(9)
  bytes.writeUInt8(0x8a, 0) // LONG1
  bytes.writeUInt8(8, 1)
  const number = Buffer.alloc(8)
  number.writeBigInt64LE(BigInt(value))
  return Buffer.concat([bytes.subarray(0, 2), number])
}
export const tuple = (...items: Buffer[]) => Buffer.concat([latin1('('), ...items, latin1('t')])
export const object = (type: Buffer, state: Record<string, Buffer>) =>
  Buffer.concat([
    type,
    latin1(')\x81}('),
    ...Object.entries(state).flatMap(([key, value]) => [text(key), value]),
    latin1('ub'),
  ])
export const program = (value: Buffer) => Buffer.concat([latin1('\x80\x02'), value, latin1('.')])

export interface TensorLies {
  key?: string
  numel?: number
  shape?: number[]
  strides?: number[]
  offset?: number
  storage?: string
  location?: string
}

export function tensor({
  key = '0',
  numel = 6,
  shape = [2, 3],
  strides = [3, 1],
  offset = 0,
  storage = 'FloatStorage',
  location = 'cpu',
}: TensorLies = {}): Buffer {
  const id = tuple(text('storage'), global('torch', storage), text(key), text(location), integer(numel))
  const sizes = (list: number[]) => tuple(...list.map(integer))
  return Buffer.concat([
    global('torch._utils', '_rebuild_tensor_v2'),
    tuple(
      Buffer.concat([id, latin1('Q')]),
      integer(offset),
      sizes(shape),
      sizes(strides),
      latin1('\x89'),
      Buffer.concat([global('collections', 'OrderedDict'), latin1(')R')]),
    ),
    latin1('R'),
  ])
}

export function netPickle(weight: Buffer = tensor()): Buffer {
  const inner = object(global('__torch__', 'Inner'), {})
  return program(object(global('__torch__', 'Net'), { training: latin1('\x89'), weight, inner }))
}

/** A body that takes some milliseconds for each of `count`. */
export const slow = `  def forward(self: __torch__.Net,
    x: Tensor,
    count: int) -> Tensor:
    for i in range(count):
      a = torch.ones([1000, 1000])
      for k in range(10):
        a = torch.exp(torch.mul(a, 0.1))
      x = torch.add(x, torch.sum(a))
    return x
`
