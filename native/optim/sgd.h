// Stochastic gradient descent with momentum, as torch.optim.SGD.
#pragma once
#include "optim/optimizer.h"

namespace alambic::optim {

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  Preference preference;

  // All numbers but the learning rate.
  std::vector<double> constants() const;

  // Throws ERR_ARGUMENT.
  void check() const;
};

class Sgd : public Optimizer {
 public:
  using Options = SgdOptions;

  Sgd() : Optimizer({{"momentum_buffer", /*is_count=*/false, /*is_optional=*/true}}) {}
  // With a decision of the device its learning rate takes the place of the option, and only the fused kernels
  // are used.
  void step(size_t group, const SgdOptions& options, const DeviceDecision* decision = nullptr);
  std::string device_obstacle(size_t group, const SgdOptions& options) const;
};

}  // namespace alambic::optim
