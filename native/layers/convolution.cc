#include "layers/convolution.h"

#include <algorithm>

#include "autograd/autocast.h"
#include "layers/checks.h"
#include "tensors/values.h"

namespace alambic {

Convolution::Convolution(const Options& options) : name_(options.name()) {
  spatial_dims_ = options.integer("spatialDims", 1);
  auto dims = static_cast<size_t>(spatial_dims_);
  in_channels_ = options.integer("inChannels", 1);
  groups_ = options.integer("groups", 1);
  for (auto key : {"inChannels", "outChannels"})
    if (auto channels = options.integer(key, 1); channels % groups_ != 0)
      options.refuse(key, "expected a multiple of groups (", groups_, "), got ", channels);
  stride_ = options.integers("stride", dims, 1);
  dilation_ = options.integers("dilation", dims, 1);
  transposed_ = options.flag("transposed");
  output_padding_ = options.integers("outputPadding", dims, 0);
  decode_padding(options, options.integers("kernelSize", dims, 1));
}

void Convolution::decode_padding(const Options& options, const std::vector<int64_t>& kernel) {
  auto dims = kernel.size();
  std::vector<int64_t> left(dims, 0), right(dims, 0);
  if (!options.is_text("padding")) {
    left = right = options.integers("padding", dims, 0);
  } else if (auto word = options.text("padding"); word == "same" && !transposed_) {
    if (std::any_of(stride_.begin(), stride_.end(), [](int64_t each) { return each != 1; }))
      options.refuse("padding", "\"same\" needs stride 1, got stride [", c10::Join(", ", stride_), "]");
    for (size_t i = 0; i < dims; i++) {
      int64_t total;
      bool overflow = __builtin_mul_overflow(dilation_[i], kernel[i] - 1, &total);
      if (overflow) options.refuse("dilation", "expected a kernel that can be counted, got ", dilation_[i]);
      left[i] = total / 2;
      right[i] = total - left[i];
    }
  } else if (word != "valid" || transposed_) {
    options.refuse("padding", "expected integers", transposed_ ? "" : ", \"same\" or \"valid\"", ", got \"",
                   word, "\"");
  }

  auto mode = options.text("paddingMode");
  if (mode == "zeros") {
    padding_ = left;
    // An even kernel needs one more on the right, which the convolution itself can't do.
    for (size_t i = 0; i < dims; i++) right[i] -= left[i];
    pad_explicitly("constant", std::vector<int64_t>(dims, 0), right);
  } else if (!transposed_ && (mode == "reflect" || mode == "replicate" || mode == "circular")) {
    padding_.assign(dims, 0);
    pad_explicitly(mode, left, right);
  } else {
    options.refuse("paddingMode", "expected \"zeros\"",
                   transposed_ ? "" : ", \"reflect\", \"replicate\" or \"circular\"", ", got \"", mode, "\"");
  }
}

void Convolution::pad_explicitly(const std::string& mode, const std::vector<int64_t>& left,
                                 const std::vector<int64_t>& right) {
  explicit_mode_ = mode;
  bool any = false;
  for (auto i = left.size(); i-- > 0;) {
    explicit_padding_.insert(explicit_padding_.end(), {left[i], right[i]});
    any = any || left[i] > 0 || right[i] > 0;
  }
  if (!any) explicit_padding_.clear();
}

at::Tensor Convolution::forward(const at::Tensor& x, const at::Tensor& weight,
                                const optional<at::Tensor>& bias) const {
  check_features(name_, x, in_channels_, spatial_dims_, false);
  // Within autocast, libtorch casts the arguments of conv2d, but those of convolution on GPUs only.
  bool casts = !transposed_ || compat::has_transposed_bfloat16 || !x.device().is_cpu();
  auto input = casts ? autocast(x) : x, kernel = casts ? autocast(weight) : weight;
  check_dtype(name_, input, kernel);
  auto padded = explicit_padding_.empty() ? input : at::pad(input, explicit_padding_, explicit_mode_);
  auto convolve = [&](const at::Tensor& batch) {
    return at::convolution(batch, kernel, casts ? autocast(bias) : bias, stride_, padding_, dilation_,
                           transposed_, output_padding_, groups_);
  };
  return x.dim() == spatial_dims_ + 2 ? convolve(padded) : convolve(padded.unsqueeze(0)).squeeze(0);
}

}  // namespace alambic
