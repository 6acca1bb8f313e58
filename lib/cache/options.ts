/** The option `teacherCache` of runs. */
import { either, integer, oneOf, readOptions, text, type Kind, type Kinds } from '../checks/options.js'
import { argumentError } from '../errors.js'
import type { DType } from '../tensors/types.js'

/**
 * Whether teachers' outputs are kept on disk and used instead of the teachers. `'auto'`: where every sample comes again
 * as it was, else the log says why not; `'always'`: where that is not so, it is an error.
 */
export type TeacherCacheMode = 'auto' | 'always' | 'never'

/** How teachers' outputs are kept. */
export interface TeacherCacheOptions {
  /** Default: `'auto'`. */
  mode?: TeacherCacheMode
  /** Where the folders of the caches are, one for each teacher and data. Default: `teachers` in the user's cache folder. */
  folder?: string
  /**
   * Keeps only so many of the largest logits of a sample; the probability of the other classes is spread evenly over them.
   * An approximation. Default: all logits.
   */
  topK?: number
  /** More than this is not kept, for one teacher. Default: 10e9. */
  maxBytes?: number
  /** In what floating point numbers are kept; what training gets has the teacher's dtype. Default: as they are. */
  dtype?: 'float32' | 'float16' | 'bfloat16'
}

const mode = oneOf('auto', 'always', 'never')

const cacheOptions: Kinds<TeacherCacheOptions> = {
  mode,
  folder: text,
  topK: integer(1),
  maxBytes: integer(1),
  dtype: oneOf('float32', 'float16', 'bfloat16'),
}

const anObject: Kind = { expected: 'an object', fits: value => typeof value === 'object' && value !== null }

/** What kind of value the option is. */
export const teacherCache: Kind = either(mode, anObject)

/** The option with all its members. */
export interface CacheSettings {
  readonly mode: TeacherCacheMode
  readonly folder: string | undefined
  readonly topK: number | undefined
  readonly maxBytes: number
  readonly dtype: DType | undefined
}

/** @throws AlambicError `ERR_ARGUMENT` */
export function cacheSettings(who: string, given: TeacherCacheMode | TeacherCacheOptions): CacheSettings {
  const options = typeof given === 'string' ? { mode: given } : readOptions(who, given, cacheOptions)
  const { mode = 'auto', folder, topK, maxBytes = 10e9, dtype } = options
  if (folder === '') throw argumentError(`${who}: folder`, 'a path', folder)
  return { mode, folder, topK, maxBytes, dtype }
}
