// Stochastic gradient descent with momentum, as torch.optim.SGD.
#pragma once
#include "optim/optimizer.h"

namespace alambic::optim {

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  Preference preference;

  // Throws ERR_ARGUMENT.
  void check() const;
};

class Sgd : public Optimizer {
 public:
  using Options = SgdOptions;

  Sgd() : Optimizer({{"momentum_buffer", false}}) {}
  void step(size_t group, const SgdOptions& options);
};

}  // namespace alambic::optim
