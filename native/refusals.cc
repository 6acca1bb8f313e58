#include "refusals.h"

#include <unordered_map>

#include "errors.h"
#include "values.h"

namespace alambic {

namespace {

// Found by `npm run fuzz operators`, which calls every operator with tensors of every kind in every place.
constexpr Refusal refusals[] = {
    {"", 0, ""},
};

}  // namespace

uint32_t traits_of(const at::Tensor& tensor) {
  uint32_t traits = 0;
  auto dtype = tensor.scalar_type();
  auto layout = tensor.layout();
  if (tensor.is_meta()) traits |= is_on_meta;
  if (layout == at::kMkldnn) traits |= is_opaque;
  if (layout != at::kMkldnn && layout != at::kStrided) traits |= is_sparse_tensor;
  if (tensor.is_quantized()) traits |= is_quantized_tensor;
  if (tensor.is_nested()) return traits | is_nested_tensor;  // has no sizes
  if (tensor.is_complex()) traits |= is_complex_tensor;
  if (tensor.numel() == 0) traits |= is_without_elements;
  if (tensor.dim() == 0) traits |= is_zero_dimensional;
  if (dtype != at::kFloat && dtype != at::kDouble) traits |= is_of_other_dtype;
  return traits;
}

const Refusal* find_refusal(const std::string& qualified_name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, const Refusal*> map;
    for (const auto& each : refusals) map.emplace(each.name, &each);
    return map;
  }();
  auto found = by_name.find(qualified_name);
  return found == by_name.end() ? nullptr : found->second;
}

void check_refusal(const Refusal& refusal, const std::string& name, const at::Tensor& tensor) {
  if (refusal.traits != 0 && (!tensor.defined() || (traits_of(tensor) & refusal.traits) == 0)) return;
  fail("ERR_NOT_IMPLEMENTED", name, ": ", refusal.reason, " (", describe(tensor), ")");
}

}  // namespace alambic
