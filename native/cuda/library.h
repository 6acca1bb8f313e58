// The CUDA library as the addon sees it: what takes CUDA's headers is compiled apart, so that one addon
// serves machines with and without. It is opened when there is a first tensor on a GPU.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>

#include "step/step.h"

namespace alambic::cuda {

// The distillation losses on a GPU, see losses/feature_losses.cc. Features are dense, of one dtype (float32,
// float64, bfloat16, float16), one layout and one GPU; losses, `kept` and gradients of losses are of the
// wider dtype.
struct LossKernels {
  at::Tensor (*mse)(const at::Tensor& student, const at::Tensor& teacher);
  at::Tensor (*cosine)(const at::Tensor& student, const at::Tensor& teacher, at::Tensor& kept);
  at::Tensor (*attention_map)(const at::Tensor& features, at::Tensor& kept);
  // Undefined gradients are not needed.
  void (*mse_backward)(const at::Tensor& student, const at::Tensor& teacher,
                       const at::Tensor& output_gradient, const at::Tensor& student_gradient,
                       const at::Tensor& teacher_gradient);
  void (*cosine_backward)(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& kept,
                          const at::Tensor& output_gradient, const at::Tensor& student_gradient,
                          const at::Tensor& teacher_gradient);
  void (*attention_map_backward)(const at::Tensor& features, const at::Tensor& kept,
                                 const at::Tensor& output_gradient, const at::Tensor& gradient);
};

// Bytes on one GPU: now, and at most so far.
struct DeviceMemory {
  struct Count {
    int64_t current;
    int64_t peak;
  };
  Count allocated;  // in tensors and in graphs
  Count reserved;   // taken from the GPU: these, and what is kept to be used again
};

// Of everything above and in step/step.h that both sides must agree on.
constexpr int64_t interface_version = 3;

// What the library's one entry returns.
struct Library {
  int64_t interface_version;
  // Captures steps on this GPU as CUDA graphs. The caller owns it.
  step::StepRunner* (*make_graph_runner)(int64_t device_index);
  DeviceMemory (*memory)(int64_t device_index);
  const LossKernels* losses;  // null where it was built without nvcc
};

using Entry = const Library*();
constexpr auto entry_name = "alambic_cuda_library";

}  // namespace alambic::cuda
