import { gzipSync } from 'node:zlib'

/** CRC-32 by zlib, which puts it at the end of gzip data: what ours is compared with. */
export function crc32OfZlib(data: Uint8Array): number {
  const packed = gzipSync(data, { level: 1 })
  return packed.readUInt32LE(packed.length - 8)
}
