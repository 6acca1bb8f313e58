// Batch normalisation with the sum and the activation that follow it, in as few passes over memory as there
// can be.
#pragma once
#include <ATen/ATen.h>

#include "compat.h"

namespace alambic {

enum class Activation : int64_t { None = 0, Relu = 1, Relu6 = 2 };

struct BatchNormalization {
  at::Tensor x;
  optional<at::Tensor> weight, bias, running_mean, running_var;
  // By the statistics of the batch, which then move the running ones by `momentum`; else by the running ones.
  bool by_batch;
  double momentum, eps;
  // Added to what is normalised.
  optional<at::Tensor> added;
  Activation activation;
};

// activation(batch_norm(x) + added)
at::Tensor batch_norm(const BatchNormalization& norm);

// activation(x + added), written into x.
at::Tensor activate_(at::Tensor x, const optional<at::Tensor>& added, Activation activation);

}  // namespace alambic
