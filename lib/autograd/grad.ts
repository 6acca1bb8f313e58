import { AlambicError } from '../errors.js'
import { native } from '../native/loader.js'
import { boolean, listOf, orNull, readOptions, tensor, type Kinds } from '../checks/options.js'
import { withHooks } from '../tensors/tensor-hooks.js'
import { handleOf, handlesOf, Tensor } from '../tensors/tensor.js'

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
