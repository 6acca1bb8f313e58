/** What no program can be faster than here: the memory's bandwidth and the rate of matrix products, both measured. */
import { ones, randn, scope, zeros, type Tensor } from '../lib/index.js'

export interface Floors {
  /** Bytes per second, read and written, of a copy that no cache holds. */
  bandwidth: number
  /** Floating point operations per second of a large matrix product, by dtype. */
  gemm: { float32: number; bfloat16: number }
}

const copiedElements = 16 * 2 ** 20 // 64 MiB
const gemmSize = 1024

/** The best of several: a floor is what is left when nothing else runs. */
export function measureFloors(): Floors {
  return scope(() => {
    const [from, to] = [ones([copiedElements]), zeros([copiedElements])]
    return {
      bandwidth: (2 * 4 * copiedElements) / bestSeconds(() => to.copy_(from)),
      gemm: { float32: gemmRate('float32'), bfloat16: gemmRate('bfloat16') },
    }
  })
}

function gemmRate(dtype: 'float32' | 'bfloat16'): number {
  const [a, b] = [randn([gemmSize, gemmSize]).to(dtype), randn([gemmSize, gemmSize]).to(dtype)]
  return (2 * gemmSize ** 3) / bestSeconds(() => a.matmul(b))
}

function bestSeconds(body: () => Tensor): number {
  let best = Infinity
  for (let i = 0; i < 12; i++) {
    const start = performance.now()
    scope(() => {
      body()
    })
    best = Math.min(best, performance.now() - start)
  }
  return best / 1000
}

/** Milliseconds that moving `bytes` takes at least. */
export function bytesFloor({ bandwidth }: Floors, bytes: number): number {
  return (bytes / bandwidth) * 1000
}

/** Milliseconds that `flops` take at least. */
export function flopsFloor({ gemm }: Floors, flops: number, dtype: 'float32' | 'bfloat16'): number {
  return (flops / gemm[dtype]) * 1000
}
