/** TorchScript files written without Python: small, and wrong on purpose where a test wants it. */
import { zip, type ZipPart } from './io.fixtures.js'

export interface HandmadeScript {
  /** Of the class `__torch__.Net`, indented by two. */
  body?: string
  /** Instead of a pickled `Net` without attributes. */
  pickle?: Buffer
  /** Further or other entries, by their name in the archive's folder. */
  entries?: Record<string, Buffer | string>
}

/** A module of one class without attributes. */
export function handmadeScript({
  body = identity,
  pickle = netPickle,
  entries = {},
}: HandmadeScript): Buffer {
  const files: Record<string, Buffer | string> = {
    'data.pkl': pickle,
    'code/__torch__.py': `class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n${body}`,
    'constants.pkl': Buffer.from('\x80\x02).', 'latin1'),
    version: '3\n',
    ...entries,
  }
  const parts = Object.entries(files).map(([name, data]): ZipPart => ({
    name: `net/${name}`,
    data: Buffer.from(data as Buffer),
  }))
  return zip(parts)
}

const identity = `  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    return x
`

/** Of an object `__torch__.Net` with an empty dict for its state. */
const netPickle = Buffer.from('\x80\x02c__torch__\nNet\nq\x00)\x81}b.', 'latin1')
