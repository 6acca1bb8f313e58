// How a loss gets a fused forward and backward and stays differentiable twice.
#pragma once
#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "cuda/find_library.h"
#include "trace/recorder.h"

namespace alambic {

// Do our kernels take these tensors, on the CPU or in the CUDA library? Otherwise the loss is computed by its
// formula, on any device and dtype.
inline bool has_kernels(const at::Tensor& tensor) {
  if (trace::needs_operators() || tensor.layout() != at::kStrided || tensor.numel() == 0) return false;
  if (!tensor.is_cpu() && !(tensor.is_cuda() && cuda::loss_kernels() != nullptr)) return false;
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kBFloat16:
    case at::kHalf:
      return true;
    default:
      return false;
  }
}

// Losses of half precision features are float32: eight bits of mantissa are too few for a mean over a
// feature.
inline at::ScalarType loss_dtype(const at::Tensor& feature) {
  return at::toOpMathType(feature.scalar_type());
}

// Calls `function` with a value of the C++ type of a dtype that has kernels.
template <typename Function>
void dispatch_kernel_dtype(at::ScalarType dtype, Function function) {
  switch (dtype) {
    case at::kFloat:
      return function(float{});
    case at::kDouble:
      return function(double{});
    case at::kBFloat16:
      return function(at::BFloat16{});
    default:
      return function(at::Half{});
  }
}

// An autograd node for `Loss`, which provides
//   static Tensor formula(inputs)                          the definition, in differentiable operators
//   static Tensor forward(inputs, Tensor& kept)            the same value by kernels; `kept` is what backward
//   needs static vector<Tensor> backward(inputs, kept, output_gradient, needed)
// Under `createGraph` the gradient has to be differentiable itself: it is then taken from the formula.
template <typename Loss>
class Fused : public torch::autograd::Function<Fused<Loss>> {
 public:
  using List = torch::autograd::variable_list;

  static at::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList inputs) {
    at::Tensor kept;
    auto list = inputs.vec();
    auto result = Loss::forward(list, kept);
    list.push_back(kept);
    context->save_for_backward(std::move(list));
    return result;
  }

  static List backward(torch::autograd::AutogradContext* context, List output_gradients) {
    auto inputs = context->get_saved_variables();
    auto kept = inputs.back();
    inputs.pop_back();
    std::vector<bool> needed;
    for (size_t i = 0; i < inputs.size(); i++) needed.push_back(context->needs_input_grad(i));
    if (!at::GradMode::is_enabled()) return Loss::backward(inputs, kept, output_gradients[0], needed);
    return formula_gradients(inputs, needed, output_gradients[0]);
  }

  static at::Tensor run(const List& inputs) { return Fused::apply(at::TensorList(inputs)); }

 private:
  // With respect to aliases of the inputs: an input may depend on another one, and what comes through that is
  // not for this node to count.
  static List formula_gradients(const List& inputs, const std::vector<bool>& needed,
                                const at::Tensor& output_gradient) {
    List aliases, differentiated;
    for (const auto& input : inputs) aliases.push_back(at::alias(input));
    for (size_t i = 0; i < inputs.size(); i++)
      if (needed[i]) differentiated.push_back(aliases[i]);
    auto found = torch::autograd::grad({Loss::formula(aliases)}, differentiated, {output_gradient},
                                       /*retain_graph=*/true, /*create_graph=*/true);
    List gradients(inputs.size());
    for (size_t i = 0, next = 0; i < inputs.size(); i++)
      if (needed[i]) gradients[i] = found[next++];
    return gradients;
  }
};

}  // namespace alambic
