#include "step/training_step.h"

#include <ATen/core/grad_mode.h>

#include <cstring>

#include "autograd/autograd.h"
#include "losses/labels.h"
#include "optim/clip.h"
#include "tensors/values.h"
#include "trace/side_part.h"

namespace alambic::step {

namespace {

int64_t bits_of(double number) {
  int64_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

int64_t address_of(const at::Tensor& tensor) {
  return tensor.defined() ? reinterpret_cast<int64_t>(tensor.unsafeGetTensorImpl()->data()) : 0;
}

// The losses as one list, without history.
at::Tensor to_values(const Tensors& losses) {
  Tensors numbers;
  for (const auto& loss : losses) numbers.push_back(loss.detach().to(at::kDouble).reshape({}));
  return at::stack(numbers);
}

}  // namespace

void TrainingStep::compute_losses(const Tensors& batch) {
  at::AutoGradMode recording(true);
  update_.zero_grad();
  losses_ = source_.compute(batch);
}

std::vector<double> TrainingStep::read_losses() const {
  std::vector<double> values;
  for (const auto& loss : losses_) values.push_back(loss.item<double>());
  return values;
}

void TrainingStep::compute_gradients() {
  at::AutoGradMode recording(true);
  auto losses = std::move(losses_);
  losses_.clear();
  backward(losses.front());
  if (clip_norm_)
    norm_ = optim::clip_gradient_norm(trained_, *clip_norm_, /*norm_type=*/2, /*error_if_nonfinite=*/false);
}

std::vector<double> TrainingStep::read_gradient_norm() const {
  if (!norm_.defined()) return {};
  return {norm_.item<double>()};
}

std::string TrainingStep::obstacle(const Tensors& batch) const {
  if (auto reason = update_.obstacle(); !reason.empty()) return reason;
  auto device = trained_.front().device();
  // A number on the host would be read once, when the graph is made, and never again.
  for (const auto* list : {&trained_, &source_.held, &batch})
    for (const auto& tensor : *list)
      if (tensor.device() != device)
        return c10::str("not everything that the step uses is on ", device.str(), ": there is ",
                        describe(tensor), " on ", tensor.device().str());
  return "";
}

std::vector<int64_t> TrainingStep::assumptions(const Tensors& batch) const {
  std::vector<int64_t> all;
  for (const auto* list : {&trained_, &source_.held})
    for (const auto& tensor : *list) {
      all.push_back(address_of(tensor));
      all.push_back(tensor.requires_grad());
    }
  for (const auto& tensor : batch) {
    all.push_back(static_cast<int64_t>(tensor.scalar_type()));
    for (auto size : tensor.sizes()) all.push_back(size);
  }
  for (auto number : update_.constants()) all.push_back(bits_of(number));
  for (const auto& tensor : update_.state()) all.push_back(address_of(tensor));
  return all;
}

Outcome TrainingStep::run_on_device(const Tensors& batch, SideStream* side) {
  Outcome outcome;
  at::Tensor is_bad;
  Tensors values, failed_checks;
  {
    DeferredLabelChecks checks(batch);
    {
      trace::OnSideStream on_side_stream(side);
      compute_losses(batch);
    }
    at::NoGradGuard no_grad;
    is_bad = losses_.front().detach().isfinite().logical_not().reshape({});
    values.push_back(to_values(losses_));
    for (const auto& failed : checks.failed) {
      is_bad = is_bad.logical_or(failed);
      failed_checks.push_back(failed.to(at::kDouble).reshape({1}));
    }
    outcome.checks = std::move(checks.checks);
    outcome.obstacle = std::move(checks.obstacle);
  }
  compute_gradients();
  at::NoGradGuard no_grad;
  if (norm_.defined()) {
    is_bad = is_bad.logical_or(norm_.isfinite().logical_not());
    values.push_back(norm_.to(at::kDouble).reshape({1}));
  }
  values.insert(values.end(), failed_checks.begin(), failed_checks.end());
  outcome.values = at::cat(values);
  update_.step_unless(is_bad.to(at::kFloat));
  return outcome;
}

std::vector<double> TrainingStep::read(const Outcome& outcome, const at::Tensor& values,
                                       const Tensors& batch) const {
  const auto* number = values.data_ptr<double>();
  auto losses = values.numel() - static_cast<int64_t>(outcome.checks.size());
  for (size_t i = 0; i < outcome.checks.size(); i++)
    if (number[losses + static_cast<int64_t>(i)] != 0) {
      const auto& check = outcome.checks[i];
      check_label_range(check.loss.c_str(), batch.at(check.batch_index), check.classes, check.ignore_index);
    }
  return {number, number + losses};  // and the norm, which lies behind them
}

}  // namespace alambic::step
