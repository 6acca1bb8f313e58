// The kernels of kernels.cu for tensors.
#include "cuda/losses.h"

#include <ATen/OpMathType.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "cuda/kernels.h"

namespace alambic::cuda {

namespace {

using at::Tensor;

kernels::Type type_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return kernels::Type::Float;
    case at::kDouble:
      return kernels::Type::Double;
    case at::kHalf:
      return kernels::Type::Half;
    case at::kBFloat16:
      return kernels::Type::BFloat16;
    default:
      TORCH_CHECK(false, "the CUDA losses have no kernel for ", tensor.scalar_type());
  }
}

kernels::Pair to_pair(const Tensor& a, const Tensor& b) {
  return {type_of(a), a.const_data_ptr(), b.const_data_ptr(), a.size(0), a.numel() / a.size(0)};
}

kernels::Feature to_feature(const Tensor& x) {
  auto samples = x.size(0), channels = x.size(1);
  return {type_of(x),        x.const_data_ptr(), samples, channels, x.numel() / (samples * channels),
          !x.is_contiguous()};
}

// Of the type that losses have, contiguous.
Tensor empty_wide(const Tensor& feature, at::IntArrayRef sizes) {
  auto options = feature.options().memory_format(at::MemoryFormat::Contiguous);
  return at::empty(sizes, options.dtype(at::toOpMathType(feature.scalar_type())));
}

// Freed when the function returns, which is before the kernels are done: its memory then goes to others of
// the same stream, after them.
Tensor empty_doubles(const Tensor& feature, int64_t count) {
  return at::empty({count}, at::TensorOptions(feature.device()).dtype(at::kDouble));
}

// A gradient of a loss as kernels read it.
Tensor as_wide(const Tensor& gradient, const Tensor& feature) {
  return gradient.to(at::toOpMathType(feature.scalar_type())).contiguous();
}

void* data_or_null(const Tensor& tensor) { return tensor.defined() ? tensor.mutable_data_ptr() : nullptr; }

// On the GPU of the tensor and the stream that its operators run on.
template <typename Body>
void launch_for(const Tensor& tensor, Body body) {
  c10::cuda::CUDAGuard on_device(tensor.device());
  body(c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor mse(const Tensor& student, const Tensor& teacher) {
  auto pair = to_pair(student, teacher);
  auto loss = empty_wide(student, {}), scratch = empty_doubles(student, kernels::mse_scratch(pair));
  launch_for(student, [&](cudaStream_t stream) {
    kernels::mse(pair, scratch.mutable_data_ptr<double>(), loss.mutable_data_ptr(), stream);
  });
  return loss;
}

void mse_backward(const Tensor& student, const Tensor& teacher, const Tensor& output_gradient,
                  const Tensor& student_gradient, const Tensor& teacher_gradient) {
  auto gradient = as_wide(output_gradient, student);
  launch_for(student, [&](cudaStream_t stream) {
    kernels::mse_gradients(to_pair(student, teacher), gradient.const_data_ptr(),
                           data_or_null(student_gradient), data_or_null(teacher_gradient), stream);
  });
}

// `kept`: per sample the products s·s, t·t, s·t.
Tensor cosine(const Tensor& student, const Tensor& teacher, Tensor& kept) {
  auto pair = to_pair(student, teacher);
  kept = empty_wide(student, {pair.samples, 3});
  auto loss = empty_wide(student, {}), scratch = empty_doubles(student, kernels::cosine_scratch(pair));
  launch_for(student, [&](cudaStream_t stream) {
    kernels::cosine(pair, scratch.mutable_data_ptr<double>(), kept.mutable_data_ptr(),
                    loss.mutable_data_ptr(), stream);
  });
  return loss;
}

void cosine_backward(const Tensor& student, const Tensor& teacher, const Tensor& kept,
                     const Tensor& output_gradient, const Tensor& student_gradient,
                     const Tensor& teacher_gradient) {
  auto gradient = as_wide(output_gradient, student);
  launch_for(student, [&](cudaStream_t stream) {
    kernels::cosine_gradients(to_pair(student, teacher), kept.const_data_ptr(), gradient.const_data_ptr(),
                              data_or_null(student_gradient), data_or_null(teacher_gradient), stream);
  });
}

// `kept`: (N, positions + 1): the normalised map, and the squared norm before normalisation.
Tensor attention_map(const Tensor& features, Tensor& kept) {
  auto feature = to_feature(features);
  auto shape = features.sizes().vec();
  shape[1] = 1;
  auto map = empty_wide(features, shape);
  kept = empty_wide(features, {feature.samples, feature.positions + 1});
  auto scratch = empty_wide(features, {kernels::attention_scratch(feature)});
  launch_for(features, [&](cudaStream_t stream) {
    kernels::attention(feature, scratch.mutable_data_ptr(), map.mutable_data_ptr(), kept.mutable_data_ptr(),
                       stream);
  });
  return map;
}

void attention_map_backward(const Tensor& features, const Tensor& kept, const Tensor& output_gradient,
                            const Tensor& gradient) {
  auto feature = to_feature(features);
  auto map_gradient = as_wide(output_gradient, features);
  auto scratch = empty_wide(features, {kernels::attention_gradient_scratch(feature)});
  launch_for(features, [&](cudaStream_t stream) {
    kernels::attention_gradient(feature, kept.const_data_ptr(), map_gradient.const_data_ptr(),
                                scratch.mutable_data_ptr(), gradient.mutable_data_ptr(), stream);
  });
}

}  // namespace

const LossKernels* make_loss_kernels() {
  static const LossKernels table{mse,          cosine,          attention_map,
                                 mse_backward, cosine_backward, attention_map_backward};
  return &table;
}

}  // namespace alambic::cuda
