/** Tells, while a module's forward runs, which of its layers is running. */
import { aroundForward } from '../nn/around-forward.js'
import type { Module } from '../nn/module.js'

export interface ScopeListener {
  enter: (path: string) => void
  leave: (path: string) => void
}

/**
 * Runs `body` while every call of a submodule's forward is announced by its dotted path. Hooks that are attached
 * already keep working.
 */
export function withScopes<T>(root: Module, listener: ScopeListener, body: () => T): T {
  const undo: (() => void)[] = []
  try {
    for (const [path, module] of root.namedModules())
      if (path !== '') undo.push(announceForward(path, module, listener))
    return body()
  } finally {
    for (const restore of undo.reverse()) restore()
  }
}

function announceForward(path: string, module: Module, { enter, leave }: ScopeListener): () => void {
  return aroundForward(module, (forward, inputs) => {
    enter(path)
    const output = forward(...inputs)
    leave(path)
    return output
  })
}
