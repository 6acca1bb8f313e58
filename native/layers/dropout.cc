#include "layers/dropout.h"

#include "layers/checks.h"

namespace alambic {

Dropout::Dropout(const Options& options)
    : name_(options.name()),
      p_(options.number("p")),
      whole_channels_(options.flag("wholeChannels")),
      inplace_(options.flag("inplace")) {
  if (!(p_ >= 0 && p_ <= 1)) options.refuse("p", "expected a probability from 0 to 1, got ", p_);
}

at::Tensor Dropout::forward(bool training, const at::Tensor& x) const {
  if (whole_channels_) check_images(name_, x);
  auto target = x;
  if (inplace_)
    return whole_channels_ ? at::feature_dropout_(target, p_, training) : at::dropout_(target, p_, training);
  return whole_channels_ ? at::feature_dropout(x, p_, training) : at::dropout(x, p_, training);
}

}  // namespace alambic
