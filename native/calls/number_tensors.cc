#include "calls/number_tensors.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace alambic {

namespace {

bool is_same_number(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

bool takes_numbers_as_tensors(const std::string& qualified_name) {
  static const std::set<std::string> names = {
      "aten::add",          "aten::add_",      "aten::sub",    "aten::sub_",     "aten::mul",
      "aten::mul_",         "aten::div",       "aten::div_",   "aten::subtract", "aten::subtract_",
      "aten::multiply",     "aten::multiply_", "aten::divide", "aten::divide_",  "aten::true_divide",
      "aten::true_divide_", "aten::eq",        "aten::ne",     "aten::lt",       "aten::le",
      "aten::gt",           "aten::ge",
  };
  return names.count(qualified_name) > 0;
}

bool rounds_numbers(const std::string& qualified_name, at::ScalarType dtype) {
  return (dtype == at::kHalf || dtype == at::kBFloat16) &&
         (qualified_name == "aten::mul_" || qualified_name == "aten::multiply_");
}

const at::Tensor* NumberTensors::get(double value, at::ScalarType beside) {
  bool fits =
      beside == at::kDouble || (beside == at::kFloat && std::abs(value) <= std::numeric_limits<float>::max());
  // Kernels for half precisions compute in float32: in its neighbour's dtype the number would lose digits.
  bool is_half = beside == at::kHalf || beside == at::kBFloat16;
  bool is_complex = beside == at::kComplexDouble ||
                    (beside == at::kComplexFloat && std::abs(value) <= std::numeric_limits<float>::max());
  if (!fits && !is_half && !is_complex) return nullptr;
  auto dtype = fits ? beside : at::kDouble;
  auto& entry = entries_[(std::hash<double>()(value) ^ static_cast<size_t>(beside)) % entries_.size()];
  bool is_known =
      entry.tensor.defined() && is_same_number(entry.value, value) && entry.tensor.scalar_type() == dtype;
  if (!is_known) {
    entry = {value, at::scalar_tensor(value, at::TensorOptions().dtype(dtype))};
    entry.tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  return &entry.tensor;
}

}  // namespace alambic
