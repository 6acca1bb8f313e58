/** Inference that needs as little memory as in languages that count references. */
import { AlambicError } from '../errors.js'
import { collectTensors, releaseEarly, scope } from '../memory/memory.js'
import { aroundForward } from '../nn/around-forward.js'
import { Sequential } from '../nn/containers.js'
import type { Module } from '../nn/module.js'
import { ScriptModule } from '../script/script-module.js'
import { Tensor } from '../tensors/tensor.js'
import { refuseAsync } from './outputs.js'

/** Models that hold on to a tensor which another module reads later in the same forward. */
const unsuitable = new WeakSet<Module>()

/**
 * Runs `body`, which infers with `model`. What a module with parts makes is released when its forward ends, all but its
 * output and captured features, and in a sequence each output when the next is there: memory is used again while it is
 * in the processor's caches. Where a model does not bear that, `body` runs once more without.
 */
export function releasingEarly<T>(who: string, model: Module, body: () => T): T {
  if (unsuitable.has(model)) return body()
  const undo = releaseInside(who, model)
  try {
    return body()
  } catch (error) {
    if (!(error instanceof AlambicError && error.code === 'ERR_TENSOR_RELEASED')) throw error
    unsuitable.add(model)
  } finally {
    for (const each of undo.reverse()) each()
  }
  return body()
}

/** Shared modules may be put around more than once. */
function releaseInside(who: string, module: Module): (() => void)[] {
  const parts = module instanceof ScriptModule ? [] : module.children()
  if (parts.length === 0) return []
  // Of the class: hooks are the object's own.
  const isSequence = (Object.getPrototypeOf(module) as Module).forward === Sequential.prototype.forward
  const undo = [aroundForward(module, (own, inputs) => scope(() => notAsync(who, own(...inputs))))]
  for (const part of parts) {
    undo.push(...releaseInside(part.constructor.name, part))
    if (isSequence) undo.push(aroundForward(part, releaseInputs))
  }
  return undo
}

/** Said here, as the scope around does not know whose callback it has. */
function notAsync(who: string, output: unknown): unknown {
  refuseAsync(who, output)
  return output
}

/** The next in a sequence is the only one to see them. */
function releaseInputs(forward: (...inputs: unknown[]) => unknown, inputs: unknown[]): unknown {
  const output = forward(...inputs)
  const needed = new Set<Tensor>()
  collectTensors(output, tensor => needed.add(tensor))
  for (const input of inputs) if (input instanceof Tensor && !needed.has(input)) releaseEarly(input)
  return output
}
