import { inspect } from 'node:util'
import { AlambicError, show } from '../errors.js'
import { listOf, readOptions, text } from '../checks/options.js'
import { fromTypedArray, requireTensor, type Tensor } from '../tensors/tensor.js'
import { checkIndices, type Batch, type Dataset } from './dataset.js'

/** Samples in tensors on any device: row i of `data` belongs to element i of `labels`. */
export class TensorDataset implements Dataset {
  /** Each sample is always the same. */
  readonly views = 1
  readonly classes: readonly string[] | undefined

  /**
   * @param data `(N, …)`; kept, not copied, and still the caller's to dispose of.
   * @param labels `(N)`, int64; likewise.
   * @throws AlambicError `ERR_ARGUMENT` for what is no tensor, `ERR_DTYPE` when labels are not int64, `ERR_LENGTH_MISMATCH` when the sizes differ
   */
  constructor(
    readonly data: Tensor,
    readonly labels: Tensor,
    options: { classes?: readonly string[] } = {},
  ) {
    this.classes = readOptions('TensorDataset', options, { classes: listOf(text, 'names') }).classes
    requireTensor('TensorDataset: data', data)
    requireTensor('TensorDataset: labels', labels)
    if (labels.dtype !== 'int64') {
      throw new AlambicError(
        'ERR_DTYPE',
        `TensorDataset: expected labels of dtype int64, got ${labels.dtype}; convert them with labels.to('int64')`,
      )
    }
    const [samples] = data.shape
    if (samples === undefined || labels.ndim !== 1 || labels.size(0) !== samples) {
      throw new AlambicError(
        'ERR_LENGTH_MISMATCH',
        `TensorDataset: expected data (N, …) and labels (N), got ${show(data.shape)} and ${show(labels.shape)}`,
      )
    }
  }

  get length(): number {
    return this.labels.size(0)
  }

  /** @throws AlambicError `ERR_INDEX` for an index that the dataset does not have */
  batch(indices: readonly number[] | Int32Array): Batch {
    checkIndices('TensorDataset.batch', indices, this.length)
    return { data: selectRows(this.data, indices), labels: selectRows(this.labels, indices) }
  }

  toString(): string {
    const classes = this.classes ? `, ${this.classes.length} classes` : ''
    return `TensorDataset(${this.data.shape.join('×')} ${this.data.dtype} on ${this.data.device}${classes})`
  }

  [inspect.custom](): string {
    return this.toString()
  }
}

function selectRows(source: Tensor, indices: readonly number[] | Int32Array): Tensor {
  const { device } = source
  const rows = fromTypedArray(Int32Array.from(indices), [indices.length], { device })
  try {
    return source.indexSelect(0, rows)
  } finally {
    rows.dispose()
  }
}
