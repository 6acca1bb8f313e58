import { AlambicError } from '../errors.js'

/**
 * Checks that labels number classes.
 *
 * @param where Names the label at an index, for messages.
 * @throws AlambicError `ERR_LABEL_RANGE` for the first label outside of `0 … classCount − 1`
 */
export function checkLabels(
  labels: Uint8Array | Int32Array,
  classCount: number,
  where: (index: number) => string,
  remedy: string,
): void {
  const index = labels.findIndex(label => label < 0 || label >= classCount)
  if (index < 0) return
  throw new AlambicError(
    'ERR_LABEL_RANGE',
    `${where(index)}: expected a label from 0 to ${classCount - 1}, got ${labels[index]}; ${remedy}`,
  )
}
