#include "shortcut.h"

#include <ATen/core/LegacyTypeDispatch.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace alambic {

namespace {

// Arguments that nothing is written to, and one result that shares no memory with them.
bool is_functional(const c10::FunctionSchema& schema) {
  for (const auto& argument : schema.arguments())
    if (argument.alias_info()) return false;
  return schema.returns().size() == 1 && !schema.returns()[0].alias_info() &&
         schema.returns()[0].type()->kind() == c10::TypeKind::TensorType;
}

bool is_tensor(const c10::Argument& argument) { return argument.type()->kind() == c10::TypeKind::TensorType; }
bool has_number_default(const c10::Argument& argument) {
  return argument.type()->kind() == c10::TypeKind::NumberType && argument.default_value();
}

// Operators whose overload Scalar is their overload Tensor with the number as a tensor.
const std::set<std::string> with_numbers_as_tensors = {
    "aten::add", "aten::sub", "aten::mul", "aten::div", "aten::eq",
    "aten::ne",  "aten::lt",  "aten::le",  "aten::gt",  "aten::ge",
};

// Neither it nor what it is a view of can require a gradient: autograd would find nothing to record.
bool is_unknown_to_autograd(const at::Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->autograd_meta() == nullptr;
}

template <typename Call>
at::Tensor without_autograd_if(bool is_unknown, Call call) {
  if (!is_unknown) return call();
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  return call();
}

bool is_same_number(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

const at::Tensor* NumberTensors::get(double value, at::ScalarType beside) {
  bool fits =
      beside == at::kDouble || (beside == at::kFloat && std::abs(value) <= std::numeric_limits<float>::max());
  if (!fits) return nullptr;
  auto& entry = entries_[(std::hash<double>()(value) ^ static_cast<size_t>(beside)) % entries_.size()];
  bool is_known =
      entry.tensor.defined() && is_same_number(entry.value, value) && entry.tensor.scalar_type() == beside;
  if (!is_known) {
    entry = {value, at::scalar_tensor(value, at::TensorOptions().dtype(beside))};
    entry.tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  return &entry.tensor;
}

Shortcut Shortcut::for_tensors(const c10::OperatorHandle& op) {
  Shortcut shortcut;
  const auto& arguments = op.schema().arguments();
  if (!is_functional(op.schema()) || arguments.empty() || !is_tensor(arguments[0])) return shortcut;
  try {
    if (arguments.size() == 1) {
      shortcut.target_ = op.typed<at::Tensor(const at::Tensor&)>();
    } else if (is_tensor(arguments[1]) && arguments.size() == 2) {
      shortcut.target_ = op.typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
    } else if (is_tensor(arguments[1]) && arguments.size() == 3 && has_number_default(arguments[2])) {
      shortcut.target_ = op.typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Scalar&)>();
      shortcut.scale_ = arguments[2].default_value()->toScalar();
    }
  } catch (const c10::Error&) {
    // An operator of a custom library that takes its tensors in another way than by reference.
    return Shortcut();
  }
  return shortcut;
}

Shortcut Shortcut::for_number(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name();
  if (name.overload_name != "Scalar" || with_numbers_as_tensors.count(name.name) == 0) return Shortcut();
  auto of_tensors = c10::Dispatcher::singleton().findSchema({name.name, "Tensor"});
  return of_tensors ? for_tensors(*of_tensors) : Shortcut();
}

at::Tensor Shortcut::call(const at::Tensor& a) const {
  return without_autograd_if(is_unknown_to_autograd(a), [&] { return std::get<Unary>(target_).call(a); });
}

at::Tensor Shortcut::call(const at::Tensor& a, const at::Tensor& b) const {
  return without_autograd_if(is_unknown_to_autograd(a) && is_unknown_to_autograd(b), [&] {
    if (const auto* binary = std::get_if<Binary>(&target_)) return binary->call(a, b);
    return std::get<BinaryScaled>(target_).call(a, b, scale_);
  });
}

}  // namespace alambic
