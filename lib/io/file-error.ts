import type { AlambicError } from '../errors.js'
import { formatError } from '../data/files.js'

export interface FileProblem {
  offset: number
  expected: string
  found: string
  /** Default: to get the file again. */
  remedy?: string
}

/** The error for a file that does not hold what it should: `ERR_FILE_FORMAT`, with the byte. */
export function fileError(
  file: string,
  { remedy = 'get the file again: it is damaged', ...problem }: FileProblem,
  options?: ErrorOptions,
): AlambicError {
  return formatError(file, { ...problem, remedy }, options)
}
