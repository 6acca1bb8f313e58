// The step that training takes: a recording's losses, and an optimizer's update.
#pragma once
#include <functional>

#include "compat.h"
#include "optim/update.h"
#include "step/step.h"

namespace alambic::step {

// The losses of a batch, and what they are computed with.
struct LossSource {
  int64_t key;
  // (batch) -> the loss to minimise, then its parts for the log; scalars.
  std::function<Tensors(const Tensors& batch)> compute;
  // Parameters and buffers that it reads, and may write.
  const Tensors& held;
  bool has_side_part;
};

class TrainingStep final : public Step {
 public:
  TrainingStep(LossSource source, optim::Update& update, const Tensors& trained, optional<double> clip_norm)
      : source_(std::move(source)), update_(update), trained_(trained), clip_norm_(clip_norm) {}

  void compute_losses(const Tensors& batch) override;
  std::vector<double> read_losses() const override;
  void compute_gradients() override;
  std::vector<double> read_gradient_norm() const override;
  void update() override { update_.step(); }

  std::string obstacle(const Tensors& batch) const override;
  int64_t key() const override { return source_.key; }
  std::vector<int64_t> assumptions(const Tensors& batch) const override;
  void prepare_device() override { update_.write_rates(); }
  bool has_side_part() const override { return source_.has_side_part; }
  Outcome run_on_device(const Tensors& batch, SideStream* side) override;
  std::vector<double> read(const Outcome& outcome, const at::Tensor& values,
                           const Tensors& batch) const override;
  const Tensors& trained() const override { return trained_; }

 private:
  LossSource source_;
  optim::Update& update_;
  const Tensors& trained_;
  optional<double> clip_norm_;
  Tensors losses_;
  at::Tensor norm_;  // of the gradients before they were clipped; undefined where they are not
};

}  // namespace alambic::step
