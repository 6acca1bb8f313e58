#include "layers/pooling.h"

#include "layers/checks.h"
#include "tensors/values.h"

namespace alambic {

namespace {

std::vector<int64_t> padding_within(const Options& options, const std::vector<int64_t>& kernel) {
  auto padding = options.integers("padding", 2, 0);
  for (size_t i = 0; i < 2; i++)
    if (padding[i] > kernel[i] / 2)
      options.refuse("padding", "expected at most half of kernelSize [", c10::Join(", ", kernel), "], got [",
                     c10::Join(", ", padding), "]");
  return padding;
}

}  // namespace

MaxPool2d::MaxPool2d(const Options& options)
    : name_(options.name()),
      kernel_size_(options.integers("kernelSize", 2, 1)),
      stride_(options.integers("stride", 2, 1)),
      padding_(padding_within(options, kernel_size_)),
      dilation_(options.integers("dilation", 2, 1)),
      ceil_mode_(options.flag("ceilMode")) {}

at::Tensor MaxPool2d::forward(const at::Tensor& x) const {
  check_images(name_, x);
  return at::max_pool2d(x, kernel_size_, stride_, padding_, dilation_, ceil_mode_);
}

AvgPool2d::AvgPool2d(const Options& options)
    : name_(options.name()),
      kernel_size_(options.integers("kernelSize", 2, 1)),
      stride_(options.integers("stride", 2, 1)),
      padding_(padding_within(options, kernel_size_)),
      ceil_mode_(options.flag("ceilMode")),
      count_include_pad_(options.flag("countIncludePad")) {
  if (!options.is_null("divisorOverride")) divisor_override_ = options.integer("divisorOverride", 1);
}

at::Tensor AvgPool2d::forward(const at::Tensor& x) const {
  check_images(name_, x);
  return at::avg_pool2d(x, kernel_size_, stride_, padding_, ceil_mode_, count_include_pad_,
                        divisor_override_);
}

AdaptivePool2d::AdaptivePool2d(const Options& options)
    : name_(options.name()),
      maximum_(options.flag("maximum")),
      output_size_(options.integers("outputSize", 2, -1)) {}

at::Tensor AdaptivePool2d::forward(const at::Tensor& x) const {
  check_images(name_, x);
  auto size = output_size_;
  for (int64_t i = 0; i < 2; i++)
    if (size[i] < 0) size[i] = x.size(i - 2);
  return maximum_ ? std::get<0>(at::adaptive_max_pool2d(x, size)) : at::adaptive_avg_pool2d(x, size);
}

}  // namespace alambic
