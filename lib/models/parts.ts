/** What the networks share. */
import { argumentError } from '../errors.js'
import { isObserved } from '../features/capture.js'
import { Activation } from '../native/contract.js'
import { BatchNorm2d, Conv2d, init, ReLU, ReLU6, Sequential } from '../nn/index.js'
import { hasOwnForward } from '../nn/around-forward.js'
import type { Module } from '../nn/module.js'
import type { Tensor } from '../tensors/tensor.js'

/** More layers than anybody has trained; each block is an object of its own. */
const mostLayers = 10_000

/**
 * The blocks in each of the three stages of a network with `6n + extra` layers.
 *
 * @param examples depths that there are, for the message
 * @throws AlambicError `ERR_ARGUMENT`
 */
export function blocksPerStage(who: string, depth: number, extra: number, examples: string): number {
  const blocks = typeof depth === 'number' && depth <= mostLayers ? (depth - extra) / 6 : NaN
  if (Number.isInteger(blocks) && blocks >= 1) return blocks
  throw argumentError(`${who}: depth`, `6n + ${extra} layers (${examples} …)`, depth)
}

/**
 * What `layer` makes of `x`, to be overwritten by what follows: a copy where it was captured. Batch norm and residual
 * sums need no second buffer this way, and captured features stay what they were.
 */
export function overwritable(layer: Module<[Tensor], Tensor>, x: Tensor): Tensor {
  const output = layer.forward(x)
  return showsItsOutput(layer) ? output.clone() : output
}

/**
 * What `norm` makes of `x`, plus `added`, through the activation: at once, where nobody looks in between. Without a module
 * for it the activation is ReLU.
 */
export function normalized(
  norm: BatchNorm2d,
  x: Tensor,
  { added = null, activation = null }: { added?: Tensor | null; activation?: ReLU | ReLU6 | null } = {},
): Tensor {
  const fused = fusedActivation(activation)
  if (fused !== undefined && isPassable(norm, BatchNorm2d)) return norm.forwardActivated(x, added, fused)
  const output = overwritable(norm, x)
  if (added !== null) output.add_(added)
  return activation === null ? output.relu_() : activation.forward(output)
}

/** What batch norm can do as well; undefined where the module has to be called. */
function fusedActivation(activation: ReLU | ReLU6 | null): Activation | undefined {
  if (activation === null) return Activation.relu
  if (!activation.inplace) return undefined
  if (isPassable(activation, ReLU)) return Activation.relu
  return isPassable(activation, ReLU6) ? Activation.relu6 : undefined
}

/** Whether nobody minds if the layer is not called: another may have been put in its place, or look at it. */
function isPassable(layer: Module, Class: new (...args: never[]) => Module): boolean {
  return layer.constructor === Class && !isObserved(layer) && !hasOwnForward(layer)
}

/** A container's output is its last layer's. */
function showsItsOutput(layer: Module): boolean {
  if (isObserved(layer)) return true
  return layer instanceof Sequential && layer.length > 0 && showsItsOutput(layer.at(-1))
}

/** A 3×3 convolution that keeps the size, or divides it by the stride. */
export function conv3x3(inChannels: number, outChannels: number, stride = 1): Conv2d {
  return new Conv2d(inChannels, outChannels, 3, { stride, padding: 1, bias: false })
}

export function conv1x1(inChannels: number, outChannels: number, stride = 1): Conv2d {
  return new Conv2d(inChannels, outChannels, 1, { stride, bias: false })
}

/** Shortcut option B: a 1×1 convolution with batch norm. */
export function projection(inChannels: number, outChannels: number, stride: number): Sequential {
  return new Sequential(conv1x1(inChannels, outChannels, stride), new BatchNorm2d(outChannels))
}

/** He et al., "Delving deep into rectifiers" (2015), by the gradient's variance, for every convolution. */
export function resetConvolutions(model: Module): void {
  for (const module of model.modules())
    if (module instanceof Conv2d) init.kaimingNormal_(module.weight, { mode: 'fanOut', nonlinearity: 'relu' })
}

/** Mean over each feature map: (N, C, H, W) → (N, C). */
export function globalAverage(features: Tensor): Tensor {
  return features.mean([2, 3])
}
