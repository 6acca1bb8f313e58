import type { NativeAddon } from './contract.js'

let isListening = false

/**
 * libtorch's warnings become Node's: `process.emitWarning`, of the type `LibtorchWarning`. They are shown in the next
 * turn of the event loop, never in the middle of a call, and where the process is ended before, while it ends.
 */
export function passWarningsOn(addon: NativeAddon): void {
  if (isListening) return // an addon that is loaded again is the same library
  isListening = true
  addon.onWarning(() => {
    for (const text of addon.takeWarnings()) process.emitWarning(text, 'LibtorchWarning')
  })
  process.once('exit', () => {
    // What is emitted for a later turn would not be seen any more.
    for (const text of addon.takeWarnings()) process.emit('warning', libtorchWarning(text))
  })
}

function libtorchWarning(text: string): Error {
  const warning = new Error(text)
  warning.name = 'LibtorchWarning'
  return warning
}
