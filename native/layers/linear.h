// Linear.
#pragma once
#include <ATen/ATen.h>

#include <string>

#include "layers/options.h"

namespace alambic {

class Linear {
 public:
  explicit Linear(const Options& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const optional<at::Tensor>& bias) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int64_t in_features_;
};

}  // namespace alambic
