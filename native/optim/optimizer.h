// What all optimizers share: groups of parameters, the state that belongs to each parameter, and how an
// update reaches the tensors.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "compat.h"

namespace alambic::optim {

using Tensors = std::vector<at::Tensor>;

// A tensor of the state, under PyTorch's name.
struct StateEntry {
  const char* name;
  // A count of steps: one float32 number, not a tensor of the parameter's form.
  bool is_count;
  // Some options need it, others do not.
  bool is_optional;
};

// A parameter and its state, in the order of the optimizer's entries; undefined until first needed.
struct Trainable {
  at::Tensor parameter;
  Tensors state;
};

// Parameters that one kernel can update together: of one device and dtype. Gradients and state have the shape
// and the memory layout of their parameter. Complex numbers appear as pairs of reals.
struct Batch {
  std::vector<Trainable*> trainables;
  Tensors parameters, gradients;
  // Whether each parameter has one piece of memory without gaps to itself, so that kernels may walk through
  // it in any order. All others are updated one after the other.
  bool is_plain;

  size_t size() const { return parameters.size(); }
  Tensors state(size_t entry) const;
  // Those for which the predicate holds, and the others.
  template <typename Predicate>
  std::pair<Batch, Batch> partition(Predicate predicate) const {
    Batch yes{{}, {}, {}, is_plain}, no{{}, {}, {}, is_plain};
    for (size_t i = 0; i < size(); i++) {
      auto& part = predicate(*trainables[i]) ? yes : no;
      part.trainables.push_back(trainables[i]);
      part.parameters.push_back(parameters[i]);
      part.gradients.push_back(gradients[i]);
    }
    return {yes, no};
  }
};

enum class Implementation { Fused, Foreach, Loop };

// PyTorch's options `fused` and `foreach`: true asks for the one, false rules it out, nothing leaves the
// choice.
struct Preference {
  optional<bool> fused, foreach;

  // One number per choice.
  double number() const {
    auto choice = [](const optional<bool>& flag) { return flag.has_value() ? 1 + *flag : 0; };
    return 3 * choice(fused) + choice(foreach);
  }
  // Throws ERR_ARGUMENT when both are asked for.
  void check() const;
  // The fastest that is allowed, there, and right. Throws ERR_NOT_IMPLEMENTED when one is asked for that is
  // missing or wrong. `is_right` tries a kernel the first time that it is asked about it: see trial.h.
  Implementation choose(const Batch& batch, bool has_fused,
                        const std::function<bool(Implementation)>& is_right) const;
};

// The operator, if this libtorch has it and a kernel for such parameters.
optional<c10::OperatorHandle> find_fused(const c10::OperatorName& name, const at::Tensor& parameter);

template <typename Signature>
optional<c10::TypedOperatorHandle<Signature>> find_fused(const char* name, const Batch& batch,
                                                         const char* overload = "") {
  if (!batch.is_plain) return nullopt;
  auto handle = find_fused({name, overload}, batch.parameters.front());
  if (!handle) return nullopt;
  return handle->typed<Signature>();
}

// What the device decides about an update, each one float32 on the parameters' device.
struct DeviceDecision {
  at::Tensor lr;
  at::Tensor skip;  // 1 where nothing is to change
};

class Optimizer {
 public:
  explicit Optimizer(std::vector<StateEntry> entries) : entries_(std::move(entries)) {}
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Throws for tensors that are no leaves and for those that are here already; then none is added.
  void add_group(const Tensors& parameters);
  size_t groups() const { return groups_.size(); }
  // Of a group's first parameter.
  at::Device device(size_t group) const;

  void zero_grad(bool set_to_none);

  const std::vector<StateEntry>& entries() const { return entries_; }
  // All parameters in the order of their groups.
  std::vector<const Trainable*> trainables() const;
  // Copies the state of each parameter, in the same order. All is checked before anything changes.
  void load_state(const std::vector<Tensors>& states);
  int64_t state_bytes() const;

  // Throws where a gradient or a tensor of the state does not fit its parameter, and where a parameter cannot
  // be written to. Kernels take all that on trust. To be called before the first update of a step, so that a
  // step that fails changes nothing.
  void check_fit() const;

  // Why the device cannot decide about updates of a group, or nothing. `fused` is the operator that reads its
  // learning rate there; `is_right` tries it for a parameter.
  std::string device_obstacle(size_t group, const Preference& preference, const c10::OperatorName& fused,
                              const std::function<bool(const at::Tensor& parameter)>& is_right) const;

 protected:
  // Runs `update` for the parameters of a group that have gradients. Nothing is recorded for autograd, but
  // the parameters count as changed.
  void update_group(size_t group, const std::function<void(Batch&)>& update);

 private:
  std::vector<Batch> batches(size_t group);

  std::vector<StateEntry> entries_;
  std::vector<std::vector<Trainable>> groups_;
  std::unordered_set<const c10::TensorImpl*> known_;
};

// The real numbers that kernels see: a complex tensor as pairs.
at::Tensor as_real(const at::Tensor& tensor);

// For errors: "parameter 3 (float32 (2, 3))".
std::string name_parameter(size_t index, const at::Tensor& parameter);

// Throws ERR_ARGUMENT: "lr: expected …, got -1".
void check_option(const char* name, double value, bool is_valid, const char* expected);
void check_finite(const char* name, double value);
void check_not_negative(const char* name, double value);
// And not infinite.
void check_magnitude(const char* name, double value);

}  // namespace alambic::optim
