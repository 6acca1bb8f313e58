/** What a recorded forward has read out of tensors: from then on it is a constant. */
import { fileURLToPath } from 'node:url'
import type { OnRead } from '../native/contract.js'

export interface ValueRead {
  /** The function that read, such as `item`. */
  what: string
  /** What it read from: `float32 (1)`. */
  tensor: string
  /** The layer that was running; empty for the module itself. */
  layer: string
  /** File and line of the caller, where they can be told. */
  place: string | undefined
}

/** Collects reads; `currentLayer` tells who is running. */
export class ReadLog {
  readonly values: ValueRead[] = []
  /** Whether sizes were asked for. */
  shapes = false

  constructor(private readonly currentLayer: () => string) {}

  readonly note: OnRead = (kind, what, tensor) => {
    if (kind === 'shape') this.shapes = true
    else
      this.values.push({ what, tensor, layer: this.currentLayer(), place: callerOutside(packageDirectory) })
  }
}

/** `layer1: item of float32 (1) at net.ts:12:5` */
export function describeRead({ what, tensor, layer, place }: ValueRead): string {
  return `${layer === '' ? '' : `${layer}: `}${what} of ${tensor}${place === undefined ? '' : ` at ${place}`}`
}

const packageDirectory = fileURLToPath(new URL('..', import.meta.url))

/** The innermost place on the stack that is not in a directory. */
function callerOutside(directory: string): string | undefined {
  const lines = new Error().stack?.split('\n').slice(1) ?? []
  const places = lines.map(line => /\(?((?:file:\/\/)?\/[^()]*:\d+:\d+)\)?$/.exec(line)?.[1])
  return places
    .filter(place => place !== undefined)
    .map(place => (place.startsWith('file:') ? fileURLToPath(place) : place))
    .find(place => !place.startsWith(directory))
}
