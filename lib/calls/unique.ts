import { boolean, integer, orNull, readOptions, type Kinds } from '../checks/options.js'
import type { Tensor } from '../tensors/tensor.js'
import { Operator, toFunction } from './call.js'

export interface UniqueOptions {
  /** In ascending order. libtorch sorts in most cases anyway. Default: true. */
  sorted?: boolean
  /** Also give for each element the index of its value among the unique ones. Default: false. */
  returnInverse?: boolean
  /** Also give how often each value occurs. Default: false. */
  returnCounts?: boolean
  /** Compare the slices along this dimension. Default: null, all elements. */
  dim?: number | null
}

const uniqueOptions: Kinds<UniqueOptions> = {
  sorted: boolean,
  returnInverse: boolean,
  returnCounts: boolean,
  dim: orNull(integer()),
}

/** Without inverse and counts, which are what makes of the result an array. */
export type PlainUniqueOptions = UniqueOptions & { returnInverse?: false; returnCounts?: false }

type Three = [unique: Tensor, inverse: Tensor, counts: Tensor]

const ofAll = toFunction(new Operator('aten::_unique2', null)) as (x: Tensor, options: object) => Three
const ofSlices = toFunction(new Operator('aten::unique_dim', null)) as (
  x: Tensor,
  dim: number,
  options: object,
) => Three

/** As `torch.unique` of Python, which chooses between two operators. */
export function unique(x: Tensor, options?: PlainUniqueOptions): Tensor
export function unique(x: Tensor, options: UniqueOptions): Tensor | Tensor[]
export function unique(x: Tensor, options: UniqueOptions = {}): Tensor | Tensor[] {
  const {
    sorted = true,
    returnInverse = false,
    returnCounts = false,
    dim = null,
  } = readOptions('unique', options, uniqueOptions)
  const wanted = { sorted, returnInverse, returnCounts }
  const [values, inverse, counts] = dim === null ? ofAll(x, wanted) : ofSlices(x, dim, wanted)
  const results = [values]
  for (const [isWanted, each] of [
    [returnInverse, inverse],
    [returnCounts, counts],
  ] as const)
    if (isWanted) results.push(each)
    else each.dispose()
  return results.length === 1 ? values : results
}
