import { native } from '../native/loader.js'

/**
 * Runs `body`, and lets a recording know that a GPU may do it beside what follows, up to where its results are used: a
 * teacher's forward. What it reads must not be written by the rest, which recordings check.
 */
export function besideTheRest<T>(body: () => T): T {
  native.recordSidePart(true)
  try {
    return body()
  } finally {
    native.recordSidePart(false)
  }
}
