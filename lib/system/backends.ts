import { argumentError } from '../errors.js'
import { native } from '../native/loader.js'

/**
 * Which libraries and kernels libtorch may use, as `torch.backends` in Python. The flags hold for the whole process,
 * all threads included, and can be read and set at any time:
 *
 *     backends.mkldnn.enabled = false
 *     backends.cudnn.benchmark = true
 *
 * A flag takes a boolean. Other values and unknown names are an `ERR_ARGUMENT`.
 */
export const backends = closed('backends', {
  /** oneDNN: convolutions, matrix products and some activations on the CPU. */
  mkldnn: backend('mkldnn', ['enabled']),
  /**
   * NNPACK: convolutions of a single picture on the CPU. On a processor that it does not support it is off, and
   * switching it on is an `ERR_NOT_IMPLEMENTED`.
   */
  nnpack: backend('nnpack', ['enabled']),
  /** cuDNN: convolutions and recurrent networks on NVIDIA's GPUs. */
  cudnn: backend('cudnn', ['enabled', 'benchmark', 'deterministic', 'allowTf32']),
  /** Intel's MKL: matrix products and linear algebra on the CPU. */
  mkl: backend('mkl', []),
  /** The threads of operators on the CPU. */
  openmp: backend('openmp', []),
  cuda: closed('backends.cuda', {
    /** Whether there is a GPU that libtorch can use. */
    isAvailable: () => native.backendsAvailable().cuda,
    /** Matrix products on the GPU. */
    matmul: flags('cuda.matmul', ['allowTf32', 'allowFp16ReducedPrecisionReduction'], {}),
    /** Kernels of `scaledDotProductAttention`. */
    flashSdpEnabled: () => native.backendFlag('cuda.flashSdp'),
    enableFlashSdp: (on: boolean) => native.setBackendFlag('cuda.flashSdp', on),
    mathSdpEnabled: () => native.backendFlag('cuda.mathSdp'),
    enableMathSdp: (on: boolean) => native.setBackendFlag('cuda.mathSdp', on),
  }),
})

/** How float32 matrix products are computed: `'highest'` in float32, the others faster and with less precision. */
export type Float32MatmulPrecision = 'highest' | 'high' | 'medium'

/**
 * Sets how float32 matrix products are computed, as `torch.set_float32_matmul_precision`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for another word
 */
export function setFloat32MatmulPrecision(precision: Float32MatmulPrecision): void {
  native.setFloat32MatmulPrecision(precision)
}

/** The present setting of {@link setFloat32MatmulPrecision}, as `torch.get_float32_matmul_precision`. */
export function getFloat32MatmulPrecision(): Float32MatmulPrecision {
  return native.float32MatmulPrecision() as Float32MatmulPrecision
}

/**
 * With false, the default, each warning of libtorch is shown once per process; with true it is shown every time, as
 * `torch.set_warn_always`.
 *
 * @throws AlambicError `ERR_ARGUMENT` for anything but a boolean
 */
export function setWarnAlways(always: boolean): void {
  native.setWarnAlways(always)
}

/** The present setting of {@link setWarnAlways}, as `torch.is_warn_always_enabled`. */
export function isWarnAlwaysEnabled(): boolean {
  return native.warnsAlways()
}

type Available = ReturnType<typeof native.backendsAvailable>

function backend<Flag extends string>(name: keyof Available, names: readonly Flag[]) {
  /** Whether this libtorch has it, and the machine can use it. */
  const isAvailable = (): boolean => native.backendsAvailable()[name]
  return flags(name, names, { isAvailable })
}

/** An object with a property per flag, besides `others`. */
function flags<Flag extends string, Others extends object>(
  name: string,
  names: readonly Flag[],
  others: Others,
): Others & Record<Flag, boolean> {
  for (const flag of names)
    Object.defineProperty(others, flag, {
      enumerable: true,
      get: () => native.backendFlag(`${name}.${flag}`),
      set: (on: boolean) => native.setBackendFlag(`${name}.${flag}`, on),
    })
  return closed(`backends.${name}`, others as Others & Record<Flag, boolean>)
}

/** A mistyped flag would be a setting without effect. */
function closed<T extends object>(name: string, members: T): T {
  return new Proxy(members, {
    set(target, key, value) {
      if (!settable(target).includes(String(key)))
        throw argumentError(`${name}.${String(key)}`, describeSettable(target), value)
      return Reflect.set(target, key, value)
    },
  })
}

function settable(target: object): string[] {
  return Object.keys(target).filter(key => 'set' in Object.getOwnPropertyDescriptor(target, key)!)
}

function describeSettable(target: object): string {
  return settable(target).length > 0 ? `one of ${settable(target).join(', ')}` : 'no flags, as there are none'
}
