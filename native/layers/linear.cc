#include "layers/linear.h"

#include "autograd/autocast.h"
#include "layers/checks.h"
#include "tensors/values.h"

namespace alambic {

Linear::Linear(const Options& options)
    : name_(options.name()), in_features_(options.integer("inFeatures", 1)) {
  options.integer("outFeatures", 1);
}

at::Tensor Linear::forward(const at::Tensor& x, const at::Tensor& weight,
                           const optional<at::Tensor>& bias) const {
  if (x.dim() == 0 || x.size(-1) != in_features_)
    fail("ERR_SHAPE_MISMATCH", name_, ": expected features (…, ", in_features_, "), got ", describe(x));
  auto input = autocast(x), matrix = autocast(weight);
  check_dtype(name_, input, matrix);
  return at::linear(input, matrix, autocast(bias));
}

}  // namespace alambic
