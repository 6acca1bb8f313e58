import { AlambicError } from './errors.js'
import { refusePromise } from './memory.js'
import { native } from './native/loader.js'
import { boolean, callback, listOf, orNull, readOptions, requireKind, tensor, type Kinds } from './options.js'
import { withHooks } from './tensor-hooks.js'
import { handleOf, handlesOf, Tensor } from './tensor.js'

/**
 * Runs `body` without recording operations, and returns its result.
 *
 * @throws AlambicError `ERR_ASYNC_CALLBACK` when `body` returns a promise: the mode belongs to the thread
 */
export function noGrad<T>(body: () => T): T {
  return withGradMode('noGrad', false, body)
}

/**
 * Runs `body` with recording of operations, also inside {@link noGrad}, and returns its result. As `torch.enable_grad`.
 */
export function enableGrad<T>(body: () => T): T {
  return withGradMode('enableGrad', true, body)
}

/** Whether operations are being recorded in this thread. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled()
}

function withGradMode<T>(what: string, enabled: boolean, body: () => T): T {
  requireKind(`${what}: body`, callback, body)
  const before = native.setGradEnabled(enabled)
  try {
    const result = body()
    refusePromise(what, result)
    return result
  } finally {
    native.setGradEnabled(before)
  }
}

export interface GradOptions {
  /** One gradient per output, of its shape; null means 1, for a scalar output. */
  gradOutputs?: readonly (Tensor | null)[]
  /** Keep the graph for another pass. Default: the value of `createGraph`. */
  retainGraph?: boolean
  /** Make the gradients differentiable themselves. Default: false. */
  createGraph?: boolean
  /** Give null for inputs that the outputs do not depend on, instead of an error. Default: false. */
  allowUnused?: boolean
}

const gradOptions: Kinds<GradOptions> = {
  gradOutputs: listOf(orNull(tensor), 'an array of tensors and nulls, one per output'),
  retainGraph: boolean,
  createGraph: boolean,
  allowUnused: boolean,
}

/**
 * d(sum of outputs)/d(input) for each input, without touching any `grad`.
 *
 * @throws AlambicError `ERR_AUTOGRAD` for an output that depends on nothing, or an unused input
 */
export function grad(outputs: Tensor | readonly Tensor[], inputs: Tensor, options?: GradOptions): [Tensor]
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions & { allowUnused: true },
): (Tensor | null)[]
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options?: GradOptions,
): Tensor[]
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  const {
    gradOutputs,
    createGraph = false,
    retainGraph = createGraph,
    allowUnused = false,
  } = readOptions('grad', options, gradOptions)
  const results = withHooks(() =>
    native.grad(
      handles('outputs', outputs),
      handles('inputs', inputs),
      gradOutputs?.map(each => each?.handle ?? null),
      retainGraph,
      createGraph,
      allowUnused,
    ),
  )
  return results.map(handle => (handle === 0 ? null : new Tensor(handle)))
}

function handles(what: string, tensors: Tensor | readonly Tensor[]): number[] {
  const name = `grad: ${what}`
  const list = Array.isArray(tensors) ? handlesOf(name, tensors) : [handleOf(name, tensors as Tensor)]
  if (list.length === 0) throw new AlambicError('ERR_ARGUMENT', `${name}: expected at least one tensor`)
  return list
}
