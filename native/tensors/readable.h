// Tensors whose memory does not show what they are.
#pragma once
#include <ATen/ATen.h>

namespace alambic {

// `tensor` with its values in memory, as `data_ptr()` needs it: what is negative or conjugate only by a bit,
// or zero without any memory, is computed. Differentiable; most tensors come back as they are.
inline at::Tensor readable(const at::Tensor& tensor) {
  if (tensor._is_zerotensor()) return tensor.clone();
  if (tensor.is_neg() || tensor.is_conj()) return tensor.resolve_conj().resolve_neg();
  return tensor;
}

}  // namespace alambic
