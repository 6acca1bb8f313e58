#include "arguments.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "errors.h"
#include "generator.h"
#include "values.h"

namespace alambic {

namespace {

bool is_integer(double number) { return std::trunc(number) == number && std::abs(number) <= 9.2e18; }

napi_valuetype type_of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type;
}

[[noreturn]] void not_a_call() { fail("ERR_ARGUMENT", "call: expected the values of a planned call"); }

bool is_empty_value(const Argument& argument) { return argument.tag == Tag::Null; }

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

}  // namespace

void read_arguments(Environment& environment, Others others, Argument* arguments, size_t count) {
  const double* at = environment.buffer.data() + 1;  // behind the plan
  const double* end = environment.buffer.data() + environment.buffer.size();
  size_t used_others = 0;
  for (size_t i = 0; i < count; i++) {
    if (end - at < 2 || !(at[0] >= 0 && at[0] <= static_cast<double>(Tag::Generator))) not_a_call();
    auto& argument = arguments[i];
    argument.tag = static_cast<Tag>(at[0]);
    argument.number = at[1];
    at += 2;
    switch (argument.tag) {
      case Tag::Number:
      case Tag::Boolean:
      case Tag::Null:
        break;
      case Tag::Tensor:
        argument.tensor = &environment.tensors.get(static_cast<Handle>(argument.number));
        break;
      case Tag::Word:
        if (!(argument.number >= 0 && argument.number < static_cast<double>(environment.words.size())))
          not_a_call();
        argument.word = &environment.words[static_cast<size_t>(argument.number)];
        break;
      case Tag::TensorList:
      case Tag::NumberList:
        if (!(argument.number >= 0 && argument.number <= static_cast<double>(end - at))) not_a_call();
        argument.list = at;
        argument.length = static_cast<size_t>(argument.number);
        at += argument.length;
        break;
      case Tag::Other:
      case Tag::Generator:
        if (used_others == others.count) not_a_call();
        argument.value = others.values[used_others++];
        argument.type = type_of(environment.env, argument.value);
        break;
      default:
        not_a_call();
    }
  }
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
      return parameter.nullable || parameter.kind == Kind::Tensor;
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
      return other_matches(parameter, argument);
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

bool Reader::other_matches(const Parameter& parameter, const Argument& argument) const {
  switch (argument.type) {
    case napi_bigint:
      return parameter.kind == Kind::Int || parameter.kind == Kind::Scalar;
    case napi_string:
      return string_matches(parameter, find_dtype(text(argument)).has_value());
    case napi_object: {
      bool is_array = false;
      napi_is_array(env_, argument.value, &is_array);
      if (is_array) return list_matches(parameter, argument.value);
      return parameter.kind == Kind::Scalar || parameter.kind == Kind::Complex;
    }
    default:
      return false;
  }
}

bool Reader::list_matches(const Parameter& parameter, napi_value array) const {
  switch (parameter.kind) {
    case Kind::TensorList:
    case Kind::OptionalTensorList:
      return array_length(array) == 0;
    case Kind::IntList:
      return all_elements(array, [&](const Argument& each) {
        return each.tag == Tag::Number ? is_integer(each.number) : each.type == napi_bigint;
      });
    case Kind::FloatList:
      return all_elements(array, [](const Argument& each) { return each.tag == Tag::Number; });
    case Kind::BoolList:
      return all_elements(array, [](const Argument& each) { return each.tag == Tag::Boolean; });
    case Kind::StringList:
      return all_elements(array, [](const Argument& each) { return each.type == napi_string; });
    case Kind::ScalarList:
      return all_elements(array, [](const Argument& each) {
        return each.tag != Tag::Other || each.type == napi_bigint || each.type == napi_object;
      });
    default:
      return false;
  }
}

template <typename Predicate>
bool Reader::all_elements(napi_value array, Predicate predicate) const {
  auto length = array_length(array);
  for (uint32_t i = 0; i < length; i++)
    if (!predicate(element_argument(array, i))) return false;
  return true;
}

napi_value Reader::element(napi_value array, uint32_t index) const {
  napi_value value;
  if (napi_get_element(env_, array, index, &value) != napi_ok) throw Napi::Error::New(env_);
  return value;
}

uint32_t Reader::array_length(napi_value array) const {
  uint32_t length = 0;
  napi_get_array_length(env_, array, &length);
  return length;
}

Argument Reader::element_argument(napi_value array, uint32_t index) const {
  Argument argument{};
  argument.value = element(array, index);
  argument.type = type_of(env_, argument.value);
  if (argument.type == napi_number) {
    argument.tag = Tag::Number;
    napi_get_value_double(env_, argument.value, &argument.number);
  } else if (argument.type == napi_boolean) {
    bool value = false;
    napi_get_value_bool(env_, argument.value, &value);
    argument.tag = Tag::Boolean;
    argument.number = value;
  }
  return argument;
}

at::IValue Reader::convert(const Parameter& parameter, const Argument& argument) const {
  if (is_empty_value(argument))
    return parameter.kind == Kind::Tensor && !parameter.nullable ? at::IValue(at::Tensor()) : at::IValue();
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
      return "null";
    case Tag::Word:
      return '"' + argument.word->text + '"';
    case Tag::TensorList:
      return show_list(argument, 4, [&](double each) {
        auto handle = static_cast<Handle>(each);
        return handle ? describe(environment_.tensors.get(handle)) : "null";
      });
    case Tag::NumberList:
      return show_list(argument, 16, [](double each) { return c10::str(each); });
    case Tag::Generator:
      return "a Generator";
    case Tag::Other:
      break;
  }
  Napi::Value value(env_, argument.value);
  auto shown = value.ToString().Utf8Value();
  if (value.IsArray()) return "[" + shown + "]";
  return value.IsString() ? '"' + shown + '"' : shown;
}

at::Tensor Reader::tensor(const Argument& argument) const {
  if (argument.tag == Tag::Tensor) return *argument.tensor;
  if (is_empty_value(argument)) return at::Tensor();
  // As in Python, a number next to a tensor does not decide the result's dtype.
  auto number = scalar(argument);
  auto wrapped = at::scalar_tensor(number, at::TensorOptions().dtype(number.type()));
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  return wrapped;
}

std::vector<at::Tensor> Reader::tensors(const Argument& argument) const {
  std::vector<at::Tensor> list;
  if (argument.tag != Tag::TensorList) return list;  // an empty array
  list.reserve(argument.length);
  for (size_t i = 0; i < argument.length; i++) {
    auto handle = static_cast<Handle>(argument.list[i]);
    if (handle == 0) fail("ERR_ARGUMENT", "a list of tensors holds null at index ", i);
    list.push_back(environment_.tensors.get(handle));
  }
  return list;
}

at::Scalar Reader::scalar(const Argument& argument) const {
  if (argument.tag == Tag::Number) return to_scalar(argument.number);
  if (argument.tag == Tag::Boolean) return argument.number != 0;
  if (argument.tag == Tag::Other && argument.type == napi_bigint) return integer(argument);
  if (argument.tag == Tag::Other && argument.type == napi_object) {
    Napi::Object object(env_, argument.value);
    auto re = object.Get("re"), im = object.Get("im");
    if (re.IsNumber() && im.IsNumber())
      return c10::complex<double>(re.As<Napi::Number>().DoubleValue(), im.As<Napi::Number>().DoubleValue());
  }
  fail("ERR_ARGUMENT", "expected a scalar (number, bigint, boolean or { re, im }), got ", show(argument));
}

int64_t Reader::integer(const Argument& argument) const {
  if (argument.tag == Tag::Number) return static_cast<int64_t>(argument.number);
  int64_t integer = 0;
  bool lossless = false;
  napi_get_value_bigint_int64(env_, argument.value, &integer, &lossless);
  if (!lossless) fail("ERR_ARGUMENT", "the bigint does not fit into 64 bits");
  return integer;
}

double Reader::number(const Argument& argument) const { return argument.number; }

bool Reader::boolean(const Argument& argument) const { return argument.number != 0; }

std::string Reader::text(const Argument& argument) const {
  return argument.tag == Tag::Word ? argument.word->text : Napi::String(env_, argument.value).Utf8Value();
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

std::vector<int64_t> Reader::other_integers(const Argument& argument) const {
  auto length = array_length(argument.value);
  std::vector<int64_t> list(length);
  for (uint32_t i = 0; i < length; i++) list[i] = integer(element_argument(argument.value, i));
  return list;
}

c10::List<at::Tensor> Reader::tensor_list(const Argument& argument) const {
  return c10::List<at::Tensor>(tensors(argument));
}

c10::List<optional<at::Tensor>> Reader::optional_tensor_list(const Argument& argument) const {
  c10::List<optional<at::Tensor>> list;
  if (argument.tag != Tag::TensorList) return list;  // an empty array
  for (size_t i = 0; i < argument.length; i++) {
    auto handle = static_cast<Handle>(argument.list[i]);
    list.push_back(handle == 0 ? optional<at::Tensor>()
                               : optional<at::Tensor>(environment_.tensors.get(handle)));
  }
  return list;
}

c10::List<at::Scalar> Reader::scalar_list(const Argument& argument) const {
  c10::List<at::Scalar> list;
  if (argument.tag == Tag::NumberList) {
    for (size_t i = 0; i < argument.length; i++) list.push_back(to_scalar(argument.list[i]));
    return list;
  }
  for (uint32_t i = 0, length = array_length(argument.value); i < length; i++)
    list.push_back(scalar(element_argument(argument.value, i)));
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
  auto length = array_length(argument.value);
  std::vector<double> list(length);
  for (uint32_t i = 0; i < length; i++) list[i] = element_argument(argument.value, i).number;
  return list;
}

c10::List<bool> Reader::bool_list(const Argument& argument) const {
  c10::List<bool> list;
  for (uint32_t i = 0, length = array_length(argument.value); i < length; i++)
    list.push_back(boolean(element_argument(argument.value, i)));
  return list;
}

c10::List<std::string> Reader::string_list(const Argument& argument) const {
  c10::List<std::string> list;
  for (uint32_t i = 0, length = array_length(argument.value); i < length; i++)
    list.push_back(Napi::String(env_, element(argument.value, i)).Utf8Value());
  return list;
}

}  // namespace alambic
