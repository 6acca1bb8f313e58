// Dropout and Dropout2d.
#pragma once
#include <ATen/ATen.h>

#include <string>

#include "layers/options.h"

namespace alambic {

class Dropout {
 public:
  explicit Dropout(const Options& options);
  at::Tensor forward(bool training, const at::Tensor& x) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  double p_;
  bool whole_channels_, inplace_;
};

}  // namespace alambic
