// Calls of the commonest forms: one tensor, two, or a tensor and a number, to an operator that returns a new
// tensor or changes its first. They do without a boxed stack and, for a new tensor made of such as have
// nothing to do with autograd, without its kernels.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <array>
#include <variant>

#include "compat.h"

namespace alambic {

// Numbers as zero-dimensional tensors, made once: the same few come again and again.
class NumberTensors {
 public:
  // What PyTorch makes of a number beside a tensor of this dtype; nullptr where it could decide about the
  // result's dtype or precision, and for numbers that the dtype cannot hold.
  const at::Tensor* get(double value, at::ScalarType beside);

 private:
  struct Entry {
    double value;
    at::Tensor tensor;
  };
  std::array<Entry, 64> entries_;
};

class Shortcut {
 public:
  Shortcut() = default;
  // For tensors in the place of all arguments without a default; empty when the operator's form is another
  // one.
  static Shortcut for_tensors(const c10::OperatorHandle& op);
  // For a tensor and a number, from the overload `Scalar`, which these operators define by their overload
  // `Tensor`.
  static Shortcut for_number(const c10::OperatorHandle& op);

  bool takes_one() const { return target_.index() == 1 || target_.index() == 2; }
  bool takes_two() const { return target_.index() > 2; }
  bool is_in_place() const { return target_.index() > 4; }
  at::Tensor call(const at::Tensor& a) const;
  at::Tensor call(const at::Tensor& a, const at::Tensor& b) const;
  void call_in_place(at::Tensor a, const at::Tensor& b) const;

 private:
  template <typename... Others>
  using New = at::Tensor(const at::Tensor&, Others...);
  template <typename... Others>
  using InPlace = at::Tensor&(at::Tensor&, Others...);

  using Unary = c10::TypedOperatorHandle<New<>>;
  using UnaryTyped = c10::TypedOperatorHandle<New<optional<at::ScalarType>>>;  // sum, mean
  using Binary = c10::TypedOperatorHandle<New<const at::Tensor&>>;
  using BinaryScaled = c10::TypedOperatorHandle<New<const at::Tensor&, const at::Scalar&>>;
  using BinaryInPlace = c10::TypedOperatorHandle<InPlace<const at::Tensor&>>;
  using BinaryScaledInPlace = c10::TypedOperatorHandle<InPlace<const at::Tensor&, const at::Scalar&>>;

  std::variant<std::monostate, Unary, UnaryTyped, Binary, BinaryScaled, BinaryInPlace, BinaryScaledInPlace>
      target_;
  at::Scalar scale_;  // the default of the third argument: alpha
};

}  // namespace alambic
