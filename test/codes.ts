/** For tests of errors. */
import { AlambicError } from '../lib/index.js'

/** The code of the AlambicError that `body` throws; other errors pass through. */
export function codeOf(body: () => unknown): string {
  try {
    body()
  } catch (error) {
    if (error instanceof AlambicError) return error.code
    throw error
  }
  return 'no error'
}

/** The same for promises. */
export async function codeOfAsync(body: () => Promise<unknown>): Promise<string> {
  try {
    await body()
  } catch (error) {
    if (error instanceof AlambicError) return error.code
    throw error
  }
  return 'no error'
}
