/** Writes pickles of protocol 2, as PyTorch does, of what {@link unpickle} reads. */

const PROTOCOL = 2

/** The opcodes of Python's `pickletools` that are used. */
const Op = {
  proto: 0x80,
  stop: 0x2e,
  mark: 0x28,
  none: 0x4e,
  true: 0x88,
  false: 0x89,
  int8: 0x4b,
  int32: 0x4a,
  long1: 0x8a,
  float: 0x47,
  unicode: 0x58,
  emptyDict: 0x7d,
  emptyList: 0x5d,
  setItems: 0x75,
  appends: 0x65,
  tuple: 0x74,
  global: 0x63,
  reduce: 0x52,
  persistentId: 0x51,
} as const

export class Pickler {
  private readonly chunks: Buffer[] = [Buffer.of(Op.proto, PROTOCOL)]

  /** The pickle. Nothing may be written after it. */
  finish(): Buffer {
    this.op(Op.stop)
    return Buffer.concat(this.chunks)
  }

  none(): void {
    this.op(Op.none)
  }

  boolean(value: boolean): void {
    this.op(value ? Op.true : Op.false)
  }

  integer(value: number | bigint): void {
    if (value >= 0 && value < 256) this.op(Op.int8, Buffer.of(Number(value)))
    else if (value >= -(2 ** 31) && value < 2 ** 31) {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32LE(Number(value))
      this.op(Op.int32, bytes)
    } else this.long(BigInt(value))
  }

  /** Two's complement, with as many bytes as it takes. @throws RangeError for more than 255 */
  private long(value: bigint): void {
    let length = 1
    while (BigInt.asIntN(8 * length, value) !== value) length++
    if (length > 255) throw new RangeError('an integer of more than 255 bytes')
    const hex = BigInt.asUintN(8 * length, value)
      .toString(16)
      .padStart(2 * length, '0')
    this.op(Op.long1, Buffer.concat([Buffer.of(length), Buffer.from(hex, 'hex').reverse()]))
  }

  float(value: number): void {
    const bytes = Buffer.alloc(8)
    bytes.writeDoubleBE(value)
    this.op(Op.float, bytes)
  }

  text(value: string): void {
    const bytes = Buffer.from(value, 'utf8')
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    this.op(Op.unicode, Buffer.concat([length, bytes]))
  }

  tuple(items: () => void): void {
    this.op(Op.mark)
    items()
    this.op(Op.tuple)
  }

  list(items: () => void): void {
    this.op(Op.emptyList)
    this.op(Op.mark)
    items()
    this.op(Op.appends)
  }

  /** `items` writes keys and values in turn. */
  dict(items: () => void): void {
    this.op(Op.emptyDict)
    this.op(Op.mark)
    items()
    this.op(Op.setItems)
  }

  global(module: string, name: string): void {
    this.op(Op.global, Buffer.from(`${module}\n${name}\n`))
  }

  call(module: string, name: string, args: () => void): void {
    this.global(module, name)
    this.tuple(args)
    this.op(Op.reduce)
  }

  /** `id` writes what stands for an object outside of the pickle. */
  external(id: () => void): void {
    id()
    this.op(Op.persistentId)
  }

  private op(code: number, argument?: Buffer): void {
    this.chunks.push(argument === undefined ? Buffer.of(code) : Buffer.concat([Buffer.of(code), argument]))
  }
}
