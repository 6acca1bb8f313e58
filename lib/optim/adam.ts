import { native } from '../native/loader.js'
import { Optimizer, type OptimizerOptions, type Params } from './optimizer.js'
import { stateError } from './stateError.js'

export interface AdamOptions extends OptimizerOptions {
  /** Decay of the averages of gradient and squared gradient, each in [0, 1). Default: [0.9, 0.999]. */
  betas?: readonly [number, number]
  /** Added to the denominator, a finite number of at least 0. Default: 1e-8. */
  eps?: number
  /** A finite number of at least 0. Default: 0 for {@link Adam}, 1e-2 for {@link AdamW}. */
  weightDecay?: number
  /**
   * Divide by the largest average so far (Reddi et al. 2018, "On the Convergence of Adam and Beyond"). Default: false.
   */
  amsgrad?: boolean
}

const defaults = {
  lr: 1e-3,
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  amsgrad: false,
  maximize: false,
} as const

/**
 * Adam (Kingma & Ba 2015), as `torch.optim.Adam`: weight decay is a part of the gradient.
 *
 * @example new optim.Adam(student.parameters(), { lr: 1e-3 })
 * @throws AlambicError `ERR_ARGUMENT` for an empty list, options out of range and repeated parameters, `ERR_AUTOGRAD`
 *   for a parameter that is no leaf
 */
export class Adam extends Optimizer<AdamOptions> {
  constructor(params: Params<AdamOptions>, options: AdamOptions = {}) {
    super(new native.Adam(), params, defaults, options)
  }

  protected override keepsState(): boolean {
    return true
  }

  /** PyTorch saves which of the two it was; AdamW takes both there, as it does here. */
  protected override checkSavedGroup(group: Record<string, unknown>, where: string): void {
    if (group['decoupled_weight_decay'] === true)
      throw stateError(`${where}.decoupled_weight_decay: expected the state of an Adam, got that of an AdamW`)
  }
}

/**
 * Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019), as `torch.optim.AdamW`.
 *
 * @throws AlambicError as {@link Adam}
 */
export class AdamW extends Optimizer<AdamOptions> {
  constructor(params: Params<AdamOptions>, options: AdamOptions = {}) {
    super(new native.AdamW(), params, { ...defaults, weightDecay: 1e-2 }, options)
  }

  protected override keepsState(): boolean {
    return true
  }
}
