#include "optim/optimizer.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "errors.h"
#include "tensors/values.h"

namespace alambic::optim {

namespace {

// Strides along dimensions of one element say nothing about memory.
bool has_layout_of(const at::Tensor& tensor, const at::Tensor& parameter) {
  for (int64_t dim = 0; dim < parameter.dim(); dim++)
    if (parameter.size(dim) > 1 && tensor.stride(dim) != parameter.stride(dim)) return false;
  return true;
}

// The tensor in dtype, device and memory layout of the parameter, whose shape it has. Fused kernels walk
// through the memory of all their tensors in step, and take it on trust that the layouts agree.
at::Tensor in_form_of(const at::Tensor& tensor, const at::Tensor& parameter) {
  if (tensor.scalar_type() == parameter.scalar_type() && tensor.device() == parameter.device()) {
    if (tensor.strides() == parameter.strides() || !parameter.is_non_overlapping_and_dense()) return tensor;
    if (has_layout_of(tensor, parameter)) return tensor.as_strided(parameter.sizes(), parameter.strides());
  }
  return at::empty_like(parameter, at::MemoryFormat::Preserve).copy_(tensor);
}

// A gradient in the form of its parameter, as kernels read it: its own numbers in memory of its own.
at::Tensor plain_gradient(const at::Tensor& gradient, const at::Tensor& parameter) {
  if (gradient._is_zerotensor()) return at::zeros_like(parameter, {}, at::MemoryFormat::Preserve);
  auto resolved = gradient.resolve_conj().resolve_neg();
  if (resolved.is_alias_of(parameter)) resolved = resolved.clone();
  return in_form_of(resolved, parameter);
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
  if (gradient.is_complex() && !parameter.is_complex())
    fail("ERR_DTYPE", "step: expected a gradient of real numbers for ", name_parameter(index, parameter),
         ", got ", describe(gradient));
}

// After the parameter was given another shape in place (`set_`, `resize_`, a module's conversion).
void check_state(const at::Tensor& state, const StateEntry& entry, const at::Tensor& parameter,
                 size_t index) {
  bool fits = entry.is_count ? state.numel() == 1 && state.scalar_type() == at::kFloat
                             : state.sizes() == parameter.sizes();
  if (!fits)
    fail("ERR_SHAPE_MISMATCH", "step: ", entry.name, " of ", name_parameter(index, parameter), " is ",
         describe(state), ", expected ",
         entry.is_count ? "one float32 number" : "the parameter's shape: it was given another one since",
         "; make a new optimizer, or load a state that fits");
}

// What was loaded, in the form that steps work with.
at::Tensor copy_state(const at::Tensor& value, const StateEntry& entry, const at::Tensor& parameter,
                      size_t index) {
  auto refuse = [&](const char* expected) {
    fail("ERR_STATE_DICT", "loadStateDict: ", entry.name, " of ", name_parameter(index, parameter),
         ": expected ", expected, ", got ", describe(value));
  };
  if (value.layout() != at::kStrided) refuse("a dense tensor");
  if (value.is_meta() != parameter.is_meta() && !entry.is_count)
    refuse("a tensor with data where its parameter has");
  if (!entry.is_count) {
    if (value.sizes() != parameter.sizes()) refuse("the parameter's shape");
    if (value.is_complex() && !parameter.is_complex()) refuse("real numbers");
    return at::empty_like(parameter, at::MemoryFormat::Preserve).copy_(value.detach());
  }
  if (value.numel() != 1 || value.is_meta() || value.is_complex()) refuse("one number");
  auto count = value.detach().to(at::kCPU, at::kFloat, false, true).reshape({});
  double number = *count.data_ptr<float>();
  if (!std::isfinite(number) || number < 0 || number != std::floor(number))
    fail("ERR_STATE_DICT", "loadStateDict: ", entry.name, " of ", name_parameter(index, parameter),
         ": expected a count of steps, got ", number);
  return count;
}

// In-place operators would refuse it as well, after the state has changed.
void check_writable(const at::Tensor& parameter, size_t index) {
  for (int64_t dim = 0; dim < parameter.dim(); dim++)
    if (parameter.stride(dim) == 0 && parameter.size(dim) > 1)
      fail("ERR_ARGUMENT", "step: several elements of ", name_parameter(index, parameter),
           " are one place in memory (it was expanded); clone() it before it is trained");
  if (parameter.is_conj())
    fail("ERR_NOT_IMPLEMENTED", "step: ", name_parameter(index, parameter),
         " is the conjugate of another tensor's memory; train a clone() of it");
}

// Which parameters share memory with another one. Of two tensors whose elements alternate, as the even and
// the odd columns of a matrix, both count.
std::vector<bool> find_overlapping(const std::vector<Trainable>& trainables) {
  struct Range {
    uintptr_t begin, end;
    size_t index;
  };
  std::vector<Range> ranges;
  for (size_t i = 0; i < trainables.size(); i++) {
    const auto& parameter = trainables[i].parameter;
    if (parameter.numel() == 0 || parameter.is_meta()) continue;
    uintptr_t elements = 1;
    for (int64_t dim = 0; dim < parameter.dim(); dim++)
      elements += static_cast<uintptr_t>((parameter.size(dim) - 1) * parameter.stride(dim));
    auto begin = reinterpret_cast<uintptr_t>(parameter.unsafeGetTensorImpl()->data());
    ranges.push_back({begin, begin + elements * parameter.element_size(), i});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<bool> overlapping(trainables.size());
  for (size_t i = 1, last = 0; i < ranges.size(); i++) {  // `last`: what reaches farthest so far
    if (ranges[i].begin < ranges[last].end)
      overlapping[ranges[i].index] = overlapping[ranges[last].index] = true;
    if (ranges[i].end > ranges[last].end) last = i;
  }
  return overlapping;
}

// Whether kernels may walk through its memory as it lies there.
bool is_plain(const at::Tensor& parameter) {
  return parameter.is_non_overlapping_and_dense() && !parameter.is_neg() && !parameter.is_meta();
}

}  // namespace

at::Tensor as_real(const at::Tensor& tensor) {
  return tensor.is_complex() ? at::view_as_real(tensor) : tensor;
}

Tensors Batch::state(size_t entry) const {
  Tensors column;
  column.reserve(trainables.size());
  for (const auto* trainable : trainables) column.push_back(as_real(trainable->state[entry]));
  return column;
}

void Preference::check() const {
  if (fused.value_or(false) && foreach.value_or(false))
    fail("ERR_ARGUMENT", "fused, foreach: expected at most one of them to be true, got both");
}

Implementation Preference::choose(const Batch& batch, bool has_fused,
                                  const std::function<bool(Implementation)>& is_right) const {
  auto refuse = [&](const char* option, const char* why) {
    fail("ERR_NOT_IMPLEMENTED", option, ": libtorch " ALAMBIC_TORCH_VERSION, why,
         describe(batch.parameters.front()), "; leave the option out");
  };
  if (fused.value_or(false)) {
    if (!has_fused) refuse("fused", " has no fused kernel for ");
    if (!is_right(Implementation::Fused)) refuse("fused", " has a fused kernel that computes wrongly for ");
    return Implementation::Fused;
  }
  // Without a plain batch there is nothing to try: these operators then take one tensor after the other.
  bool foreach_is_right = !batch.is_plain;
  if (foreach.value_or(false)) {
    if (!foreach_is_right && !is_right(Implementation::Foreach))
      refuse("foreach", " has multi-tensor operators that compute wrongly for ");
    return Implementation::Foreach;
  }
  if (has_fused && fused.value_or(true) && is_right(Implementation::Fused)) return Implementation::Fused;
  bool may_be_foreach = batch.is_plain && foreach.value_or(true);
  return may_be_foreach && is_right(Implementation::Foreach) ? Implementation::Foreach : Implementation::Loop;
}

optional<c10::OperatorHandle> find_fused(const c10::OperatorName& name, const at::Tensor& parameter) {
  auto dtype = c10::toRealValueType(parameter.scalar_type());
  bool is_fusible = is_plain(parameter) && at::isFloatingType(dtype) && c10::elementSize(dtype) > 1;
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
    if (parameter.layout() != at::kStrided)
      fail("ERR_NOT_IMPLEMENTED", "params: ", name_parameter(i, parameter), " is ",
           layout_name(parameter.layout()), "; only dense parameters can be optimized");
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
  at::NoGradGuard no_grad;
  std::vector<Tensors> copies;
  for (size_t i = 0; i < all.size(); i++) {
    auto& copy = copies.emplace_back(entries_.size());
    for (size_t entry = 0; entry < entries_.size(); entry++)
      if (const auto& value = states[i][entry]; value.defined())
        copy[entry] = copy_state(value, entries_[entry], all[i]->parameter, i);
  }
  for (size_t i = 0; i < all.size(); i++) all[i]->state = std::move(copies[i]);
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  for (const auto& group : groups_)
    for (const auto& trainable : group)
      for (const auto& each : trainable.state)
        if (each.defined()) bytes += static_cast<int64_t>(each.nbytes());
  return bytes;
}

void Optimizer::check_fit() const {
  size_t index = 0;
  for (const auto& group : groups_)
    for (const auto& [parameter, state] : group) {
      auto number = index++;
      const auto& gradient = parameter.grad();
      if (!gradient.defined()) continue;
      check_gradient(gradient, parameter, number);
      check_writable(parameter, number);
      for (size_t entry = 0; entry < entries_.size(); entry++)
        if (state[entry].defined()) check_state(state[entry], entries_[entry], parameter, number);
    }
}

std::string Optimizer::device_obstacle(
    size_t group, const Preference& preference, const c10::OperatorName& fused,
    const std::function<bool(const at::Tensor& parameter)>& is_right) const {
  const auto& trainables = groups_.at(group);
  if (trainables.empty()) return "";
  if (!preference.fused.value_or(true)) return "the optimizer's option fused is false";
  if (preference.foreach.value_or(false) && !preference.fused.value_or(false))
    return "the optimizer's option foreach is true";
  auto overlapping = find_overlapping(trainables);
  for (size_t i = 0; i < trainables.size(); i++) {
    const auto& parameter = trainables[i].parameter;
    if (!find_fused(fused, parameter))
      return c10::str("libtorch " ALAMBIC_TORCH_VERSION
                      " has no fused kernel with a learning rate on the device for ",
                      name_parameter(i, parameter));
    if (!is_right(parameter))
      return c10::str("libtorch " ALAMBIC_TORCH_VERSION " has a fused kernel that computes wrongly for ",
                      name_parameter(i, parameter));
    if (overlapping[i]) return c10::str(name_parameter(i, parameter), " shares its memory with another one");
  }
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
  auto overlapping = find_overlapping(trainables);
  for (size_t i = 0; i < trainables.size(); i++) {
    auto& trainable = trainables[i];
    const auto& parameter = trainable.parameter;
    const auto& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    // Module.to() may have moved the parameter since the last step.
    for (size_t entry = 0; entry < entries_.size(); entry++)
      if (trainable.state[entry].defined() && !entries_[entry].is_count)
        trainable.state[entry] = in_form_of(trainable.state[entry], parameter);

    bool plain = is_plain(parameter) && !overlapping[i];
    Key key{parameter.device().type(), parameter.device().index(), parameter.scalar_type(), plain};
    auto [found, is_new] = index_of.try_emplace(key, batches.size());
    if (is_new) batches.push_back({{}, {}, {}, plain});
    auto& batch = batches[found->second];
    batch.trainables.push_back(&trainable);
    batch.parameters.push_back(as_real(parameter));
    batch.gradients.push_back(as_real(plain_gradient(gradient, parameter)));
  }
  return batches;
}

void check_option(const char* name, double value, bool is_valid, const char* expected) {
  if (!is_valid) fail("ERR_ARGUMENT", name, ": expected ", expected, ", got ", value);
}

void check_finite(const char* name, double value) {
  check_option(name, value, std::isfinite(value), "a finite number");
}

void check_not_negative(const char* name, double value) {
  check_option(name, value, value >= 0, "a number of at least 0");
}

void check_magnitude(const char* name, double value) {
  check_option(name, value, std::isfinite(value) && value >= 0, "a finite number of at least 0");
}

}  // namespace alambic::optim
