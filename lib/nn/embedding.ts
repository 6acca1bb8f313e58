import { noGrad } from '../tensors/grad-mode.js'
import { argumentError } from '../errors.js'
import { scope } from '../memory/memory.js'
import type { NativeLayers } from '../native/contract.js'
import { native } from '../native/loader.js'
import { boolean, integer, number, orNull, readOptions, type Kinds } from '../checks/options.js'
import { Tensor } from '../tensors/tensor.js'
import * as init from './init.js'
import { emptyParameter, inputHandle, placement, type Placement } from './layer.js'
import { Module } from './module.js'
import type { Parameter } from './parameter.js'

export interface EmbeddingOptions extends Placement {
  /** A row that is initially zero and is not trained; negative counts from the last. Default: null. */
  paddingIdx?: number | null
  /** Rows with a larger norm are shortened to it, in place, when they are looked up. Default: null. */
  maxNorm?: number | null
  /** The p of the norm. Default: 2. */
  normType?: number
  /** Divide gradients by how often the row occurs in the batch. Default: false. */
  scaleGradByFreq?: boolean
  /** Make the weight's gradient a sparse tensor. Default: false. */
  sparse?: boolean
}

const embeddingOptions: Kinds<EmbeddingOptions> = {
  paddingIdx: orNull(integer()),
  maxNorm: orNull({
    expected: 'a number of at least 0',
    fits: value => number.fits(value) && (value as number) >= 0,
  }),
  normType: number,
  scaleGradByFreq: boolean,
  sparse: boolean,
  ...placement,
}

/**
 * A table of vectors: indices of any shape (…), int64 or int32 → (…, embeddingDim). As `torch.nn.Embedding`.
 *
 * @throws AlambicError `ERR_INDEX` for an index out of range, `ERR_DTYPE` for indices of another dtype
 */
export class Embedding extends Module<[Tensor], Tensor> {
  /** (numEmbeddings, embeddingDim) */
  weight: Parameter
  readonly paddingIdx: number | null
  readonly maxNorm: number | null
  readonly normType: number
  readonly scaleGradByFreq: boolean
  readonly sparse: boolean

  readonly #layer: InstanceType<NativeLayers['Embedding']>

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options: EmbeddingOptions = {},
  ) {
    super()
    const {
      paddingIdx = null,
      maxNorm = null,
      normType = 2,
      scaleGradByFreq = false,
      sparse = false,
      device,
      dtype,
    } = readOptions(this.constructor.name, options, embeddingOptions)
    if (paddingIdx !== null && paddingIdx < -numEmbeddings)
      throw argumentError(
        `${this.constructor.name}: paddingIdx`,
        `an integer from ${-numEmbeddings} to ${numEmbeddings - 1}`,
        paddingIdx,
      )
    this.paddingIdx = paddingIdx !== null && paddingIdx < 0 ? paddingIdx + numEmbeddings : paddingIdx
    this.maxNorm = maxNorm
    this.normType = normType
    this.scaleGradByFreq = scaleGradByFreq
    this.sparse = sparse
    this.#layer = new native.Embedding({
      name: this.constructor.name,
      numEmbeddings,
      embeddingDim,
      paddingIdx: this.paddingIdx,
      maxNorm,
      normType,
      scaleGradByFreq,
      sparse,
    })
    this.weight = emptyParameter([numEmbeddings, embeddingDim], { device, dtype })
    this.resetParameters()
  }

  /** Standard normal rows, zeros at `paddingIdx`. */
  resetParameters(): void {
    init.normal_(this.weight)
    const { paddingIdx } = this
    if (paddingIdx !== null) noGrad(() => scope(() => void this.weight.at(paddingIdx).zero_()))
  }

  override forward(indices: Tensor): Tensor {
    return new Tensor(this.#layer.forward(inputHandle(this, indices), this.weight.handle))
  }

  protected override describe(): string {
    const parts = [`${this.numEmbeddings}, ${this.embeddingDim}`]
    if (this.paddingIdx !== null) parts.push(`paddingIdx=${this.paddingIdx}`)
    if (this.maxNorm !== null) parts.push(`maxNorm=${this.maxNorm}`)
    if (this.normType !== 2) parts.push(`normType=${this.normType}`)
    if (this.scaleGradByFreq) parts.push('scaleGradByFreq=true')
    if (this.sparse) parts.push('sparse=true')
    return parts.join(', ')
  }
}
