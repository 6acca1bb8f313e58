/** Optimizers by the names that recipes use. */
import { boolean, described, notNegative, type Kind } from '../checks/options.js'
import { Registry, registerOptions, type OptionKinds, type RegisterOptions } from '../checks/registry.js'
import { argumentError, show } from '../errors.js'
import type { Tensor } from '../tensors/tensor.js'
import { Adam, AdamW } from './adam.js'
import { Optimizer } from './optimizer.js'
import { SGD } from './sgd.js'

/** Makes an optimizer for parameters. */
export type OptimizerFactory = (parameters: Tensor[], options: Record<string, unknown>) => Optimizer

/** @internal */
export const registry = new Registry<OptimizerFactory>('optim', 'optimizer', registerOptions)

/**
 * Makes an optimizer known under a name, for {@link create} and for recipes.
 *
 * @throws AlambicError `ERR_ARGUMENT` for a name that is taken
 * @example optim.register('sgdFast', (parameters, { lr }) => new optim.SGD(parameters, { lr, momentum: 0.99 }))
 */
export function register(name: string, factory: OptimizerFactory, options?: RegisterOptions): void {
  registry.register(name, factory, options)
}

/** The names of all optimizers, in alphabetical order. */
export function names(): string[] {
  return registry.names()
}

/**
 * Makes an optimizer by its name in recipes.
 *
 * @param options those of the optimizer's class
 * @throws AlambicError `ERR_ARGUMENT` for an unknown name, with the nearest; the errors of the class
 * @example const optimizer = optim.create('sgd', student.parameters(), { lr: 0.05, momentum: 0.9 })
 */
export function create(name: string, parameters: Tensor[], options: Record<string, unknown> = {}): Optimizer {
  const optimizer: unknown = registry.get(name).make(parameters, registry.read(name, options))
  if (optimizer instanceof Optimizer) return optimizer as Optimizer
  throw argumentError(
    `optim.create: what was registered as ${show(name)}`,
    'a function that returns an optimizer',
    optimizer,
  )
}

const common: OptionKinds = {
  lr: described(notNegative, 'Learning rate.', { default: 1e-3 }),
  maximize: described(boolean, 'Maximizes the objective instead of minimizing it.', { default: false }),
  fused: described(
    boolean,
    "true: libtorch's fused kernel or an error; false: never. Default: where there is one.",
  ),
  foreach: described(
    boolean,
    "true: libtorch's multi-tensor operators; false: never. Default: where not fused.",
  ),
}

const decay = (value: number): Kind =>
  described(notNegative, 'Factor of the weights that is taken off them.', { default: value })

const sgd: OptionKinds = {
  ...common,
  momentum: described(notNegative, 'Of the average of the gradients.', { default: 0 }),
  dampening: described(notNegative, 'The gradient enters the momentum times 1 − dampening.', { default: 0 }),
  weightDecay: decay(0),
  nesterov: described(boolean, "Nesterov's momentum; needs momentum and no dampening.", { default: false }),
}

const betas: Kind = {
  expected: 'two numbers from 0 to below 1',
  fits: value =>
    Array.isArray(value) &&
    value.length === 2 &&
    value.every(each => typeof each === 'number' && each >= 0 && each < 1),
  schema: {
    type: 'array',
    items: { type: 'number', minimum: 0, exclusiveMaximum: 1 },
    minItems: 2,
    maxItems: 2,
  },
}

const adam = (weightDecay: number): OptionKinds => ({
  ...common,
  betas: described(betas, 'Decay of the averages of gradient and squared gradient.', {
    default: [0.9, 0.999],
  }),
  eps: described(notNegative, 'Added to the denominator.', { default: 1e-8 }),
  weightDecay: decay(weightDecay),
  amsgrad: described(boolean, 'Divide by the largest average so far.', { default: false }),
})

registry.add('sgd', {
  make: (parameters, options) => new SGD(parameters, options),
  options: sgd,
  description: 'Stochastic gradient descent, with momentum where it is given.',
})
registry.add('adam', {
  make: (parameters, options) => new Adam(parameters, options),
  options: adam(0),
  description: 'Adam; weight decay is a part of the gradient.',
})
registry.add('adamw', {
  make: (parameters, options) => new AdamW(parameters, options),
  options: adam(1e-2),
  description: 'Adam with weight decay apart from the gradient.',
})
