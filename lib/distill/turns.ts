/** How a training shares its thread with what else runs there: servers, timers, streams. */
import { rememberModes } from '../nn/modes.js'
import type { Module } from '../nn/module.js'
import { nextTurn } from './batches.js'

/** Milliseconds of work after which others get their turn before the step is over. */
const longestPart = 4

/**
 * How much longer than the work before it a pause may make others wait for the training: a tenth. What a single callback
 * takes is its own affair, and one turn there always is.
 */
const share = 0.1

/** Where Node does not say what the event loop has handled: accept a connection, read from it, answer. */
const turnsAtLeast = 3

/**
 * Gives way to the event loop between the parts of a step and after it. A turn of the loop accepts one connection, and
 * reads from those that are accepted; so turns follow each other for as long as something was waiting.
 *
 * While others run, no scope is open and no mode is set, and what they do to the modes of the modules is put back
 * before the training goes on: a request handler may call `eval()`, `evaluate()` or `forward()` at any time.
 */
export class Turns {
  private since = performance.now()
  private restore = () => undefined as void

  /** @param guarded modules whose modes the work depends on; parents before their parts */
  constructor(private guarded: readonly Module[] = []) {}

  guard(modules: readonly Module[]): void {
    this.guarded = modules
  }

  /** From now on others may run. */
  leave(): void {
    this.restore = rememberModes(this.guarded)
  }

  /** Goes on as it was left. */
  comeBack(): void {
    this.restore()
  }

  /** Between two parts of a step, where the part was long. Returns whether others had their turn. */
  async between(): Promise<boolean> {
    if (performance.now() - this.since < longestPart) return false
    await this.give()
    return true
  }

  /** As many turns of the event loop as others need, at least one, within their share of the time. */
  async give(): Promise<void> {
    this.leave()
    const start = performance.now()
    const end = start + share * (start - this.since)
    let isBusy = true
    for (let turns = 1; isBusy; turns++) {
      const before = eventsHandled()
      await nextTurn()
      isBusy =
        performance.now() < end && (before === undefined ? turns < turnsAtLeast : eventsHandled() !== before)
    }
    this.comeBack()
    this.since = performance.now()
  }
}

/** How many events (connections, data, results of other threads) this thread's loop has handled; Node 20.18 tells. */
function eventsHandled(): number | undefined {
  const { uvMetricsInfo } = performance.nodeTiming as { uvMetricsInfo?: { events: number } }
  return uvMetricsInfo?.events
}
