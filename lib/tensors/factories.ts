/** Tensors from nothing. Shapes are arrays; options as in PyTorch. */
import { isComplex, requireFits } from './elements.js'
import { AlambicError, argumentError, missingError } from '../errors.js'
import { scope } from '../memory/memory.js'
import { generator, integer, readOptions, tensorOptions, type Kinds } from '../checks/options.js'
import type { Generator } from '../calls/generator.js'
import { tensor, type Tensor } from './tensor.js'
import { torch } from '../calls/index.js'
import type { DType, Scalar, TensorOptions } from './types.js'

export interface RandomOptions extends TensorOptions {
  /** Default: the device's default generator, seeded by `manualSeed`. */
  generator?: Generator
}

const randomOptions: Kinds<RandomOptions> = { ...tensorOptions, generator }

const eyeOptions: Kinds<TensorOptions & { m?: number }> = { ...tensorOptions, m: integer(0) }

/**
 * The shape, which is the first of the arguments.
 *
 * @throws AlambicError `ERR_ARGUMENT` where it is missing, and for sizes that stand beside each other, as in Python
 */
function readShape(who: string, args: readonly unknown[]): readonly number[] {
  const [shape] = args
  if (shape === undefined) throw missingError(`${who}: shape`, 'an array of sizes such as [2, 3]')
  if (typeof shape !== 'number') return shape as readonly number[]
  const end = args.findIndex(each => typeof each !== 'number')
  const sizes = (end < 0 ? args : args.slice(0, end)).join(', ')
  throw new AlambicError(
    'ERR_ARGUMENT',
    `${who}: shape: expected an array of sizes, got ${sizes}; did you mean ${who}([${sizes}])?`,
  )
}

function finish(tensor: Tensor, requiresGrad: boolean | undefined): Tensor {
  if (requiresGrad) tensor.requiresGrad = true
  return tensor
}

/** All elements 0. */
export function zeros(shape: readonly number[], options?: TensorOptions): Tensor
export function zeros(...args: unknown[]): Tensor {
  const shape = readShape('zeros', args)
  const { requiresGrad, ...others } = readOptions(
    'zeros',
    args[1] as TensorOptions | undefined,
    tensorOptions,
  )
  return finish(torch.zeros(shape, others), requiresGrad)
}

/** All elements 1. */
export function ones(shape: readonly number[], options?: TensorOptions): Tensor
export function ones(...args: unknown[]): Tensor {
  const shape = readShape('ones', args)
  const { requiresGrad, ...others } = readOptions('ones', args[1] as TensorOptions | undefined, tensorOptions)
  return finish(torch.ones(shape, others), requiresGrad)
}

/**
 * All elements `value`. Unless a dtype is given it is that of {@link tensor}: for a number float32, for a bigint int64,
 * for a boolean bool, for `{ re, im }` complex64.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a number that the dtype does not hold
 */
export function full(shape: readonly number[], value: Scalar, options: TensorOptions = {}): Tensor {
  readShape('full', [shape])
  if (value === undefined) throw missingError('full: value', 'a number')
  const {
    requiresGrad,
    dtype = dtypeOfScalar(value),
    ...others
  } = readOptions('full', options, tensorOptions)
  if (isComplex(value) && !dtype.startsWith('complex'))
    throw argumentError('full: value', `a real number for dtype ${dtype}`, value)
  requireFits('full: value', value, dtype)
  // libtorch's numbers of 64 bits are signed.
  const filled =
    dtype === 'uint64'
      ? scope(() =>
          tensor(value, { dtype, ...others })
            .expand(shape)
            .clone(),
        )
      : torch.full(shape, value, { dtype, ...others })
  return finish(filled, requiresGrad)
}

function dtypeOfScalar(value: Scalar): DType {
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'bigint') return 'int64'
  return typeof value === 'object' ? 'complex64' : 'float32'
}

/** Elements that are not set: whatever the memory holds. */
export function empty(shape: readonly number[], options?: TensorOptions): Tensor
export function empty(...args: unknown[]): Tensor {
  const shape = readShape('empty', args)
  const { requiresGrad, ...others } = readOptions(
    'empty',
    args[1] as TensorOptions | undefined,
    tensorOptions,
  )
  return finish(torch.empty(shape, others), requiresGrad)
}

/** Standard normal. */
export function randn(shape: readonly number[], options?: RandomOptions): Tensor
export function randn(...args: unknown[]): Tensor {
  const shape = readShape('randn', args)
  const { requiresGrad, ...others } = readOptions(
    'randn',
    args[1] as RandomOptions | undefined,
    randomOptions,
  )
  return finish(torch.randn(shape, others), requiresGrad)
}

/** Uniform in [0, 1). */
export function rand(shape: readonly number[], options?: RandomOptions): Tensor
export function rand(...args: unknown[]): Tensor {
  const shape = readShape('rand', args)
  const { requiresGrad, ...others } = readOptions('rand', args[1] as RandomOptions | undefined, randomOptions)
  return finish(torch.rand(shape, others), requiresGrad)
}

/** Integers uniform in [low, high), int64 unless a dtype is given. `randint(high, shape)` starts at 0. */
export function randint(high: number, shape: readonly number[], options?: RandomOptions): Tensor
export function randint(low: number, high: number, shape: readonly number[], options?: RandomOptions): Tensor
export function randint(...args: unknown[]): Tensor {
  const bounds = args.filter(each => typeof each === 'number')
  if (bounds.length === 0) throw missingError('randint: high', 'an integer that the results are below')
  const [shape, options] = args.slice(bounds.length) as [unknown, RandomOptions?]
  const sizes = readShape('randint', [shape])
  const { requiresGrad, dtype = 'int64', ...others } = readOptions('randint', options, randomOptions)
  const [low, high] = bounds.length === 1 ? [0, bounds[0]!] : [bounds[0]!, bounds[1]!]
  return finish(torch.randint(low, high, sizes, { dtype, ...others }), requiresGrad)
}

/** A random permutation of 0 … n − 1, int64. */
export function randperm(n: number, options: RandomOptions = {}): Tensor {
  const { requiresGrad, dtype = 'int64', ...others } = readOptions('randperm', options, randomOptions)
  return finish(torch.randperm(n, { dtype, ...others }), requiresGrad)
}

/**
 * 0, 1, … up to `end`, which is not included; or from `start` by `step`. int64 if all arguments are whole, else
 * float32.
 */
export function arange(end: number, options?: TensorOptions): Tensor
export function arange(start: number, end: number, options?: TensorOptions): Tensor
export function arange(start: number, end: number, step: number, options?: TensorOptions): Tensor
export function arange(...args: (number | TensorOptions | undefined)[]): Tensor {
  const bounds = args.filter(each => typeof each === 'number')
  const options = args[bounds.length] as TensorOptions | undefined
  const { requiresGrad, dtype, ...others } = readOptions('arange', options, tensorOptions)
  const [start, end, step] =
    bounds.length === 1 ? [0, bounds[0]!, 1] : [bounds[0]!, bounds[1]!, bounds[2] ?? 1]
  const inferred = bounds.every(Number.isInteger) ? 'int64' : 'float32'
  return finish(torch.arange(start, end, { step, dtype: dtype ?? inferred, ...others }), requiresGrad)
}

/** `steps` values from `start` to `end`, both included. */
export function linspace(start: number, end: number, steps: number, options: TensorOptions = {}): Tensor {
  const { requiresGrad, ...others } = readOptions('linspace', options, tensorOptions)
  return finish(torch.linspace(start, end, steps, others), requiresGrad)
}

/** The identity matrix (n, m). */
export function eye(n: number, options: TensorOptions & { m?: number } = {}): Tensor {
  const { requiresGrad, m = n, ...others } = readOptions('eye', options, eyeOptions)
  return finish(torch.eye(n, m, others), requiresGrad)
}
