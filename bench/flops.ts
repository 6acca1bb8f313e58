import { attachFeatures, nn, noGrad, scope, zeros, type Tensor } from '../lib/index.js'

/** Floating point operations of a forward, two per multiplication, in convolutions and linear layers. */
export function countFlops(model: nn.Module<[Tensor], unknown>, shape: readonly number[]): number {
  const layers = model
    .namedModules()
    .filter(([, module]) => module instanceof nn.Conv2d || module instanceof nn.Linear)
    .map(([path, module]) => [path, module as nn.Conv2d | nn.Linear] as const)
  const probe = attachFeatures(
    model,
    layers.map(([path]) => path),
  )
  const { training } = model
  try {
    model.eval()
    return scope(() => {
      const { features } = noGrad(() => probe.forward(zeros(shape)))
      return layers.reduce(
        (sum, [path, { weight }]) => sum + 2 * features[path]!.numel() * (weight.numel() / weight.size(0)),
        0,
      )
    })
  } finally {
    model.train(training)
    probe.detach()
  }
}
