// The distillation losses on a GPU.
#pragma once
#include "cuda/library.h"

namespace alambic::cuda {

const LossKernels* make_loss_kernels();

}  // namespace alambic::cuda
