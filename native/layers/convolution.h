// Conv1d, Conv2d, Conv3d, ConvTranspose2d.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "layers/options.h"

namespace alambic {

class Convolution {
 public:
  explicit Convolution(const Options& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const optional<at::Tensor>& bias) const;
  const std::string& name() const { return name_; }

 private:
  void decode_padding(const Options& options, const std::vector<int64_t>& kernel);
  void pad_explicitly(const std::string& mode, const std::vector<int64_t>& left,
                      const std::vector<int64_t>& right);

  std::string name_;
  int64_t spatial_dims_, in_channels_, groups_;
  bool transposed_;
  std::vector<int64_t> stride_, dilation_, output_padding_;
  std::vector<int64_t> padding_;  // zeros on both sides of each dimension, by the convolution itself
  std::vector<int64_t>
      explicit_padding_;       // what comes before it: (left, right) from the last dimension; may be empty
  std::string explicit_mode_;  // of at::pad
};

}  // namespace alambic
