#include "calls/arguments.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "errors.h"
#include "random/generator.h"
#include "tensors/values.h"

namespace alambic {

namespace {

[[noreturn]] void not_a_call() { fail("ERR_ARGUMENT", "call: expected the values of a planned call"); }

// JavaScript has one kind of number: whole ones are integers, so that integer tensors stay integer. -0 is not
// whole.
at::Scalar to_scalar(double number) {
  if (is_integer(number) && !(number == 0 && std::signbit(number))) return static_cast<int64_t>(number);
  return number;
}

template <typename Show>
std::string show_list(const Argument& argument, size_t most, Show show_element) {
  std::ostringstream list;
  list << "[";
  for (size_t i = 0; i < std::min(argument.length, most); i++)
    list << (i ? ", " : "") << show_element(argument.list[i]);
  if (argument.length > most) list << ", … " << argument.length << " in all";
  list << "]";
  return list.str();
}

Plain unknown(const char* name) {
  Plain plain;
  plain.text = name;
  return plain;
}

Plain number_of(Plain::Type type, double number) {
  Plain plain;
  plain.type = type;
  plain.number = number;
  return plain;
}

Plain copy_bigint(const Napi::Value& value) {
  Plain plain;
  plain.type = Plain::Type::BigInt;
  plain.integer = value.As<Napi::BigInt>().Int64Value(&plain.is_lossless);
  return plain;
}

Plain copy_object(const Napi::Object& object) {
  auto re = object.Get("re"), im = object.Get("im");
  if (!re.IsNumber() || !im.IsNumber()) return unknown("an object");
  auto plain = number_of(Plain::Type::Complex, re.As<Napi::Number>().DoubleValue());
  plain.imaginary = im.As<Napi::Number>().DoubleValue();
  return plain;
}

// Runs JavaScript where the value is an object or a list.
Plain copy_value(const Napi::Value& value, bool is_element) {
  switch (value.Type()) {
    case napi_boolean:
      return number_of(Plain::Type::Boolean, value.As<Napi::Boolean>().Value());
    case napi_number:
      return number_of(Plain::Type::Number, value.As<Napi::Number>().DoubleValue());
    case napi_bigint:
      return copy_bigint(value);
    case napi_string: {
      Plain plain;
      plain.type = Plain::Type::String;
      plain.text = value.As<Napi::String>().Utf8Value();
      return plain;
    }
    case napi_object:
      break;
    case napi_undefined:
      return unknown("undefined");
    case napi_null:
      return unknown("null");
    case napi_symbol:
      return unknown("a symbol");
    case napi_function:
      return unknown("a function");
    default:
      return unknown("a value of no known type");
  }
  if (!value.IsArray()) return copy_object(value.As<Napi::Object>());
  if (is_element) return unknown("a list");
  auto array = value.As<Napi::Array>();
  Plain plain;
  plain.type = Plain::Type::List;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::HandleScope scope(array.Env());
    plain.elements.push_back(copy_value(array.Get(i), true));
  }
  return plain;
}

// What the numbers of a call say, without looking anything up. Returns their end.
const double* read_numbers(const double* at, const double* end, Argument* arguments, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (end - at < 2 || !(at[0] >= 0 && at[0] <= static_cast<double>(Tag::Generator))) not_a_call();
    auto& argument = arguments[i];
    argument.tag = static_cast<Tag>(at[0]);
    argument.number = at[1];
    at += 2;
    if (argument.tag != Tag::TensorList && argument.tag != Tag::NumberList) continue;
    if (!(argument.number >= 0 && argument.number <= static_cast<double>(end - at))) not_a_call();
    argument.list = at;
    argument.length = static_cast<size_t>(argument.number);
    at += argument.length;
  }
  return at;
}

// What they refer to in the environment.
void look_up(Environment& environment, Argument* arguments, size_t count) {
  for (size_t i = 0; i < count; i++) {
    auto& argument = arguments[i];
    if (argument.tag == Tag::Tensor) {
      argument.tensor = &environment.tensors.get(handle_of(argument.number));
    } else if (argument.tag == Tag::Word) {
      if (!(argument.number >= 0 && argument.number < static_cast<double>(environment.words.size())))
        not_a_call();
      argument.word = &environment.words[static_cast<size_t>(argument.number)];
    }
  }
}

// The values that travel outside of the buffer; the Others among them into `copies`, in their order.
void read_others(Environment& environment, Others others, Argument* arguments, size_t count, Copies& copies) {
  size_t used = 0;
  copies.values.reserve(others.count);
  for (size_t i = 0; i < count; i++) {
    auto& argument = arguments[i];
    if (argument.tag != Tag::Other && argument.tag != Tag::Generator) continue;
    if (used == others.count) not_a_call();
    argument.value = others.values[used++];
    if (argument.tag == Tag::Generator) continue;
    copies.values.push_back(to_plain(Napi::Value(environment.env, argument.value)));
    argument.plain = &copies.values.back();
  }
}

}  // namespace

bool is_integer(double number) { return std::trunc(number) == number && std::abs(number) <= 9.2e18; }

Plain to_plain(const Napi::Value& value) { return copy_value(value, false); }

std::string show_plain(const Plain& value) {
  switch (value.type) {
    case Plain::Type::Boolean:
      return value.number != 0 ? "true" : "false";
    case Plain::Type::Number:
      return c10::str(value.number);
    case Plain::Type::BigInt:
      return value.is_lossless ? c10::str(value.integer, "n") : "a bigint of more than 64 bits";
    case Plain::Type::String:
      return '"' + value.text + '"';
    case Plain::Type::Complex:
      return c10::str("{ re: ", value.number, ", im: ", value.imaginary, " }");
    case Plain::Type::List: {
      constexpr size_t most = 16;
      const auto& list = value.elements;
      std::ostringstream text;
      for (size_t i = 0; i < std::min(list.size(), most); i++) text << (i ? ", " : "") << show_plain(list[i]);
      if (list.size() > most) text << ", … " << list.size() << " in all";
      return "[" + text.str() + "]";
    }
    case Plain::Type::Unknown:
      break;
  }
  return value.text;
}

int64_t to_integer(const Plain& value) {
  if (value.type == Plain::Type::Number) return static_cast<int64_t>(value.number);
  if (!value.is_lossless) fail("ERR_ARGUMENT", "the bigint does not fit into 64 bits");
  return value.integer;
}

void read_arguments(Environment& environment, Others others, Argument* arguments, size_t count,
                    Copies& copies) {
  const double* begin = environment.buffer.data() + 1;  // behind the plan
  const double* end = environment.buffer.data() + environment.buffer.size();
  const double* used_end = read_numbers(begin, end, arguments, count);
  if (others.count > 0) {
    copies.numbers.assign(begin, used_end);
    read_numbers(copies.numbers.data(), copies.numbers.data() + copies.numbers.size(), arguments, count);
    read_others(environment, others, arguments, count, copies);
  } else if (std::any_of(arguments, arguments + count, [](const Argument& each) {
               return each.tag == Tag::Other || each.tag == Tag::Generator;
             })) {
    not_a_call();
  }
  look_up(environment, arguments, count);
}

bool Reader::value_matches(const Parameter& parameter, const Argument& argument, bool lenient) const {
  switch (argument.tag) {
    case Tag::Tensor:
      return parameter.kind == Kind::Tensor;
    case Tag::Number:
      return number_matches(parameter, argument.number, lenient);
    case Tag::Boolean:
      return parameter.kind == Kind::Bool || parameter.kind == Kind::Scalar ||
             (lenient && parameter.kind == Kind::Tensor);
    case Tag::Null:
      return parameter.nullable;
    case Tag::Word:
      return string_matches(parameter, argument.word->dtype.has_value());
    case Tag::TensorList:
      return parameter.kind == Kind::TensorList || parameter.kind == Kind::OptionalTensorList;
    case Tag::NumberList:
      if (parameter.kind == Kind::IntList)
        return std::all_of(argument.list, argument.list + argument.length, is_integer);
      return parameter.kind == Kind::FloatList || parameter.kind == Kind::ScalarList;
    case Tag::Generator:
      return parameter.kind == Kind::Generator;
    case Tag::Other:
      return plain_matches(parameter, *argument.plain);
  }
  return false;
}

bool Reader::number_matches(const Parameter& parameter, double number, bool lenient) const {
  switch (parameter.kind) {
    case Kind::Int:
      return is_integer(number);
    case Kind::Float:
    case Kind::Scalar:
    case Kind::Complex:
      return true;
    case Kind::IntList:
      return parameter.broadcast > 0 && is_integer(number);
    case Kind::FloatList:
      return parameter.broadcast > 0;
    case Kind::Tensor:
      return lenient;
    default:
      return false;
  }
}

bool Reader::string_matches(const Parameter& parameter, bool is_dtype) const {
  switch (parameter.kind) {
    case Kind::String:
    case Kind::Layout:
    case Kind::MemoryFormat:
      return true;
    case Kind::Dtype:
      return is_dtype;
    case Kind::Device:
      return !is_dtype;
    default:
      return false;
  }
}

bool Reader::plain_matches(const Parameter& parameter, const Plain& value) const {
  switch (value.type) {
    case Plain::Type::BigInt:
      return parameter.kind == Kind::Int || parameter.kind == Kind::Scalar;
    case Plain::Type::String:
      return string_matches(parameter, find_dtype(value.text).has_value());
    case Plain::Type::List:
      return list_matches(parameter, value.elements);
    case Plain::Type::Complex:
      return parameter.kind == Kind::Scalar || parameter.kind == Kind::Complex;
    default:
      return false;
  }
}

bool Reader::list_matches(const Parameter& parameter, const std::vector<Plain>& elements) const {
  using Type = Plain::Type;
  auto all = [&](auto predicate) { return std::all_of(elements.begin(), elements.end(), predicate); };
  switch (parameter.kind) {
    case Kind::TensorList:
    case Kind::OptionalTensorList:
      return elements.empty();
    case Kind::IntList:
      return all([](const Plain& each) {
        return each.type == Type::Number ? is_integer(each.number) : each.type == Type::BigInt;
      });
    case Kind::FloatList:
      return all([](const Plain& each) { return each.type == Type::Number; });
    case Kind::BoolList:
      return all([](const Plain& each) { return each.type == Type::Boolean; });
    case Kind::StringList:
      return all([](const Plain& each) { return each.type == Type::String; });
    case Kind::ScalarList:
      return all([](const Plain& each) {
        return each.type == Type::Number || each.type == Type::Boolean || each.type == Type::BigInt ||
               each.type == Type::Complex;
      });
    default:
      return false;
  }
}

at::IValue Reader::convert(const Parameter& parameter, const Argument& argument) const {
  if (argument.tag == Tag::Null) return {};
  switch (parameter.kind) {
    case Kind::Tensor:
      return tensor(argument);
    case Kind::TensorList:
      return tensor_list(argument);
    case Kind::OptionalTensorList:
      return optional_tensor_list(argument);
    case Kind::Scalar:
      return scalar(argument);
    case Kind::ScalarList:
      return scalar_list(argument);
    case Kind::Int:
      return integer(argument);
    case Kind::Float:
      return number(argument);
    case Kind::Bool:
      return boolean(argument);
    case Kind::IntList:
      return integer_list(parameter, argument);
    case Kind::FloatList:
      return float_list(parameter, argument);
    case Kind::BoolList:
      return bool_list(argument);
    case Kind::String:
      return text(argument);
    case Kind::StringList:
      return string_list(argument);
    case Kind::Complex:
      return scalar(argument).toComplexDouble();
    case Kind::Dtype:
      return static_cast<int64_t>(dtype(argument));
    case Kind::Layout:
      return static_cast<int64_t>(layout(argument));
    case Kind::MemoryFormat:
      return static_cast<int64_t>(memory_format(argument));
    case Kind::Device:
      return device(argument);
    case Kind::Generator:
      return generator(argument);
    case Kind::Unsupported:
      break;
  }
  fail("ERR_ARGUMENT", parameter.js_name, ": arguments of type ", parameter.type, " have no JavaScript form");
}

std::string Reader::show(const Argument& argument) const {
  switch (argument.tag) {
    case Tag::Tensor:
      return describe(*argument.tensor);
    case Tag::Number:
      return Napi::Number::New(env_, argument.number).ToString();
    case Tag::Boolean:
      return argument.number != 0 ? "true" : "false";
    case Tag::Null:
      return argument.number != 0 ? "undefined" : "null";
    case Tag::Word:
      return '"' + argument.word->text + '"';
    case Tag::TensorList:
      return show_list(argument, 4, [&](double each) {
        auto handle = handle_of(each);
        return handle ? describe(environment_.tensors.get(handle)) : "null";
      });
    case Tag::NumberList:
      return show_list(argument, 16,
                       [&](double each) -> std::string { return Napi::Number::New(env_, each).ToString(); });
    case Tag::Generator:
      return "a Generator";
    case Tag::Other:
      return show_plain(*argument.plain);
  }
  return "";
}

at::Tensor Reader::tensor(const Argument& argument) const {
  if (argument.tag == Tag::Tensor) return *argument.tensor;
  // As in Python, a number next to a tensor does not decide the result's dtype.
  auto number = scalar(argument);
  auto wrapped = at::scalar_tensor(number, at::TensorOptions().dtype(number.type()));
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  return wrapped;
}

at::Tensor Reader::listed(const Argument& list, size_t index) const {
  auto handle = handle_of(list.list[index]);
  return handle == 0 ? at::Tensor() : environment_.tensors.get(handle);
}

std::vector<at::Tensor> Reader::tensors(const Argument& argument) const {
  std::vector<at::Tensor> list;
  if (argument.tag != Tag::TensorList) return list;  // an empty array
  list.reserve(argument.length);
  for (size_t i = 0; i < argument.length; i++) {
    auto tensor = listed(argument, i);
    if (!tensor.defined()) fail("ERR_ARGUMENT", "a list of tensors holds null at index ", i);
    list.push_back(std::move(tensor));
  }
  return list;
}

at::Scalar Reader::scalar(const Argument& argument) const {
  if (argument.tag == Tag::Number) return to_scalar(argument.number);
  if (argument.tag == Tag::Boolean) return argument.number != 0;
  if (argument.tag == Tag::Other) return scalar(*argument.plain);
  fail("ERR_ARGUMENT", "expected a scalar (number, bigint, boolean or { re, im }), got ", show(argument));
}

at::Scalar Reader::scalar(const Plain& value) const {
  switch (value.type) {
    case Plain::Type::Number:
      return to_scalar(value.number);
    case Plain::Type::Boolean:
      return value.number != 0;
    case Plain::Type::BigInt:
      return to_integer(value);
    case Plain::Type::Complex:
      return c10::complex<double>(value.number, value.imaginary);
    default:
      fail("ERR_ARGUMENT", "expected a scalar (number, bigint, boolean or { re, im }), got ",
           show_plain(value));
  }
}

int64_t Reader::integer(const Argument& argument) const {
  return argument.tag == Tag::Number ? static_cast<int64_t>(argument.number) : to_integer(*argument.plain);
}

double Reader::number(const Argument& argument) const { return argument.number; }

bool Reader::boolean(const Argument& argument) const { return argument.number != 0; }

std::string Reader::text(const Argument& argument) const {
  return argument.tag == Tag::Word ? argument.word->text : argument.plain->text;
}

at::ScalarType Reader::dtype(const Argument& argument) const {
  return argument.tag == Tag::Word ? *argument.word->dtype : parse_dtype(text(argument));
}

at::Layout Reader::layout(const Argument& argument) const { return parse_layout(text(argument)); }

at::MemoryFormat Reader::memory_format(const Argument& argument) const {
  return parse_memory_format(text(argument));
}

at::Device Reader::device(const Argument& argument) const {
  if (argument.tag != Tag::Word) return parse_device(text(argument));
  auto& known = argument.word->device;
  if (!known) known = parse_device(argument.word->text);
  return *known;
}

at::Generator Reader::generator(const Argument& argument) const {
  return unwrap_generator(env_, argument.value);
}

c10::List<at::Tensor> Reader::tensor_list(const Argument& argument) const {
  return c10::List<at::Tensor>(tensors(argument));
}

c10::List<optional<at::Tensor>> Reader::optional_tensor_list(const Argument& argument) const {
  c10::List<optional<at::Tensor>> list;
  if (argument.tag != Tag::TensorList) return list;  // an empty array
  for (size_t i = 0; i < argument.length; i++) {
    auto tensor = listed(argument, i);
    list.push_back(tensor.defined() ? optional<at::Tensor>(std::move(tensor)) : nullopt);
  }
  return list;
}

c10::List<at::Scalar> Reader::scalar_list(const Argument& argument) const {
  c10::List<at::Scalar> list;
  if (argument.tag == Tag::NumberList) {
    for (size_t i = 0; i < argument.length; i++) list.push_back(to_scalar(argument.list[i]));
    return list;
  }
  for (const auto& each : argument.plain->elements) list.push_back(scalar(each));
  return list;
}

std::vector<int64_t> Reader::integer_list(const Parameter& parameter, const Argument& argument) const {
  std::vector<int64_t> list;
  each_integer(parameter, argument, [&](int64_t each) { list.push_back(each); });
  return list;
}

std::vector<double> Reader::float_list(const Parameter& parameter, const Argument& argument) const {
  if (argument.tag == Tag::Number) return std::vector<double>(parameter.broadcast, argument.number);
  if (argument.tag == Tag::NumberList)
    return std::vector<double>(argument.list, argument.list + argument.length);
  std::vector<double> list;
  for (const auto& each : argument.plain->elements) list.push_back(each.number);
  return list;
}

c10::List<bool> Reader::bool_list(const Argument& argument) const {
  c10::List<bool> list;
  for (const auto& each : argument.plain->elements) list.push_back(each.number != 0);
  return list;
}

c10::List<std::string> Reader::string_list(const Argument& argument) const {
  c10::List<std::string> list;
  for (const auto& each : argument.plain->elements) list.push_back(each.text);
  return list;
}

}  // namespace alambic
