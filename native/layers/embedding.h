// Embedding.
#pragma once
#include <ATen/ATen.h>

#include <string>

#include "layers/options.h"

namespace alambic {

class Embedding {
 public:
  explicit Embedding(const Options& options);
  // `indices`: int64 or int32. With maxNorm the looked-up rows of `weight` are shortened in place first.
  at::Tensor forward(const at::Tensor& indices, const at::Tensor& weight) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int64_t count_, padding_index_;
  optional<double> max_norm_;
  double norm_type_;
  bool scale_grad_by_freq_, sparse_;
};

}  // namespace alambic
