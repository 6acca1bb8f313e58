// Gradients.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

namespace alambic {

// Fills the gradients of what `loss`, one number, depends on. Throws ERR_AUTOGRAD.
void backward(const at::Tensor& loss);

// Autograd has a tensor without memory for a gradient that it knows to be zero. The same zeros in memory, for
// whoever reads elements or writes to them; other tensors as they are.
at::Tensor with_memory(at::Tensor tensor);

void export_autograd(Napi::Env env, Napi::Object exports);

}  // namespace alambic
