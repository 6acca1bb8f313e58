#include "optim/clip.h"

#include <cmath>
#include <map>

#include "errors.h"
#include "tensors/values.h"

namespace alambic::optim {

namespace {

// The gradients there are, in lists of one device and dtype.
std::vector<Tensors> gradients_by_kind(const Tensors& parameters) {
  std::vector<Tensors> lists;
  std::map<std::tuple<c10::DeviceType, c10::DeviceIndex, at::ScalarType>, size_t> index_of;
  for (size_t i = 0; i < parameters.size(); i++) {
    const auto& gradient = parameters[i].grad();
    if (!gradient.defined()) continue;
    if (gradient.layout() != at::kStrided)
      fail("ERR_NOT_IMPLEMENTED", "params: the gradient of ", name_parameter(i, parameters[i]), " is ",
           layout_name(gradient.layout()), "; only dense gradients can be clipped");
    auto device = gradient.device();
    auto [found, is_new] =
        index_of.try_emplace({device.type(), device.index(), gradient.scalar_type()}, lists.size());
    if (is_new) lists.emplace_back();
    lists[found->second].push_back(gradient);
  }
  return lists;
}

at::Tensor total_norm(const std::vector<Tensors>& lists, double norm_type) {
  Tensors norms;
  auto device = lists.front().front().device();
  for (const auto& list : lists)
    for (const auto& norm : at::_foreach_norm(list, norm_type)) norms.push_back(norm.to(device));
  return at::linalg_vector_norm(at::stack(norms), norm_type);
}

void multiply(const Tensors& tensors, const at::Tensor& factor) {
#if ALAMBIC_TORCH_AT_LEAST(2, 1)
  at::_foreach_mul_(tensors, factor);
#else
  for (const auto& tensor : tensors) tensor.mul_(factor);
#endif
}

void clamp(const Tensors& tensors, double most) {
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
  at::_foreach_clamp_min_(tensors, -most);
  at::_foreach_clamp_max_(tensors, most);
#else
  for (const auto& tensor : tensors) tensor.clamp_(-most, most);
#endif
}

}  // namespace

at::Tensor clip_gradient_norm(const Tensors& parameters, double most, double norm_type,
                              bool error_if_nonfinite) {
  at::NoGradGuard no_grad;
  auto lists = gradients_by_kind(parameters);
  if (lists.empty())
    return at::zeros({}, parameters.empty() ? at::Device(at::kCPU) : parameters.front().device());
  auto norm = total_norm(lists, norm_type);
  if (error_if_nonfinite && !norm.isfinite().item<bool>())
    fail("ERR_NAN_LOSS", "clipGradNorm_: the norm of the gradients is ", norm.item<double>(),
         "; they cannot be scaled to a finite one");
  if (std::isinf(most)) return norm;
  // Clamped rather than compared: a comparison would have to wait for the device.
  auto factor = (most / (norm + 1e-6)).clamp_max(1);
  for (const auto& list : lists) multiply(list, factor.to(list.front().device()));
  return norm;
}

void clip_gradient_values(const Tensors& parameters, double most) {
  at::NoGradGuard no_grad;
  for (const auto& list : gradients_by_kind(parameters)) clamp(list, most);
}

}  // namespace alambic::optim
