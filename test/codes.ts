/** For tests of errors. */
import { expect } from 'vitest'
import { AlambicError, type ErrorCode } from '../lib/index.js'

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

/** Expects an AlambicError with this code, whose message matches. */
export function expectError(run: () => unknown, code: ErrorCode, message: RegExp): void {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(AlambicError)
    expect((error as AlambicError).message).toMatch(message)
    expect((error as AlambicError).code).toBe(code)
    return
  }
  expect.fail(`expected ${code}`)
}
