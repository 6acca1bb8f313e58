// Adam and AdamW, as torch.optim.Adam and torch.optim.AdamW.
#pragma once
#include "optim/optimizer.h"

namespace alambic::optim {

struct AdamOptions {
  double lr, beta1, beta2, eps, weight_decay;
  bool amsgrad, maximize;
  Preference preference;

  // All numbers but the learning rate.
  std::vector<double> constants() const;

  // Throws ERR_ARGUMENT.
  void check() const;
};

// How weight decay enters: as a part of the gradient, or (Loshchilov & Hutter 2019) apart from it.
enum class WeightDecay { InGradient, Decoupled };

class Adam : public Optimizer {
 public:
  using Options = AdamOptions;

  explicit Adam(WeightDecay weight_decay = WeightDecay::InGradient)
      : Optimizer({{"step", /*is_count=*/true, /*is_optional=*/false},
                   {"exp_avg", false, false},
                   {"exp_avg_sq", false, false},
                   {"max_exp_avg_sq", false, true}}),
        weight_decay_(weight_decay) {}
  // With a decision of the device its learning rate takes the place of the option, and only the fused kernels
  // are used.
  void step(size_t group, const AdamOptions& options, const DeviceDecision* decision = nullptr);
  std::string device_obstacle(size_t group, const AdamOptions& options) const;

 private:
  WeightDecay weight_decay_;
};

class AdamW : public Adam {
 public:
  AdamW() : Adam(WeightDecay::Decoupled) {}
};

}  // namespace alambic::optim
