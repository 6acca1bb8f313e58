/** What a step changes, to be put back: trials leave no trace in the training. */
import { noGrad } from '../tensors/grad-mode.js'
import { scope, unscoped } from '../memory/memory.js'
import type { Module } from '../nn/module.js'
import { getRngState, setRngState } from '../random/index.js'
import type { Tensor } from '../tensors/tensor.js'
import type { Device } from '../tensors/types.js'

/** A field of a module that holds a buffer, or will. */
interface Field {
  module: Module
  name: string
  tensor: Tensor | null
}

/** Weights, buffers and gradients, as they were when it was made. What a module keeps in other fields it does not know. */
export class Snapshot {
  private readonly copies: [tensor: Tensor, copy: Tensor][]
  private readonly fields: Field[]
  private readonly gradients: [tensor: Tensor, gradient: Tensor | null][]

  /**
   * @param trained modules whose weights a step changes
   * @param used other modules that it calls, whose buffers it may change
   * @param parameters what is trained
   */
  constructor(trained: readonly Module[], used: readonly Module[], parameters: readonly Tensor[]) {
    const modules = new Set([...trained, ...used].flatMap(module => module.modules()))
    const buffers = [...trained, ...used].flatMap(module => module.buffers())
    const weights = new Set([...parameters, ...trained.flatMap(module => module.parameters())])
    const learning = new Set([...weights, ...used.flatMap(module => module.parameters())])
    const make = () => ({
      copies: Array.from(new Set([...weights, ...buffers]), copyOf),
      gradients: Array.from(learning, (tensor): [Tensor, Tensor | null] => [tensor, tensor.grad]),
    })
    const { copies, gradients } = unscoped(() => noGrad(make))
    this.copies = copies
    this.gradients = gradients
    this.fields = Array.from(modules).flatMap(module =>
      module.bufferFields().map(([name, tensor]) => ({ module, name, tensor })),
    )
    for (const [tensor] of this.gradients) tensor.grad = null // or a step would add to it in place
  }

  /** Puts everything back but the gradients, which the next step clears. */
  restore(): void {
    const copyOf = new Map(this.copies)
    for (const { module, name, tensor } of this.fields) {
      // A module may have replaced its buffer, and disposed of the one before.
      const isThere = (module as unknown as Record<string, unknown>)[name] === tensor && tensor?.handle !== 0
      if (!isThere)
        module.replaceBuffer(name, tensor?.handle === 0 ? noGrad(() => copyOf.get(tensor)!.clone()) : tensor)
    }
    noGrad(() =>
      scope(() => {
        for (const [tensor, copy] of this.copies) if (tensor.handle !== 0) tensor.copy_(copy)
      }),
    )
  }

  /** Whether all weights and buffers are, bit for bit, what they were. */
  isCurrent(): boolean {
    return noGrad(() => this.copies.every(([tensor, copy]) => tensor.equal(copy)))
  }

  /** Puts the gradients back too, and releases the copies. */
  end(): void {
    this.restore()
    for (const [tensor, gradient] of this.gradients) tensor.grad = gradient
    this.release()
  }

  /** Releases the copies, and puts nothing back. */
  release(): void {
    for (const [, copy] of this.copies) copy.dispose()
    for (const [, gradient] of this.gradients) gradient?.dispose()
  }
}

/**
 * The states of the random number generators around one step: what other code draws between two steps is not drawn
 * again.
 */
export class RandomStates {
  private readonly states: [device: Device, state: Tensor][]

  /** Of the devices of `parameters`, and of the CPU. */
  constructor(parameters: readonly Tensor[]) {
    const devices = new Set<Device>(['cpu', ...parameters.map(({ device }) => device)])
    this.states = unscoped(() => Array.from(devices, device => [device, getRngState(device)]))
  }

  /** Draws again what was drawn since. */
  rewind(): void {
    for (const [device, state] of this.states) setRngState(state, device)
  }

  /** The same for the last time. */
  restore(): void {
    this.rewind()
    for (const [, state] of this.states) state.dispose()
  }
}

function copyOf(tensor: Tensor): [Tensor, Tensor] {
  return [tensor, tensor.clone()]
}
