import * as zlib from 'node:zlib'

/** Node has its own since 22.2 and 20.15. */
const builtIn = (zlib as { crc32?: (data: Uint8Array, value?: number) => number }).crc32

/** The CRC-32 of zip and gzip; `value` is that of the bytes before. */
export function crc32(data: Uint8Array, value = 0): number {
  return builtIn ? builtIn(data, value) : tableCrc32(data, value)
}

let table: Uint32Array | undefined

/** The same for a Node without it. @internal */
export function tableCrc32(data: Uint8Array, value = 0): number {
  table ??= makeTable()
  let crc = ~value
  for (let i = 0; i < data.length; i++) crc = table[(crc ^ data[i]!) & 0xff]! ^ (crc >>> 8)
  return ~crc >>> 0
}

function makeTable(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
    return crc
  })
}
