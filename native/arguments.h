// The values of an operator's call, and what they become by the operator's schema.
#pragma once
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <vector>

#include "environment.h"
#include "operators.h"

namespace alambic {

// What a value of a call is: the same numbers as in lib/native/contract.ts.
enum class Tag : uint8_t {
  Other,  // any JavaScript value
  Tensor,
  Number,
  Boolean,
  Null,
  Word,
  TensorList,
  NumberList,
  Generator,
};

struct Argument {
  Tag tag;
  napi_valuetype type;       // of an Other
  double number;             // a Number, or a Boolean as 0 or 1
  const at::Tensor* tensor;  // a Tensor
  const double* list;        // the elements of a list: numbers, or handles with 0 for null
  size_t length;
  Word* word;
  napi_value value;  // an Other or a Generator
};

// What travels outside of the call buffer.
struct Others {
  const napi_value* values;
  size_t count;
};

// Reads `count` values from the call buffer. Throws ERR_TENSOR_RELEASED and the like for a handle,
// ERR_ARGUMENT for what no call of `lib/torch/call.ts` would write.
void read_arguments(Environment& environment, Others others, Argument* arguments, size_t count);

class Reader {
 public:
  explicit Reader(Environment& environment) : environment_(environment), env_(environment.env) {}

  // Could this value be meant for the parameter? Cheap, without conversion. `lenient` lets numbers stand for
  // tensors.
  bool matches(const Parameter& parameter, const Argument& argument, bool lenient) const {
    if (argument.tag == Tag::Tensor) return parameter.kind == Kind::Tensor;
    return value_matches(parameter, argument, lenient);
  }
  // A value that matches.
  at::IValue convert(const Parameter& parameter, const Argument& argument) const;
  // For messages: "float32 (2, 3)", "[1, 2]", "true" …
  std::string show(const Argument& argument) const;

  // As the types of C++, of values that match.
  at::Tensor tensor(const Argument& argument) const;
  std::vector<at::Tensor> tensors(const Argument& argument) const;
  at::Scalar scalar(const Argument& argument) const;
  int64_t integer(const Argument& argument) const;
  double number(const Argument& argument) const;
  bool boolean(const Argument& argument) const;
  std::string text(const Argument& argument) const;
  at::ScalarType dtype(const Argument& argument) const;
  at::Layout layout(const Argument& argument) const;
  at::MemoryFormat memory_format(const Argument& argument) const;
  at::Device device(const Argument& argument) const;
  at::Generator generator(const Argument& argument) const;
  // With one number as often as the parameter takes it for.
  std::vector<double> float_list(const Parameter& parameter, const Argument& argument) const;
  // Calls `add` with each integer of a list, or likewise.
  template <typename Add>
  void each_integer(const Parameter& parameter, const Argument& argument, Add add) const {
    if (argument.tag == Tag::NumberList) {
      for (size_t i = 0; i < argument.length; i++) add(static_cast<int64_t>(argument.list[i]));
    } else if (argument.tag == Tag::Number) {
      for (int32_t i = 0; i < parameter.broadcast; i++) add(static_cast<int64_t>(argument.number));
    } else {
      for (auto each : other_integers(argument)) add(each);
    }
  }

 private:
  bool value_matches(const Parameter& parameter, const Argument& argument, bool lenient) const;
  bool number_matches(const Parameter& parameter, double number, bool lenient) const;
  bool string_matches(const Parameter& parameter, bool is_dtype) const;
  bool other_matches(const Parameter& parameter, const Argument& argument) const;
  bool list_matches(const Parameter& parameter, napi_value array) const;
  template <typename Predicate>
  bool all_elements(napi_value array, Predicate predicate) const;

  napi_value element(napi_value array, uint32_t index) const;
  uint32_t array_length(napi_value array) const;
  // An element of a list that travelled as a JavaScript array.
  Argument element_argument(napi_value array, uint32_t index) const;
  std::vector<int64_t> other_integers(const Argument& argument) const;

  c10::List<at::Tensor> tensor_list(const Argument& argument) const;
  c10::List<optional<at::Tensor>> optional_tensor_list(const Argument& argument) const;
  c10::List<at::Scalar> scalar_list(const Argument& argument) const;
  std::vector<int64_t> integer_list(const Parameter& parameter, const Argument& argument) const;
  c10::List<bool> bool_list(const Argument& argument) const;
  c10::List<std::string> string_list(const Argument& argument) const;

  Environment& environment_;
  napi_env env_;
};

}  // namespace alambic
