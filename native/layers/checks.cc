#include "layers/checks.h"

#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

const char* spatial_letters(int64_t spatial_dims) {
  constexpr const char* letters[] = {"", ", L", ", H, W", ", D, H, W"};
  return spatial_dims >= 0 && spatial_dims <= 3 ? letters[spatial_dims] : ", …";
}

}  // namespace

std::string feature_layout(int64_t channels, int64_t spatial_dims) {
  return c10::str("(N, ", channels, spatial_letters(spatial_dims), ")");
}

void check_features(const std::string& name, const at::Tensor& x, int64_t channels, int64_t spatial_dims,
                    bool batched) {
  auto channel_dim = x.dim() - 1 - spatial_dims;
  if (channel_dim != 1 && (batched || channel_dim != 0))
    fail("ERR_SHAPE_MISMATCH", name, ": expected features ", feature_layout(channels, spatial_dims),
         batched ? std::string() : c10::str(" or (", channels, spatial_letters(spatial_dims), ")"), ", got ",
         describe(x));
  if (x.size(channel_dim) != channels)
    fail("ERR_CHANNEL_MISMATCH", name, ": expected features with ", channels,
         channels == 1 ? " channel " : " channels ", feature_layout(channels, spatial_dims), ", got ",
         describe(x));
}

void check_images(const std::string& name, const at::Tensor& x) {
  if (x.dim() != 3 && x.dim() != 4)
    fail("ERR_SHAPE_MISMATCH", name, ": expected features (N, C, H, W) or (C, H, W), got ", describe(x));
}

void check_dtype(const std::string& name, const at::Tensor& x, const at::Tensor& weight) {
  if (x.scalar_type() == weight.scalar_type()) return;
  auto own = dtype_name(weight.scalar_type()), given = dtype_name(x.scalar_type());
  // No layer computes in integers.
  auto or_the_layer = at::isIntegralType(x.scalar_type(), /*includeBool=*/true)
                          ? std::string()
                          : c10::str(" or the layer with .to('", given, "')");
  fail("ERR_DTYPE", name, ": expected ", own, " as its weight is, got ", describe(x),
       "; convert the input with .to('", own, "')", or_the_layer);
}

}  // namespace alambic
