// The values of an operator's call, and what they become by the operator's schema.
#pragma once
#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>
#include <vector>

#include "calls/operators.h"
#include "environment.h"

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

// A JavaScript value that is no number, copied: nothing of JavaScript runs when it is looked at.
struct Plain {
  enum class Type : uint8_t {
    Boolean,
    Number,
    BigInt,
    String,
    Complex,  // { re, im }
    List,
    Unknown,
  };
  Type type = Type::Unknown;
  double number = 0;            // a Number, a Boolean as 0 or 1, or the real part of a Complex
  double imaginary = 0;         // of a Complex
  int64_t integer = 0;          // a BigInt
  bool is_lossless = true;      // whether the BigInt fits into 64 bits
  std::string text;             // a String; of an Unknown what messages call it
  std::vector<Plain> elements;  // of a List, none of which is a List
};

struct Argument {
  Tag tag;
  double number;             // a Number, a Boolean as 0 or 1, or of a Null 1 where it was undefined
  const at::Tensor* tensor;  // a Tensor
  const double* list;        // the elements of a list: numbers, or handles with 0 for null
  size_t length;
  Word* word;
  const Plain* plain;  // an Other
  napi_value value;    // a Generator
};

// What travels outside of the call buffer.
struct Others {
  const napi_value* values;
  size_t count;
};

// What the arguments of a call refer to where some of it is JavaScript's.
struct Copies {
  std::vector<double> numbers;  // of the call buffer
  std::vector<Plain> values;
};

// Reads `count` values from the call buffer. Throws ERR_TENSOR_RELEASED and the like for a handle,
// ERR_ARGUMENT for what no call of `lib/calls/call.ts` would write.
//
// To read a JavaScript object can run JavaScript (getters, proxies), which may release tensors, and make
// calls of its own in the same buffer. Such objects are copied first, with the buffer as it was before; what
// an argument points to in the handle table, among the words and in the buffer is looked up afterwards, and
// from then on no JavaScript runs until the operator has returned.
void read_arguments(Environment& environment, Others others, Argument* arguments, size_t count,
                    Copies& copies);

// 0, which names no tensor, for a number that is no handle.
inline Handle handle_of(double number) {
  return number >= 0 && number < 9007199254740992.0 ? static_cast<Handle>(number) : Handle{0};
}

bool is_integer(double number);

// A copy. Runs JavaScript where the value is an object or a list.
Plain to_plain(const Napi::Value& value);
// For messages.
std::string show_plain(const Plain& value);

// Of a whole Number or a BigInt. Throws ERR_ARGUMENT for one that does not fit into 64 bits.
int64_t to_integer(const Plain& value);

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
  // Of a list of tensors, the one at an index; undefined for null.
  at::Tensor listed(const Argument& list, size_t index) const;
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
      for (const auto& each : argument.plain->elements) add(to_integer(each));
    }
  }

 private:
  bool value_matches(const Parameter& parameter, const Argument& argument, bool lenient) const;
  bool number_matches(const Parameter& parameter, double number, bool lenient) const;
  bool string_matches(const Parameter& parameter, bool is_dtype) const;
  bool plain_matches(const Parameter& parameter, const Plain& value) const;
  bool list_matches(const Parameter& parameter, const std::vector<Plain>& elements) const;

  at::Scalar scalar(const Plain& value) const;
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
