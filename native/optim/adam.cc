#include "optim/adam.h"

#include <cmath>

#include "errors.h"
#include "optim/trial.h"
#include "tensors/values.h"

namespace alambic::optim {

namespace {

enum Entry : size_t { step_count, exp_avg, exp_avg_sq, max_exp_avg_sq };

using FusedAdam = void(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                       at::TensorList, double, double, double, double, double, bool, bool,
                       const optional<at::Tensor>&, const optional<at::Tensor>&);
using Kernel = c10::TypedOperatorHandle<FusedAdam>;
// Reads the learning rate on the device.
using DeviceFusedAdam = void(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                             at::TensorList, const at::Tensor&, double, double, double, double, bool, bool,
                             const optional<at::Tensor>&, const optional<at::Tensor>&);
constexpr auto device_overload = "tensor_lr";

// The tensors of one update.
struct Update {
  const Tensors &parameters, &gradients;
  Tensors steps, averages, squares;
  Tensors largest_squares;  // empty without amsgrad

  // What the averages' start at zero makes up for.
  double bias_correction(size_t i, double beta) const {
    return 1 - std::pow(beta, static_cast<double>(*steps[i].data_ptr<float>()));
  }
};

void create_state(Trainable& trainable, bool amsgrad) {
  const auto& parameter = trainable.parameter;
  if (!trainable.state[step_count].defined())
    trainable.state[step_count] = at::zeros({}, at::TensorOptions().dtype(at::kFloat));
  for (auto entry : {exp_avg, exp_avg_sq, max_exp_avg_sq})
    if (!trainable.state[entry].defined() && (entry != max_exp_avg_sq || amsgrad))
      trainable.state[entry] = at::zeros_like(parameter, {}, at::MemoryFormat::Preserve);
}

// As in PyTorch: fused kernels read the count on the device, everything else on the CPU, without waiting for
// one.
void place_counts(Batch& batch, Implementation implementation) {
  for (auto* trainable : batch.trainables) {
    auto& count = trainable->state[step_count];
    auto device =
        implementation == Implementation::Fused ? trainable->parameter.device() : at::Device(at::kCPU);
    if (count.device() != device) count = count.to(device);
  }
}

void increment(const Tensors& steps) {
  if (steps.front().is_cpu())
    for (const auto& step : steps) ++*step.data_ptr<float>();
  else
    at::_foreach_add_(steps, 1);
}

void update_fused(const Kernel& kernel, const Update& update, const AdamOptions& options) {
  kernel.call(update.parameters, update.gradients, update.averages, update.squares, update.largest_squares,
              update.steps, options.lr, options.beta1, options.beta2, options.weight_decay, options.eps,
              options.amsgrad, options.maximize, nullopt, nullopt);
}

void update_on_device(const char* name, const Batch& batch, const Update& update, const AdamOptions& options,
                      const DeviceDecision& decision) {
  auto kernel = find_fused<DeviceFusedAdam>(name, batch, device_overload);
  if (!kernel) fail("ERR_NOT_IMPLEMENTED", "step: no fused kernel for ", describe(batch.parameters.front()));
  kernel->call(update.parameters, update.gradients, update.averages, update.squares, update.largest_squares,
               update.steps, decision.lr, options.beta1, options.beta2, options.weight_decay, options.eps,
               options.amsgrad, options.maximize, nullopt, decision.skip);
  // A step that was skipped was none.
  at::_foreach_sub_(update.steps, Tensors(update.steps.size(), decision.skip));
}

void lerp_foreach(const Tensors& from, const Tensors& to, double weight) {
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
  at::_foreach_lerp_(from, to, weight);
#else
  at::_foreach_mul_(from, 1 - weight);
  at::_foreach_add_(from, to, weight);
#endif
}

void update_foreach(const Update& update, const AdamOptions& options, WeightDecay weight_decay) {
  auto gradients = update.gradients;
  if (options.maximize) gradients = at::_foreach_neg(gradients);
  if (options.weight_decay != 0) {
    if (weight_decay == WeightDecay::Decoupled)
      at::_foreach_mul_(update.parameters, 1 - options.lr * options.weight_decay);
    else
      gradients = at::_foreach_add(gradients, update.parameters, options.weight_decay);
  }
  lerp_foreach(update.averages, gradients, 1 - options.beta1);
  at::_foreach_mul_(update.squares, options.beta2);
  at::_foreach_addcmul_(update.squares, gradients, gradients, 1 - options.beta2);
  if (options.amsgrad) at::_foreach_maximum_(update.largest_squares, update.squares);

  std::vector<at::Scalar> step_sizes, root_corrections;
  for (size_t i = 0; i < update.steps.size(); i++) {
    step_sizes.emplace_back(-options.lr / update.bias_correction(i, options.beta1));
    root_corrections.emplace_back(std::sqrt(update.bias_correction(i, options.beta2)));
  }
  auto denominators = at::_foreach_sqrt(options.amsgrad ? update.largest_squares : update.squares);
  at::_foreach_div_(denominators, root_corrections);
  at::_foreach_add_(denominators, options.eps);
  at::_foreach_addcdiv_(update.parameters, update.averages, denominators, step_sizes);
}

void update_loop(const Update& update, const AdamOptions& options, WeightDecay weight_decay) {
  for (size_t i = 0; i < update.parameters.size(); i++) {
    const auto& parameter = update.parameters[i];
    auto gradient = options.maximize ? update.gradients[i].neg() : update.gradients[i];
    if (options.weight_decay != 0) {
      if (weight_decay == WeightDecay::Decoupled)
        parameter.mul_(1 - options.lr * options.weight_decay);
      else
        gradient = gradient.add(parameter, options.weight_decay);
    }
    update.averages[i].lerp_(gradient, 1 - options.beta1);
    update.squares[i].mul_(options.beta2).addcmul_(gradient, gradient, 1 - options.beta2);
    if (options.amsgrad)
      update.largest_squares[i].copy_(at::maximum(update.largest_squares[i], update.squares[i]));

    const auto& squares = options.amsgrad ? update.largest_squares[i] : update.squares[i];
    auto root_correction = std::sqrt(update.bias_correction(i, options.beta2));
    auto denominator = squares.sqrt().div_(root_correction).add_(options.eps);
    parameter.addcdiv_(update.averages[i], denominator,
                       -options.lr / update.bias_correction(i, options.beta1));
  }
}

// How a step is carried out: by the fused kernel that reads its learning rate on the device where there is a
// decision, else by an implementation.
struct Way {
  WeightDecay weight_decay;
  Implementation implementation;
  const DeviceDecision* decision = nullptr;

  const char* fused_name() const {
    return weight_decay == WeightDecay::Decoupled ? "aten::_fused_adamw_" : "aten::_fused_adam_";
  }
};

void update(Batch& batch, const AdamOptions& options, Way way) {
  for (auto* trainable : batch.trainables) create_state(*trainable, options.amsgrad);
  place_counts(batch, way.implementation);

  Tensors steps;
  for (auto* trainable : batch.trainables) steps.push_back(trainable->state[step_count]);
  increment(steps);
  Update update{batch.parameters,        batch.gradients,
                std::move(steps),        batch.state(exp_avg),
                batch.state(exp_avg_sq), options.amsgrad ? batch.state(max_exp_avg_sq) : Tensors()};
  if (way.decision != nullptr)
    return update_on_device(way.fused_name(), batch, update, options, *way.decision);
  switch (way.implementation) {
    case Implementation::Fused:
      return update_fused(*find_fused<FusedAdam>(way.fused_name(), batch), update, options);
    case Implementation::Foreach:
      return update_foreach(update, options, way.weight_decay);
    case Implementation::Loop:
      return update_loop(update, options, way.weight_decay);
  }
}

// ---- Trying the kernels
// --------------------------------------------------------------------------------------

const std::vector<AdamOptions>& variants() {
  static const std::vector<AdamOptions> all = {
      {0.5, 0.5, 0.75, 0.125, 0, false, false, {}},
      {0.5, 0.5, 0.75, 0.125, 0.25, false, true, {}},
      {0.5, 0.5, 0.25, 0.125, 0.25, true, false, {}},
  };
  return all;
}

bool tried_agrees(const at::Tensor& parameter, WeightDecay weight_decay, const TrialStep& tried) {
  constexpr size_t entries = max_exp_avg_sq + 1;
  return agrees(parameter, {entries, variants().size(), tried, [&](Batch& batch, size_t variant) {
                              update(batch, variants()[variant], Way{weight_decay, Implementation::Loop});
                            }});
}

bool is_right(Way way, const at::Tensor& parameter) {
  const char* foreach_name =
      way.weight_decay == WeightDecay::Decoupled ? "AdamW with foreach" : "Adam with foreach";
  const char* kernel = way.implementation == Implementation::Fused ? way.fused_name() : foreach_name;
  return is_right_once(kernel, parameter, [&] {
    return tried_agrees(parameter, way.weight_decay,
                        [&](Batch& batch, size_t variant) { update(batch, variants()[variant], way); });
  });
}

bool is_right_on_device(WeightDecay weight_decay, const at::Tensor& parameter) {
  const char* kernel = weight_decay == WeightDecay::Decoupled ? "aten::_fused_adamw_.tensor_lr"
                                                              : "aten::_fused_adam_.tensor_lr";
  return is_right_once(kernel, parameter, [&] {
    return tried_agrees(parameter, weight_decay, [&](Batch& batch, size_t variant) {
      const auto& options = variants()[variant];
      DeviceDecision decision = make_decision(options.lr, batch);
      update(batch, options, Way{weight_decay, Implementation::Fused, &decision});
      skip_next(decision);
      update(batch, options, Way{weight_decay, Implementation::Fused, &decision});
    });
  });
}

}  // namespace

void AdamOptions::check() const {
  const char* below_one = "a number of at least 0 and below 1";
  check_magnitude("lr", lr);
  check_option("betas[0]", beta1, beta1 >= 0 && beta1 < 1, below_one);
  check_option("betas[1]", beta2, beta2 >= 0 && beta2 < 1, below_one);
  check_magnitude("eps", eps);
  check_magnitude("weightDecay", weight_decay);
  preference.check();
}

std::vector<double> AdamOptions::constants() const {
  return {beta1,
          beta2,
          eps,
          weight_decay,
          static_cast<double>(amsgrad),
          static_cast<double>(maximize),
          preference.number()};
}

std::string Adam::device_obstacle(size_t group, const AdamOptions& options) const {
  Way way{weight_decay_, Implementation::Fused};
  return Optimizer::device_obstacle(
      group, options.preference, {way.fused_name(), device_overload},
      [&](const at::Tensor& parameter) { return is_right_on_device(weight_decay_, parameter); });
}

void Adam::step(size_t group, const AdamOptions& options, const DeviceDecision* decision) {
  update_group(group, [&](Batch& batch) {
    Way way{weight_decay_, Implementation::Fused, decision};
    if (decision == nullptr) {
      bool has_fused = find_fused<FusedAdam>(way.fused_name(), batch).has_value();
      way.implementation = options.preference.choose(batch, has_fused, [&](Implementation each) {
        return is_right(Way{weight_decay_, each}, batch.parameters.front());
      });
    }
    update(batch, options, way);
  });
}

}  // namespace alambic::optim
