// Gradients.
#pragma once
#include <ATen/ATen.h>
#include <napi.h>

namespace alambic {

// Fills the gradients of what `loss`, one number, depends on. Throws ERR_AUTOGRAD.
void backward(const at::Tensor& loss);

void export_autograd(Napi::Env env, Napi::Object exports);

}  // namespace alambic
