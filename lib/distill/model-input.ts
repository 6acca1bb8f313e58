/** What a model is given where it wants other inputs than the batches are. */
import { convertImages, type ImageConversion } from '../data/image-format.js'
import { callback, requireKind } from '../checks/options.js'
import { argumentError } from '../errors.js'
import { Tensor } from '../tensors/tensor.js'

/**
 * Converts a batch's images to those that a model needs: a function, or the two formats (see `data.convertImages`). It
 * runs without gradients, must give the same result for the same images, and may return the images themselves.
 */
export type ModelInput = ((images: Tensor) => Tensor) | ImageConversion

/** @throws AlambicError `ERR_ARGUMENT` for anything else, and from the result when that gives no tensor */
export function toInputFunction(name: string, input: ModelInput | undefined): (images: Tensor) => Tensor {
  if (input === undefined) return images => images
  if (typeof input === 'object' && input !== null) return convertImages(input)
  requireKind(name, { ...callback, expected: 'a function of a batch of images, or { from, to }' }, input)
  return images => {
    const result: unknown = input(images)
    if (result instanceof Tensor) return result
    throw argumentError(name, 'a function that returns a tensor', result)
  }
}
