/** What no program can be faster than here: the memory's bandwidth and the rate of matrix products, both measured. */
import { ones, randn, scope, zeros, type Device, type DType, type Tensor } from '../lib/index.js'
import { isGpu, synchronize } from './device.js'

export interface Floors {
  /** Bytes per second, read and written, of a copy that no cache holds. */
  bandwidth: number
  /** Floating point operations per second of a large matrix product, by dtype. */
  gemm: { float32: number; bfloat16: number }
}

interface Sizes {
  /** Of float32, copied: more than a cache holds. */
  elements: number
  /** Rows and columns of a matrix. */
  matrix: number
  /** How often in one measurement, so that starting the work does not count. */
  repeats: number
}

const onCpu: Sizes = { elements: 16 * 2 ** 20, matrix: 1024, repeats: 1 } // 64 MiB
const onGpu: Sizes = { elements: 128 * 2 ** 20, matrix: 8192, repeats: 10 } // 512 MiB

/** The best of several: a floor is what is left when nothing else runs. */
export function measureFloors(device: Device = 'cpu'): Floors {
  const { elements, matrix, repeats } = isGpu(device) ? onGpu : onCpu
  const bestSeconds = (body: () => Tensor) => bestSecondsOn(device, repeats, body)
  const gemmRate = (dtype: DType) =>
    scope(() => {
      const [a, b] = [1, 2].map(() => randn([matrix, matrix], { device }).to(dtype)) as [Tensor, Tensor]
      return (2 * matrix ** 3) / bestSeconds(() => a.matmul(b))
    })
  return scope(() => {
    const [from, to] = [ones([elements], { device }), zeros([elements], { device })]
    return {
      bandwidth: (2 * 4 * elements) / bestSeconds(() => to.copy_(from)),
      gemm: { float32: gemmRate('float32'), bfloat16: gemmRate('bfloat16') },
    }
  })
}

function bestSecondsOn(device: Device, repeats: number, body: () => Tensor): number {
  let best = Infinity
  for (let i = 0; i < 12; i++) {
    synchronize(device)
    const start = performance.now()
    for (let j = 0; j < repeats; j++)
      scope(() => {
        body()
      })
    synchronize(device)
    best = Math.min(best, (performance.now() - start) / repeats)
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
