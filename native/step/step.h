// One training step without JavaScript: losses, gradients, update.
#pragma once
#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "compat.h"
#include "optim/update.h"

namespace alambic::step {

using Tensors = std::vector<at::Tensor>;

class Step {
 public:
  // (batch) -> the loss to minimise, then its parts for the log; scalars.
  using Losses = std::function<Tensors(const Tensors& batch)>;

  Step(Losses losses, optim::Update& update, Tensors trained, optional<double> clip_norm);

  void compute_losses(const Tensors& batch);
  // The numbers of compute_losses. Waits for the device.
  std::vector<double> read_losses() const;
  void compute_gradients();
  void update();

 private:
  Losses compute_;
  optim::Update& update_;
  Tensors trained_;
  optional<double> clip_norm_;
  Tensors losses_;
};

// How a step is carried out on a device.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Returns the losses. Where the first is not finite no weight has changed.
  virtual std::vector<double> run(Step& step, const Tensors& batch) = 0;
};

// Operator after operator, on any device.
class PlainRunner : public StepRunner {
 public:
  std::vector<double> run(Step& step, const Tensors& batch) override;
};

}  // namespace alambic::step
