// Calls of operators by their C++ signature: without a boxed stack, whose lists cost as much as `view`
// itself. For the signatures that are listed in unboxed.cc; other operators are called boxed.
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <vector>

namespace alambic {

class Reader;
struct Argument;
struct Overload;

class UnboxedCall {
 public:
  virtual ~UnboxedCall() = default;
  // The result; none of an operator that changes its first argument.
  virtual at::Tensor call(const Reader& reader, const Argument* arguments) const = 0;
  // Nanoseconds of one call, without the conversion of its arguments: the mean of so many.
  virtual double time(const Reader& reader, const Argument* arguments, size_t calls) const = 0;

  // Null where the operator has another signature. `source`: for each parameter the index of the argument
  // that fills it, or -1.
  static std::unique_ptr<UnboxedCall> of(const Overload& overload, const std::vector<int>& source);
};

}  // namespace alambic
