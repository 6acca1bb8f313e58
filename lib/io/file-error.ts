import type { AlambicError } from '../errors.js'
import { formatError } from './files.js'

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

/** Text from a file, for a message: short, and without anything that a terminal would act upon. */
export function displayText(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are what is taken out
  return text.slice(0, 200).replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
}
