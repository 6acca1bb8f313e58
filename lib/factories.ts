/** Tensors from nothing. Shapes are arrays; options as in PyTorch. */
import { realFor, requireFits } from './elements.js'
import { scope } from './memory.js'
import type { Generator } from './random.js'
import { tensor, type Tensor } from './tensor.js'
import { torch } from './torch/index.js'
import type { DType, Scalar, TensorOptions } from './types.js'

export interface RandomOptions extends TensorOptions {
  /** Default: the device's default generator, seeded by `manualSeed`. */
  generator?: Generator
}

function finish(tensor: Tensor, requiresGrad: boolean | undefined): Tensor {
  if (requiresGrad) tensor.requiresGrad = true
  return tensor
}

/** All elements 0. */
export function zeros(shape: readonly number[], { requiresGrad, ...options }: TensorOptions = {}): Tensor {
  return finish(torch.zeros(shape, options), requiresGrad)
}

/** All elements 1. */
export function ones(shape: readonly number[], { requiresGrad, ...options }: TensorOptions = {}): Tensor {
  return finish(torch.ones(shape, options), requiresGrad)
}

/**
 * All elements `value`; of the dtype that {@link tensor} gives the value unless one is given: a number float32, a bigint
 * int64, a boolean bool, `{ re, im }` complex64.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a number that the dtype does not hold
 */
export function full(
  shape: readonly number[],
  value: Scalar,
  { requiresGrad, dtype = dtypeOfScalar(value), ...options }: TensorOptions = {},
): Tensor {
  requireFits('full: value', value, dtype)
  // libtorch's numbers of 64 bits are signed.
  const filled =
    dtype === 'uint64'
      ? scope(() =>
          tensor(value, { dtype, ...options })
            .expand(shape)
            .clone(),
        )
      : torch.full(shape, realFor(dtype, value), { dtype, ...options })
  return finish(filled, requiresGrad)
}

function dtypeOfScalar(value: Scalar): DType {
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'bigint') return 'int64'
  return typeof value === 'object' ? 'complex64' : 'float32'
}

/** Whatever the memory holds. */
export function empty(shape: readonly number[], { requiresGrad, ...options }: TensorOptions = {}): Tensor {
  return finish(torch.empty(shape, options), requiresGrad)
}

/** Standard normal. */
export function randn(shape: readonly number[], { requiresGrad, ...options }: RandomOptions = {}): Tensor {
  return finish(torch.randn(shape, options), requiresGrad)
}

/** Uniform in [0, 1). */
export function rand(shape: readonly number[], { requiresGrad, ...options }: RandomOptions = {}): Tensor {
  return finish(torch.rand(shape, options), requiresGrad)
}

/** Integers uniform in [low, high), int64 unless a dtype is given. `randint(high, shape)` starts at 0. */
export function randint(high: number, shape: readonly number[], options?: RandomOptions): Tensor
export function randint(low: number, high: number, shape: readonly number[], options?: RandomOptions): Tensor
export function randint(...args: unknown[]): Tensor {
  const bounds = args.filter(each => typeof each === 'number')
  const [shape, { requiresGrad, ...options } = {}] = args.slice(bounds.length) as [number[], RandomOptions?]
  const [low, high] = bounds.length === 1 ? [0, bounds[0]!] : [bounds[0]!, bounds[1]!]
  return finish(torch.randint(low, high, shape, { dtype: 'int64', ...options }), requiresGrad)
}

/** A random permutation of 0 … n − 1, int64. */
export function randperm(n: number, { requiresGrad, ...options }: RandomOptions = {}): Tensor {
  return finish(torch.randperm(n, { dtype: 'int64', ...options }), requiresGrad)
}

/** 0, 1, … up to but without `end`; or from `start` by `step`. int64 when all are whole, else float32. */
export function arange(end: number, options?: TensorOptions): Tensor
export function arange(start: number, end: number, options?: TensorOptions): Tensor
export function arange(start: number, end: number, step: number, options?: TensorOptions): Tensor
export function arange(...args: (number | TensorOptions | undefined)[]): Tensor {
  const bounds = args.filter(each => typeof each === 'number')
  const { requiresGrad, dtype, ...options } = (args[bounds.length] as TensorOptions | undefined) ?? {}
  const [start, end, step] =
    bounds.length === 1 ? [0, bounds[0]!, 1] : [bounds[0]!, bounds[1]!, bounds[2] ?? 1]
  const inferred = bounds.every(Number.isInteger) ? 'int64' : 'float32'
  return finish(torch.arange(start, end, { step, dtype: dtype ?? inferred, ...options }), requiresGrad)
}

/** `steps` values from `start` to `end`, both included. */
export function linspace(
  start: number,
  end: number,
  steps: number,
  { requiresGrad, ...options }: TensorOptions = {},
): Tensor {
  return finish(torch.linspace(start, end, steps, options), requiresGrad)
}

/** The identity matrix (n, m). */
export function eye(
  n: number,
  { requiresGrad, m = n, ...options }: TensorOptions & { m?: number } = {},
): Tensor {
  return finish(torch.eye(n, m, options), requiresGrad)
}
