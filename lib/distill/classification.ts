import { functional } from '../nn/index.js'
import type { Tensor } from '../tensors/tensor.js'

/**
 * The cross-entropy of logits (N, classes), mean over samples: with soft labels (N, classes) where there are, else with
 * labels (N).
 */
export function classification(
  logits: Tensor,
  labels: Tensor,
  targets: Tensor | undefined,
  labelSmoothing = 0,
): Tensor {
  if (targets === undefined) return functional.crossEntropy(logits, labels, { labelSmoothing })
  // In the wider dtype: half precision would round the shares.
  const wide = logits.dtype === targets.dtype ? logits : logits.to(targets.dtype)
  return functional.crossEntropy(wide, targets, { labelSmoothing })
}
