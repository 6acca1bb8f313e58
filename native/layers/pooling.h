// MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, AdaptiveMaxPool2d.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "layers/options.h"

namespace alambic {

class MaxPool2d {
 public:
  explicit MaxPool2d(const Options& options);
  at::Tensor forward(const at::Tensor& x) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<int64_t> kernel_size_, stride_, padding_, dilation_;
  bool ceil_mode_;
};

class AvgPool2d {
 public:
  explicit AvgPool2d(const Options& options);
  at::Tensor forward(const at::Tensor& x) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<int64_t> kernel_size_, stride_, padding_;
  bool ceil_mode_, count_include_pad_;
  optional<int64_t> divisor_override_;
};

// Of averages or of maxima.
class AdaptivePool2d {
 public:
  explicit AdaptivePool2d(const Options& options);
  at::Tensor forward(const at::Tensor& x) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  bool maximum_;
  std::vector<int64_t> output_size_;  // -1: as the input
};

}  // namespace alambic
