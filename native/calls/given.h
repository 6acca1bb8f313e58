// The values of a call under the names of the schema's parameters.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "calls/arguments.h"
#include "calls/operators.h"

namespace alambic {

class Given {
 public:
  Given(const Plan& plan, const Candidate& candidate, const Argument* arguments, const Reader& reader)
      : plan_(plan), candidate_(candidate), arguments_(arguments), reader_(reader) {}

  // Whether the overload has such a parameter.
  bool declares(const char* parameter) const;
  bool has(const char* parameter) const { return find(parameter) != nullptr; }
  bool is_tensor(const char* parameter) const;
  bool boolean(const char* parameter, bool otherwise) const;
  at::Layout layout(const char* parameter, at::Layout otherwise) const;
  // Undefined where none was given. A number becomes a tensor.
  at::Tensor tensor(const char* parameter) const;
  // Empty where none was given.
  std::vector<at::Tensor> tensors(const char* parameter) const;
  // Of a list of tensors, among which null may be.
  int64_t length(const char* parameter) const;
  at::ScalarType dtype(const char* parameter, at::ScalarType otherwise) const;
  int64_t integer(const char* parameter, int64_t otherwise) const;
  double number(const char* parameter, double otherwise) const;
  std::vector<int64_t> integers(const char* parameter) const;
  // All tensors of the call, also those in lists.
  std::vector<at::Tensor> all_tensors() const;

  // Throws ERR_SHAPE_MISMATCH or what else `code` says: "operator: parameter: expected …, got …".
  [[noreturn]] void refuse(const char* code, const char* parameter, const std::string& expected,
                           const std::string& got) const;

 private:
  // Null where the parameter was left at its default, or null was given.
  const Argument* find(const char* parameter) const;

  const Plan& plan_;
  const Candidate& candidate_;
  const Argument* arguments_;
  const Reader& reader_;
};

}  // namespace alambic
