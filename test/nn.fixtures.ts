/** What the tests of `lib/nn` and `lib/models` share: the stored results of PyTorch, and the numbers they began with. */
import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { AlambicError, type nn, type Tensor } from '../lib/index.js'
import { native } from '../lib/native/loader.js'
import { fromTypedArray, isOnGpu, tensor } from './device.js'

export interface StoredTensor {
  shape: number[]
  values: number[]
}

export type Options = Record<string, unknown>

export interface LayerCase {
  layer: string
  args: unknown[]
  options: Options
  mode: 'train' | 'eval'
  /** As Python prints it. */
  repr: string
  keys: string[]
  /** The shape of the input, of {@link pattern} values … */
  input?: number[]
  /** … or indices. */
  indices?: number[] | number[][]
  steps: {
    output: StoredTensor
    inputGradient: StoredTensor | null
    gradients: Record<string, StoredTensor>
    buffers: Record<string, StoredTensor>
  }[]
}

export interface FunctionCase {
  function: string
  inputs: (number[] | { probabilities: number[] } | { logProbabilities: number[] })[]
  labels: number | number[] | number[][][] | null
  args: unknown[]
  options: Options
  output: StoredTensor
  gradients: StoredTensor[]
}

export interface NetworkCase {
  depth: number
  width: number
  classes: number
  mode: 'train' | 'eval'
  keys: string[]
  modules: string[]
  logits: StoredTensor
  features: StoredTensor[]
  gradients: Record<string, StoredTensor>
  buffers: Record<string, StoredTensor>
}

export interface Reference {
  /** The version that drew the random numbers. */
  torch: string
  layers: LayerCase[]
  functions: FunctionCase[]
  drawn: {
    layers: {
      layer: string
      args: unknown[]
      options: Options
      state: Record<string, StoredTensor>
      next: number
    }[]
    inits: {
      init: string
      shape: number[]
      options: Options
      dtype: 'float32' | 'float64'
      result: StoredTensor
      next: number
    }[]
    dropouts: { layer: 'Dropout' | 'Dropout2d'; p: number; input: number[]; output: StoredTensor }[]
  }
  networks: NetworkCase[]
}

export const reference = JSON.parse(
  readFileSync(new URL('reference/nn.json', import.meta.url), 'utf8'),
) as Reference

export const torchVersion = native.systemInfo().torchVersion

export const isOldest = torchVersion.startsWith('1.')

/** Older versions lack some. */
export const hasDtype = (dtype: string): boolean => native.dtypes().includes(dtype)

/** On the CPU 1.13 multiplies no matrices of float16, and casts to it in no autocast. */
export const multipliesHalves = isOnGpu || !isOldest

/** Random numbers are compared bit for bit, which only the version that drew them promises. */
export const drawsAsReference = torchVersion.split('+')[0] === reference.torch

/** The numbers of `pattern` in `reference/nn.py`, on the device. */
export function pattern(shape: readonly number[], seed: number): Tensor {
  const count = shape.reduce((product, size) => product * size, 1)
  const values = Float64Array.from(
    { length: count },
    (_, i) => ((i * 7919 + seed * 104729) % 1009) / 1009 - 0.5,
  )
  return fromTypedArray(values, shape)
}

/** Parameters and running statistics as `fill` in `reference/nn.py` sets them. */
export function fill(module: nn.Module): void {
  const dict = module.stateDict()
  Object.entries(dict).forEach(([name, { shape }], i) => {
    if (name.endsWith('num_batches_tracked')) return
    const values = pattern(shape, 100 + i)
    dict[name] = name.endsWith('running_var') ? values.add(1) : values
  })
  module.loadStateDict(dict)
}

export function int64(values: number | readonly unknown[]): Tensor {
  return tensor(values as number[], { dtype: 'int64' })
}

export function expectClose(
  actual: Tensor | null,
  expected: StoredTensor,
  where: string,
  tolerance = 1e-10,
): void {
  expect(actual, where).not.toBeNull()
  expect(actual!.shape, `${where}: shape`).toEqual(expected.shape)
  const values = Array.from(actual!.to('float64').toTypedArray() as Float64Array)
  const worst = Math.max(
    0,
    ...values.map((value, i) => {
      const wanted = expected.values[i]!
      const difference = Math.abs(value - wanted) / Math.max(1, Math.abs(wanted))
      return Number.isNaN(difference) ? Infinity : difference
    }),
  )
  expect(worst, `${where}: largest relative difference`).toBeLessThanOrEqual(tolerance)
}

/** Equal in every bit. */
export function expectSame(actual: Tensor, expected: StoredTensor, where: string): void {
  expect(actual.shape, `${where}: shape`).toEqual(expected.shape)
  expect(Array.from(actual.to('float64').toTypedArray() as Float64Array), where).toEqual(expected.values)
}

/** The AlambicError that `body` throws. */
export function errorOf(body: () => unknown): AlambicError {
  try {
    body()
  } catch (error) {
    if (error instanceof AlambicError) return error
    throw error
  }
  return expect.fail('expected an AlambicError, nothing was thrown')
}
