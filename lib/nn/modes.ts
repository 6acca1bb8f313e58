import type { Module } from './module.js'

/**
 * Remembers which of the modules are in training, and returns what brings them back to it: by their own `train()`, which
 * may do more than set a field, and only where something has changed.
 *
 * @param modules parents before their parts, as `modules()` gives them
 */
export function rememberModes(modules: readonly Module[]): () => void {
  const modes = modules.map(({ training }) => training)
  return () => {
    if (modules.every(({ training }, i) => training === modes[i])) return
    modules.forEach((module, i) => {
      if (module.training !== modes[i]) module.train(modes[i])
    })
    // What was set past train(), as in `layer.training = true` of a layer whose train() freezes it.
    modules.forEach((module, i) => {
      if (module.training !== modes[i]) module.training = modes[i]!
    })
  }
}

/** Runs `body` with a module in training or evaluation mode, and gives each part its own mode back. */
export function inMode<T>(module: Module, training: boolean, body: () => T): T {
  const restore = rememberModes(module.modules())
  module.train(training)
  try {
    return body()
  } finally {
    restore()
  }
}
