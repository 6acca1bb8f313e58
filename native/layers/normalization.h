// BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "layers/options.h"

namespace alambic {

class BatchNorm {
 public:
  explicit BatchNorm(const Options& options);
  // In training normalises by the batch and updates the running statistics in place, where there are any;
  // else normalises by those, or, without them, by the batch. Then `added` is added, and the activation (see
  // batch_norm.h) taken.
  at::Tensor forward(bool training, const at::Tensor& x, const optional<at::Tensor>& weight,
                     const optional<at::Tensor>& bias, const optional<at::Tensor>& running_mean,
                     const optional<at::Tensor>& running_var, const optional<at::Tensor>& num_batches_tracked,
                     const optional<at::Tensor>& added, int64_t activation) const;
  const std::string& name() const { return name_; }

 private:
  void check(const at::Tensor& x, bool by_batch) const;
  // The weight of this batch in the running statistics, after counting it.
  double count_batch(const optional<at::Tensor>& num_batches_tracked) const;

  std::string name_;
  int64_t features_, spatial_dims_;
  double eps_;
  optional<double> momentum_;  // none: the running statistics are the mean over all batches
};

class GroupNorm {
 public:
  explicit GroupNorm(const Options& options);
  at::Tensor forward(const at::Tensor& x, const optional<at::Tensor>& weight,
                     const optional<at::Tensor>& bias) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int64_t groups_, channels_;
  double eps_;
};

class LayerNorm {
 public:
  explicit LayerNorm(const Options& options);
  at::Tensor forward(const at::Tensor& x, const optional<at::Tensor>& weight,
                     const optional<at::Tensor>& bias) const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<int64_t> normalized_shape_;
  double eps_;
};

}  // namespace alambic
