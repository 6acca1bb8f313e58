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

// Nothing is written to but the first argument, which is the result.
bool changes_first(const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  for (size_t i = 0; i < arguments.size(); i++)
    if ((arguments[i].alias_info() != nullptr) != (i == 0)) return false;
  return !arguments.empty() && arguments[0].alias_info()->isWrite() && schema.returns().size() == 1 &&
         schema.returns()[0].alias_info() && *schema.returns()[0].alias_info() == *arguments[0].alias_info();
}

bool is_tensor(const c10::Argument& argument) { return argument.type()->kind() == c10::TypeKind::TensorType; }
bool has_number_default(const c10::Argument& argument) {
  return argument.type()->kind() == c10::TypeKind::NumberType && argument.default_value();
}

// `ScalarType? dtype=None`
bool is_optional_dtype(const c10::Argument& argument) {
  const auto& type = argument.real_type();
  return type->kind() == c10::TypeKind::OptionalType && argument.default_value() &&
         argument.default_value()->isNone() &&
         type->castRaw<c10::OptionalType>()->getElementType()->kind() == c10::TypeKind::ScalarTypeType;
}

// Operators whose overload Scalar is their overload Tensor with the number as a tensor.
const std::set<std::string> with_numbers_as_tensors = {
    "aten::add",  "aten::add_", "aten::sub", "aten::sub_", "aten::mul", "aten::mul_", "aten::div",
    "aten::div_", "aten::eq",   "aten::ne",  "aten::lt",   "aten::le",  "aten::gt",   "aten::ge",
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
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  bool is_new = is_functional(schema);
  if (!is_new && !changes_first(schema)) return {};
  bool takes_one = arguments.size() == 1 && is_tensor(arguments[0]);
  bool takes_dtype = arguments.size() == 2 && is_tensor(arguments[0]) && is_optional_dtype(arguments[1]);
  bool takes_two = arguments.size() >= 2 && is_tensor(arguments[0]) && is_tensor(arguments[1]);
  bool is_scaled = arguments.size() == 3 && has_number_default(arguments[2]);

  Shortcut shortcut;
  if (is_scaled) shortcut.scale_ = arguments[2].default_value()->toScalar();
  try {
    if (takes_one && is_new)
      shortcut.target_ = op.typed<New<>>();
    else if (takes_dtype && is_new)
      shortcut.target_ = op.typed<New<optional<at::ScalarType>>>();
    else if (takes_two && arguments.size() == 2 && is_new)
      shortcut.target_ = op.typed<New<const at::Tensor&>>();
    else if (takes_two && arguments.size() == 2)
      shortcut.target_ = op.typed<InPlace<const at::Tensor&>>();
    else if (takes_two && is_scaled && is_new)
      shortcut.target_ = op.typed<New<const at::Tensor&, const at::Scalar&>>();
    else if (takes_two && is_scaled)
      shortcut.target_ = op.typed<InPlace<const at::Tensor&, const at::Scalar&>>();
  } catch (const c10::Error&) {
    // An operator of a custom library that takes its tensors in another way than by reference.
    return {};
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
  return without_autograd_if(is_unknown_to_autograd(a), [&] {
    if (const auto* unary = std::get_if<Unary>(&target_)) return unary->call(a);
    return std::get<UnaryTyped>(target_).call(a, nullopt);
  });
}

at::Tensor Shortcut::call(const at::Tensor& a, const at::Tensor& b) const {
  return without_autograd_if(is_unknown_to_autograd(a) && is_unknown_to_autograd(b), [&] {
    if (const auto* binary = std::get_if<Binary>(&target_)) return binary->call(a, b);
    return std::get<BinaryScaled>(target_).call(a, b, scale_);
  });
}

void Shortcut::call_in_place(at::Tensor a, const at::Tensor& b) const {
  if (const auto* binary = std::get_if<BinaryInPlace>(&target_))
    binary->call(a, b);
  else
    std::get<BinaryScaledInPlace>(target_).call(a, b, scale_);
}

}  // namespace alambic
