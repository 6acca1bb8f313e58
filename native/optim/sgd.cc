#include "optim/sgd.h"

#include "errors.h"
#include "values.h"

namespace alambic::optim {

namespace {

constexpr size_t momentum_buffer = 0;

using FusedSgd = void(at::TensorList, at::TensorList, at::TensorList, double, double, double, double, bool,
                      bool, bool, const optional<at::Tensor>&, const optional<at::Tensor>&);
using Kernel = c10::TypedOperatorHandle<FusedSgd>;
// Reads the learning rate on the device.
using DeviceFusedSgd = void(at::TensorList, at::TensorList, at::TensorList, double, double, const at::Tensor&,
                            double, bool, bool, bool, const optional<at::Tensor>&,
                            const optional<at::Tensor>&);
constexpr auto fused_name = "aten::_fused_sgd_", device_overload = "tensor_lr";

void update_fused(const Kernel& kernel, const Batch& batch, const Tensors& buffers, const SgdOptions& options,
                  bool is_first) {
  kernel.call(batch.parameters, batch.gradients, buffers, options.weight_decay, options.momentum, options.lr,
              options.dampening, options.nesterov, options.maximize, is_first, nullopt, nullopt);
}

void update_on_device(const Batch& batch, const Tensors& buffers, const SgdOptions& options, bool is_first,
                      const DeviceDecision& decision) {
  auto kernel = find_fused<DeviceFusedSgd>(fused_name, batch, device_overload);
  if (!kernel) fail("ERR_NOT_IMPLEMENTED", "step: no fused kernel for ", describe(batch.parameters.front()));
  kernel->call(batch.parameters, batch.gradients, buffers, options.weight_decay, options.momentum,
               decision.lr, options.dampening, options.nesterov, options.maximize, is_first, nullopt,
               decision.skip);
}

void update_foreach(const Batch& batch, const Tensors& buffers, const SgdOptions& options, bool is_first) {
  auto steps = batch.gradients;
  if (options.maximize) steps = at::_foreach_neg(steps);
  if (options.weight_decay != 0) steps = at::_foreach_add(steps, batch.parameters, options.weight_decay);
  if (options.momentum != 0) {
    if (is_first) {
      for (size_t i = 0; i < buffers.size(); i++) buffers[i].copy_(steps[i]);
    } else {
      at::_foreach_mul_(buffers, options.momentum);
      at::_foreach_add_(buffers, steps, 1 - options.dampening);
    }
    steps = options.nesterov ? at::_foreach_add(steps, buffers, options.momentum) : buffers;
  }
  at::_foreach_add_(batch.parameters, steps, -options.lr);
}

void update_loop(const Batch& batch, const Tensors& buffers, const SgdOptions& options, bool is_first) {
  for (size_t i = 0; i < batch.size(); i++) {
    const auto& parameter = batch.parameters[i];
    auto step = options.maximize ? batch.gradients[i].neg() : batch.gradients[i];
    if (options.weight_decay != 0) step = step.add(parameter, options.weight_decay);
    if (options.momentum != 0) {
      if (is_first)
        buffers[i].copy_(step);
      else
        buffers[i].mul_(options.momentum).add_(step, 1 - options.dampening);
      step = options.nesterov ? step.add(buffers[i], options.momentum) : buffers[i];
    }
    parameter.add_(step, -options.lr);
  }
}

// `is_first`: the momentum buffers are made by this step.
void update(Batch& batch, const SgdOptions& options, bool is_first, const DeviceDecision* decision) {
  if (batch.size() == 0) return;
  if (is_first)
    for (auto* trainable : batch.trainables)
      trainable->state[momentum_buffer] =
          at::zeros_like(trainable->parameter, {}, at::MemoryFormat::Preserve);
  auto buffers = options.momentum == 0 ? Tensors() : batch.state(momentum_buffer);

  if (decision != nullptr) return update_on_device(batch, buffers, options, is_first, *decision);
  auto kernel = find_fused<FusedSgd>(fused_name, batch);
  switch (options.preference.choose(batch, kernel.has_value())) {
    case Implementation::Fused:
      return update_fused(*kernel, batch, buffers, options, is_first);
    case Implementation::Foreach:
      return update_foreach(batch, buffers, options, is_first);
    case Implementation::Loop:
      return update_loop(batch, buffers, options, is_first);
  }
}

}  // namespace

void SgdOptions::check() const {
  check_not_negative("lr", lr);
  check_not_negative("momentum", momentum);
  check_not_negative("weightDecay", weight_decay);
  if (nesterov && (momentum == 0 || dampening != 0))
    fail("ERR_ARGUMENT", "nesterov: expected a momentum above 0 and no dampening, got momentum ", momentum,
         " and dampening ", dampening);
}

std::vector<double> SgdOptions::constants() const {
  return {momentum,
          dampening,
          weight_decay,
          static_cast<double>(nesterov),
          static_cast<double>(maximize),
          preference.number()};
}

std::string Sgd::device_obstacle(size_t group, const SgdOptions& options) const {
  return Optimizer::device_obstacle(group, options.preference, {fused_name, device_overload});
}

void Sgd::step(size_t group, const SgdOptions& options, const DeviceDecision* decision) {
  update_group(group, [&](Batch& batch) {
    if (options.momentum == 0) return update(batch, options, false, decision);
    // A parameter that had no gradient so far has no buffer yet.
    auto [fresh, running] = batch.partition(
        [](const Trainable& trainable) { return !trainable.state[momentum_buffer].defined(); });
    update(fresh, options, true, decision);
    update(running, options, false, decision);
  });
}

}  // namespace alambic::optim
