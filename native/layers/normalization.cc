#include "layers/normalization.h"

#include <ATen/Context.h>

#include "layers/batch_norm.h"
#include "layers/checks.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

// ---- BatchNorm

BatchNorm::BatchNorm(const Options& options)
    : name_(options.name()),
      features_(options.integer("numFeatures", 1)),
      spatial_dims_(options.integer("spatialDims", 1)),
      eps_(options.number("eps")) {
  if (!options.is_null("momentum")) momentum_ = options.number("momentum");
}

void BatchNorm::check(const at::Tensor& x, bool by_batch) const {
  bool flat = spatial_dims_ == 1 && x.dim() == 2;
  check_features(name_, x, features_, flat ? 0 : spatial_dims_, true);
  if (by_batch && x.numel() == features_)
    fail("ERR_SHAPE_MISMATCH", name_, ": expected more than one value per channel to normalise by, got ",
         describe(x), "; use a larger batch, or eval()");
}

double BatchNorm::count_batch(const optional<at::Tensor>& num_batches_tracked) const {
  if (!num_batches_tracked) return momentum_.value_or(0.0);
  auto count = num_batches_tracked->add_(1);
  if (momentum_) return *momentum_;
  trace::note_read(trace::Read::Value, "the number of batches, which momentum null needs", count);
  return 1.0 / count.item<double>();
}

at::Tensor BatchNorm::forward(bool training, const at::Tensor& x, const optional<at::Tensor>& weight,
                              const optional<at::Tensor>& bias, const optional<at::Tensor>& running_mean,
                              const optional<at::Tensor>& running_var,
                              const optional<at::Tensor>& num_batches_tracked,
                              const optional<at::Tensor>& added, int64_t activation) const {
  bool by_batch = training || !running_mean;
  check(x, by_batch);
  auto momentum = training ? count_batch(num_batches_tracked) : 0.0;
  return batch_norm({x, weight, bias, running_mean, running_var, by_batch, momentum, eps_, added,
                     static_cast<Activation>(activation)});
}

// ---- GroupNorm

GroupNorm::GroupNorm(const Options& options)
    : name_(options.name()),
      groups_(options.integer("numGroups", 1)),
      channels_(options.integer("numChannels", 1)),
      eps_(options.number("eps")) {
  if (channels_ % groups_ != 0)
    options.refuse("numChannels", "expected a multiple of numGroups (", groups_, "), got ", channels_);
}

at::Tensor GroupNorm::forward(const at::Tensor& x, const optional<at::Tensor>& weight,
                              const optional<at::Tensor>& bias) const {
  if (x.dim() < 2)
    fail("ERR_SHAPE_MISMATCH", name_, ": expected features (N, ", channels_, ", …), got ", describe(x));
  if (x.size(1) != channels_)
    fail("ERR_CHANNEL_MISMATCH", name_, ": expected features with ", channels_, " channels (N, ", channels_,
         ", …), got ", describe(x));
  return at::group_norm(x, groups_, weight, bias, eps_, at::globalContext().userEnabledCuDNN());
}

// ---- LayerNorm

LayerNorm::LayerNorm(const Options& options)
    : name_(options.name()),
      normalized_shape_(
          to_integers(options.value("normalizedShape"), options.label("normalizedShape").c_str())),
      eps_(options.number("eps")) {
  if (normalized_shape_.empty()) options.refuse("normalizedShape", "expected at least one dimension, got []");
}

at::Tensor LayerNorm::forward(const at::Tensor& x, const optional<at::Tensor>& weight,
                              const optional<at::Tensor>& bias) const {
  auto sizes = x.sizes();
  auto count = normalized_shape_.size();
  if (sizes.size() < count || sizes.slice(sizes.size() - count) != at::IntArrayRef(normalized_shape_))
    fail("ERR_SHAPE_MISMATCH", name_, ": expected features (…, ", c10::Join(", ", normalized_shape_),
         "), got ", describe(x));
  return at::layer_norm(x, normalized_shape_, weight, bias, eps_, at::globalContext().userEnabledCuDNN());
}

}  // namespace alambic
