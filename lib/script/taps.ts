/** The taps of a TorchScript module: which values of its methods are shown to whom. */
import type { NativeTap } from '../native/contract.js'

/** What a value at a path is shown to. */
export interface TapListener {
  /** Whether it wants values now. */
  isActive(): boolean
  /** Whether what {@link see} returns takes the value's place. */
  readonly replaces: boolean
  see(value: unknown): unknown
}

interface Entry {
  tap: NativeTap
  listeners: Set<TapListener>
}

/** The taps of one method; equal ones are one. */
export class Taps {
  private readonly entries = new Map<string, Entry>()

  /** Returns what takes the listener off again. */
  add(tap: NativeTap, listener: TapListener): () => void {
    const key = keyOf(tap)
    const entry = this.entries.get(key) ?? { tap, listeners: new Set() }
    entry.listeners.add(listener)
    this.entries.set(key, entry)
    return () => {
      entry.listeners.delete(listener)
      if (entry.listeners.size === 0 && this.entries.get(key) === entry) this.entries.delete(key)
    }
  }

  get isEmpty(): boolean {
    return this.entries.size === 0
  }

  list(): NativeTap[] {
    return Array.from(this.entries.values(), entry => entry.tap)
  }

  /** Equal for equal lists of taps. */
  key(): string {
    return [...this.entries.keys()].join('\n')
  }

  isActive(): boolean {
    return this.some(listener => listener.isActive())
  }

  replaces(): boolean {
    return this.some(listener => listener.replaces && listener.isActive())
  }

  private some(condition: (listener: TapListener) => boolean): boolean {
    return Array.from(this.entries.values()).some(({ listeners }) => [...listeners].some(condition))
  }

  /** Shows a value to the listeners of a tap, one after the other, and returns what the last one left. */
  show(tap: NativeTap, value: unknown): unknown {
    const listeners = this.entries.get(keyOf(tap))?.listeners ?? []
    return [...listeners].reduce((seen, listener) => (listener.isActive() ? listener.see(seen) : seen), value)
  }
}

export function keyOf({ path, input, argument, steps, whole = false }: NativeTap): string {
  return JSON.stringify([path, input, argument, steps, whole])
}
