#include "optim/sgd.h"

#include "errors.h"
#include "optim/trial.h"
#include "tensors/values.h"

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

// How a step is carried out: by the fused kernel that reads its learning rate on the device where there is a
// decision, else by an implementation.
struct Way {
  Implementation implementation;
  const DeviceDecision* decision = nullptr;
};

// `is_first`: the momentum buffers are made by this step.
void update(Batch& batch, const SgdOptions& options, bool is_first, Way way) {
  if (batch.size() == 0) return;
  if (is_first)
    for (auto* trainable : batch.trainables)
      trainable->state[momentum_buffer] =
          at::zeros_like(trainable->parameter, {}, at::MemoryFormat::Preserve);
  auto buffers = options.momentum == 0 ? Tensors() : batch.state(momentum_buffer);

  if (way.decision != nullptr) return update_on_device(batch, buffers, options, is_first, *way.decision);
  switch (way.implementation) {
    case Implementation::Fused:
      return update_fused(*find_fused<FusedSgd>(fused_name, batch), batch, buffers, options, is_first);
    case Implementation::Foreach:
      return update_foreach(batch, buffers, options, is_first);
    case Implementation::Loop:
      return update_loop(batch, buffers, options, is_first);
  }
}

void update(Batch& batch, const SgdOptions& options, Way way) {
  if (options.momentum == 0) return update(batch, options, false, way);
  // A parameter that had no gradient so far has no buffer yet.
  auto [fresh, running] =
      batch.partition([](const Trainable& trainable) { return !trainable.state[momentum_buffer].defined(); });
  update(fresh, options, true, way);
  update(running, options, false, way);
}

// ---- Trying the kernels
// --------------------------------------------------------------------------------------

const std::vector<SgdOptions>& variants() {
  static const std::vector<SgdOptions> all = {
      {0.5, 0, 0, 0, false, false, {}},
      {0.5, 0, 0, 0.25, false, true, {}},
      {0.5, 0.5, 0.25, 0.25, false, false, {}},
      {0.5, 0.5, 0, 0, true, true, {}},
  };
  return all;
}

bool tried_agrees(const at::Tensor& parameter, const TrialStep& tried) {
  return agrees(parameter, {1, variants().size(), tried, [](Batch& batch, size_t variant) {
                              update(batch, variants()[variant], Way{Implementation::Loop});
                            }});
}

bool is_right(Implementation implementation, const at::Tensor& parameter) {
  const char* kernel = implementation == Implementation::Fused ? fused_name : "SGD with foreach";
  return is_right_once(kernel, parameter, [&] {
    return tried_agrees(parameter, [&](Batch& batch, size_t variant) {
      update(batch, variants()[variant], Way{implementation});
    });
  });
}

bool is_right_on_device(const at::Tensor& parameter) {
  return is_right_once("aten::_fused_sgd_.tensor_lr", parameter, [&] {
    return tried_agrees(parameter, [&](Batch& batch, size_t variant) {
      const auto& options = variants()[variant];
      DeviceDecision decision = make_decision(options.lr, batch);
      update(batch, options, Way{Implementation::Fused, &decision});
      skip_next(decision);
      update(batch, options, Way{Implementation::Fused, &decision});
    });
  });
}

}  // namespace

void SgdOptions::check() const {
  check_magnitude("lr", lr);
  check_magnitude("momentum", momentum);
  check_finite("dampening", dampening);
  check_magnitude("weightDecay", weight_decay);
  if (nesterov && (momentum == 0 || dampening != 0))
    fail("ERR_ARGUMENT", "nesterov: expected a momentum above 0 and no dampening, got momentum ", momentum,
         " and dampening ", dampening);
  preference.check();
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
  return Optimizer::device_obstacle(group, options.preference, {fused_name, device_overload},
                                    is_right_on_device);
}

void Sgd::step(size_t group, const SgdOptions& options, const DeviceDecision* decision) {
  update_group(group, [&](Batch& batch) {
    if (decision != nullptr) return update(batch, options, Way{Implementation::Fused, decision});
    bool has_fused = find_fused<FusedSgd>(fused_name, batch).has_value();
    auto implementation = options.preference.choose(
        batch, has_fused, [&](Implementation each) { return is_right(each, batch.parameters.front()); });
    update(batch, options, Way{implementation});
  });
}

}  // namespace alambic::optim
