// Limits for gradients, as torch.nn.utils.clip_grad_norm_ and clip_grad_value_.
#pragma once
#include "optim/optimizer.h"

namespace alambic::optim {

// The norm of all gradients as one vector, before they were scaled down to at most `most`; 0 where there are
// none. Waits for the device only with `error_if_nonfinite`.
at::Tensor clip_gradient_norm(const Tensors& parameters, double most, double norm_type,
                              bool error_if_nonfinite);

void clip_gradient_values(const Tensors& parameters, double most);

}  // namespace alambic::optim
