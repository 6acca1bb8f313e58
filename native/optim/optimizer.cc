#include "optim/optimizer.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <map>

#include "errors.h"
#include "values.h"

namespace alambic::optim {

namespace {

at::Tensor as_real(const at::Tensor& tensor) {
  return tensor.is_complex() ? at::view_as_real(tensor) : tensor;
}

bool has_form_of(const at::Tensor& tensor, const at::Tensor& parameter) {
  return tensor.scalar_type() == parameter.scalar_type() && tensor.device() == parameter.device() &&
         (tensor.strides() == parameter.strides() || !parameter.is_non_overlapping_and_dense());
}

// The tensor in dtype, device and memory layout of the parameter. Fused kernels walk through the memory of
// all their tensors in step, and take it on trust that the layouts agree.
at::Tensor in_form_of(const at::Tensor& tensor, const at::Tensor& parameter) {
  if (has_form_of(tensor, parameter)) return tensor;
  return at::empty_like(parameter, at::MemoryFormat::Preserve).copy_(tensor);
}

void check_gradient(const at::Tensor& gradient, const at::Tensor& parameter, size_t index) {
  if (gradient.layout() != at::kStrided)
    fail("ERR_NOT_IMPLEMENTED", "step: the gradient of ", name_parameter(index, parameter), " is ",
         layout_name(gradient.layout()),
         "; optimizers take dense gradients only (for an embedding: leave `sparse` "
         "off)");
  if (gradient.sizes() != parameter.sizes())
    fail("ERR_SHAPE_MISMATCH", "step: expected a gradient of the parameter's shape for ",
         name_parameter(index, parameter), ", got ", describe(gradient));
}

}  // namespace

Tensors Batch::state(size_t entry) const {
  Tensors column;
  column.reserve(trainables.size());
  for (const auto* trainable : trainables) column.push_back(as_real(trainable->state[entry]));
  return column;
}

Implementation Preference::choose(const Batch& batch, bool has_fused) const {
  if (fused.value_or(false)) {
    if (has_fused) return Implementation::Fused;
    fail("ERR_NOT_IMPLEMENTED", "fused: libtorch " ALAMBIC_TORCH_VERSION " has no fused kernel for ",
         describe(batch.parameters.front()), "; leave the option out");
  }
  if (foreach.value_or(false)) return Implementation::Foreach;
  if (has_fused && fused.value_or(true)) return Implementation::Fused;
  return batch.is_dense && foreach.value_or(true) ? Implementation::Foreach : Implementation::Loop;
}

optional<c10::OperatorHandle> find_fused(const c10::OperatorName& name, const at::Tensor& parameter) {
  auto dtype = as_real(parameter).scalar_type();
  bool is_fusible =
      parameter.is_non_overlapping_and_dense() && at::isFloatingType(dtype) && c10::elementSize(dtype) > 1;
  auto handle = c10::Dispatcher::singleton().findSchema(name);
  auto backend = c10::highestPriorityBackendTypeId(parameter.key_set());
  if (!is_fusible || !handle || !handle->hasKernelForDispatchKey(backend)) return nullopt;
  return *handle;
}

std::string name_parameter(size_t index, const at::Tensor& parameter) {
  return c10::str("parameter ", index, " (", describe(parameter), ")");
}

void Optimizer::add_group(const Tensors& parameters) {
  auto known = known_;
  std::vector<Trainable> group;
  for (size_t i = 0; i < parameters.size(); i++) {
    const auto& parameter = parameters[i];
    if (!parameter.is_leaf() && !parameter.retains_grad())
      fail(
          "ERR_AUTOGRAD", "params: ", name_parameter(i, parameter),
          " is the result of an operation; only leaf tensors can be optimized (make it with requiresGrad, or "
          "detach() it)");
    if (!known.insert(parameter.unsafeGetTensorImpl()).second)
      fail("ERR_ARGUMENT", "params: ", name_parameter(i, parameter),
           " appears twice; a parameter belongs to one group, once");
    group.push_back({parameter, Tensors(entries_.size())});
  }
  groups_.push_back(std::move(group));
  known_ = std::move(known);
}

at::Device Optimizer::device(size_t group) const {
  const auto& trainables = groups_.at(group);
  return trainables.empty() ? at::Device(at::kCPU) : trainables.front().parameter.device();
}

void Optimizer::zero_grad(bool set_to_none) {
  at::NoGradGuard no_grad;
  Tensors gradients;
  for (auto& group : groups_)
    for (auto& trainable : group) {
      auto& gradient = trainable.parameter.mutable_grad();
      if (!gradient.defined()) continue;
      if (set_to_none) {
        gradient.reset();
      } else {
        if (gradient.grad_fn()) gradient.detach_();
        gradients.push_back(gradient);
      }
    }
  if (!gradients.empty()) at::_foreach_zero_(gradients);
}

std::vector<const Trainable*> Optimizer::trainables() const {
  std::vector<const Trainable*> all;
  for (const auto& group : groups_)
    for (const auto& trainable : group) all.push_back(&trainable);
  return all;
}

void Optimizer::load_state(const std::vector<Tensors>& states) {
  std::vector<Trainable*> all;
  for (auto& group : groups_)
    for (auto& trainable : group) all.push_back(&trainable);
  TORCH_INTERNAL_ASSERT(states.size() == all.size());

  for (size_t i = 0; i < all.size(); i++)
    for (size_t entry = 0; entry < entries_.size(); entry++) {
      const auto& value = states[i][entry];
      if (!value.defined()) continue;
      bool fits = entries_[entry].is_count ? value.numel() == 1 : value.sizes() == all[i]->parameter.sizes();
      if (!fits)
        fail("ERR_STATE_DICT", "loadStateDict: ", entries_[entry].name, " of ",
             name_parameter(i, all[i]->parameter), ": expected ",
             entries_[entry].is_count ? "one number" : "the parameter's shape", ", got ", describe(value));
    }

  at::NoGradGuard no_grad;
  for (size_t i = 0; i < all.size(); i++)
    for (size_t entry = 0; entry < entries_.size(); entry++) {
      const auto& value = states[i][entry];
      auto& own = all[i]->state[entry];
      if (!value.defined())
        own.reset();
      else if (entries_[entry].is_count)
        own = value.detach().to(at::kCPU, at::kFloat, false, true).reshape({});
      else
        own = at::empty_like(all[i]->parameter, at::MemoryFormat::Preserve).copy_(value);
    }
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  for (const auto& group : groups_)
    for (const auto& trainable : group)
      for (const auto& each : trainable.state)
        if (each.defined()) bytes += static_cast<int64_t>(each.nbytes());
  return bytes;
}

std::string Optimizer::device_obstacle(size_t group, const Preference& preference,
                                       const c10::OperatorName& fused) const {
  const auto& trainables = groups_.at(group);
  if (trainables.empty()) return "";
  if (!preference.fused.value_or(true)) return "the optimizer's option fused is false";
  if (preference.foreach.value_or(false) && !preference.fused.value_or(false))
    return "the optimizer's option foreach is true";
  for (size_t i = 0; i < trainables.size(); i++)
    if (!find_fused(fused, trainables[i].parameter))
      return c10::str("libtorch " ALAMBIC_TORCH_VERSION
                      " has no fused kernel with a learning rate on the device for ",
                      name_parameter(i, trainables[i].parameter));
  return "";
}

void Optimizer::update_group(size_t group, const std::function<void(Batch&)>& update) {
  at::NoGradGuard no_grad;
  auto all = batches(group);
  for (auto& batch : all) {
    {
      at::AutoDispatchBelowADInplaceOrView below_autograd;
      update(batch);
    }
    for (auto* trainable : batch.trainables) trainable->parameter.unsafeGetTensorImpl()->bump_version();
  }
}

std::vector<Batch> Optimizer::batches(size_t group) {
  using Key = std::tuple<c10::DeviceType, c10::DeviceIndex, at::ScalarType, bool>;
  std::vector<Batch> batches;
  std::map<Key, size_t> index_of;
  auto& trainables = groups_.at(group);
  for (size_t i = 0; i < trainables.size(); i++) {
    auto& trainable = trainables[i];
    const auto& parameter = trainable.parameter;
    const auto& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    check_gradient(gradient, parameter, i);
    // Module.to() may have moved the parameter since the last step.
    for (size_t entry = 0; entry < entries_.size(); entry++)
      if (trainable.state[entry].defined() && !entries_[entry].is_count)
        trainable.state[entry] = in_form_of(trainable.state[entry], parameter);

    bool is_dense = parameter.is_non_overlapping_and_dense();
    Key key{parameter.device().type(), parameter.device().index(), parameter.scalar_type(), is_dense};
    auto [found, is_new] = index_of.try_emplace(key, batches.size());
    if (is_new) batches.push_back({{}, {}, {}, is_dense});
    auto& batch = batches[found->second];
    batch.trainables.push_back(&trainable);
    batch.parameters.push_back(as_real(parameter));
    batch.gradients.push_back(as_real(in_form_of(gradient, parameter)));
  }
  return batches;
}

void check_option(const char* name, double value, bool is_valid, const char* expected) {
  if (!is_valid) fail("ERR_ARGUMENT", name, ": expected ", expected, ", got ", value);
}

void check_not_negative(const char* name, double value) {
  check_option(name, value, value >= 0, "a number that is not negative");
}

}  // namespace alambic::optim
