#include "step/step.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

#include "autograd.h"
#include "optim/clip.h"

namespace alambic::step {

Step::Step(Losses losses, optim::Update& update, Tensors trained, optional<double> clip_norm)
    : compute_(std::move(losses)), update_(update), trained_(std::move(trained)), clip_norm_(clip_norm) {}

void Step::compute_losses(const Tensors& batch) {
  at::AutoGradMode recording(true);
  update_.zero_grad();
  losses_ = compute_(batch);
}

std::vector<double> Step::read_losses() const {
  std::vector<double> values;
  for (const auto& loss : losses_) values.push_back(loss.item<double>());
  return values;
}

void Step::compute_gradients() {
  at::AutoGradMode recording(true);
  auto losses = std::move(losses_);
  losses_.clear();
  backward(losses.front());
  if (clip_norm_)
    optim::clip_gradient_norm(trained_, *clip_norm_, /*norm_type=*/2, /*error_if_nonfinite=*/false);
}

void Step::update() { update_.step(); }

std::vector<double> PlainRunner::run(Step& step, const Tensors& batch) {
  step.compute_losses(batch);
  auto values = step.read_losses();
  if (!std::isfinite(values.front())) return values;
  step.compute_gradients();
  step.update();
  return values;
}

}  // namespace alambic::step
