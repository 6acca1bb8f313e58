import { native } from '../native/loader.js'
import { Optimizer, type OptimizerOptions, type ParamGroup, type Params } from './optimizer.js'

export interface SGDOptions extends OptimizerOptions {
  /** A finite number of at least 0. Default: 0. */
  momentum?: number
  /** The gradient enters the momentum times 1 − `dampening`. Default: 0. */
  dampening?: number
  /** Factor of the L2 penalty, a finite number of at least 0. Default: 0. */
  weightDecay?: number
  /** Nesterov's momentum; needs `momentum` and no `dampening`. Default: false. */
  nesterov?: boolean
}

const defaults = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  maximize: false,
}

/**
 * Stochastic gradient descent, optionally with (Nesterov) momentum, as `torch.optim.SGD`.
 *
 * @example new optim.SGD(student.parameters(), { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 })
 * @throws AlambicError `ERR_ARGUMENT` for an empty list, options out of range and repeated parameters, `ERR_AUTOGRAD`
 *   for a parameter that is no leaf
 */
export class SGD extends Optimizer<SGDOptions> {
  constructor(params: Params<SGDOptions>, options: SGDOptions = {}) {
    super(new native.Sgd(), params, defaults, options)
  }

  /** Older versions of PyTorch save a buffer of None where there is no momentum. */
  protected override keepsState({ momentum }: ParamGroup<SGDOptions>, saved: object): boolean {
    return momentum !== 0 && !('momentum_buffer' in saved)
  }
}
