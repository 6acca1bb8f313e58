#include "dispatch.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "environment.h"
#include "errors.h"
#include "generator.h"
#include "list_buffer.h"
#include "scalars.h"
#include "trace/recorder.h"
#include "values.h"

namespace alambic {

namespace {

using torch::jit::Stack;

// What the TypeScript side says about a value, three bits each: a bare number could be a handle or a scalar.
// Lists of tensors and of numbers lie in the environment's list buffer; their value is their length.
enum class Tag : uint8_t { Plain = 0, Tensor = 1, TensorList = 2, Generator = 3, NumberList = 4 };
constexpr int tag_bits_per_value = 3;
constexpr size_t most_packed_tags = 10;

struct Argument {
  napi_value value;
  napi_valuetype type;
  Tag tag;
  const double* list;  // the elements of a TensorList or NumberList
  size_t length;
};

constexpr size_t most_arguments = 64;
// Node fills the rest of the list with `undefined`: a short one is asked for first.
constexpr size_t usual_arguments = 6;

// ---- Reading JavaScript values
// --------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(Environment& environment) : environment_(environment), env_(environment.env) {}

  // Could this value be meant for the parameter? Cheap, without conversion. `lenient` lets numbers stand for
  // tensors.
  bool matches(const Parameter& parameter, const Argument& argument, bool lenient) const {
    if (argument.tag == Tag::Tensor) return parameter.kind == Kind::Tensor;
    if (argument.tag == Tag::TensorList)
      return parameter.kind == Kind::TensorList || parameter.kind == Kind::OptionalTensorList;
    if (argument.tag == Tag::Generator) return parameter.kind == Kind::Generator;
    if (argument.tag == Tag::NumberList) return number_list_matches(parameter, argument);
    switch (argument.type) {
      case napi_undefined:
      case napi_null:
        return parameter.nullable || parameter.kind == Kind::Tensor;
      case napi_number:
        return number_matches(parameter, argument.value, lenient);
      case napi_bigint:
        return parameter.kind == Kind::Int || parameter.kind == Kind::Scalar;
      case napi_boolean:
        return parameter.kind == Kind::Bool || parameter.kind == Kind::Scalar ||
               (lenient && parameter.kind == Kind::Tensor);
      case napi_string:
        return string_matches(parameter, argument.value);
      case napi_object:
        return object_matches(parameter, argument.value);
      default:
        return false;
    }
  }

  at::IValue convert(const Parameter& parameter, const Argument& argument) const {
    if (argument.tag == Tag::Plain && (argument.type == napi_undefined || argument.type == napi_null))
      return parameter.kind == Kind::Tensor && !parameter.nullable ? at::IValue(at::Tensor()) : at::IValue();
    switch (parameter.kind) {
      case Kind::Tensor:
        return tensor(argument);
      case Kind::TensorList:
        return tensor_list(argument);
      case Kind::OptionalTensorList:
        return optional_tensor_list(argument);
      case Kind::Scalar:
        return scalar(argument.value, argument.type);
      case Kind::ScalarList:
        return scalar_list(argument);
      case Kind::Int:
        return integer(argument.value, argument.type);
      case Kind::Float:
        return number(argument.value);
      case Kind::Bool:
        return boolean(argument.value);
      case Kind::IntList:
        return integer_list(parameter, argument);
      case Kind::FloatList:
        return float_list(parameter, argument);
      case Kind::BoolList:
        return bool_list(argument.value);
      case Kind::String:
        return text(argument.value);
      case Kind::StringList:
        return string_list(argument.value);
      case Kind::Complex:
        return scalar(argument.value, argument.type).toComplexDouble();
      case Kind::Dtype:
        return static_cast<int64_t>(parse_dtype(text(argument.value)));
      case Kind::Layout:
        return static_cast<int64_t>(parse_layout(text(argument.value)));
      case Kind::MemoryFormat:
        return static_cast<int64_t>(parse_memory_format(text(argument.value)));
      case Kind::Device:
        return parse_device(text(argument.value));
      case Kind::Generator:
        return unwrap_generator(env_, argument.value);
      case Kind::Unsupported:
        break;
    }
    fail("ERR_ARGUMENT", parameter.js_name, ": arguments of type ", parameter.type,
         " have no JavaScript form");
  }

  // For messages: "float32 (2, 3)", "[1, 2]", "true" …
  std::string show(const Argument& argument) const {
    if (argument.tag == Tag::Tensor) return describe(tensor_at(argument.value));
    if (argument.tag == Tag::TensorList)
      return show_list(argument, 4, [&](double each) {
        auto handle = static_cast<Handle>(each);
        return handle ? describe(environment_.tensors.get(handle)) : "null";
      });
    if (argument.tag == Tag::NumberList)
      return show_list(argument, 16, [](double each) { return c10::str(each); });
    if (argument.tag == Tag::Generator) return "a Generator";
    Napi::Value value(env_, argument.value);
    auto shown = value.ToString().Utf8Value();
    if (value.IsArray()) return "[" + shown + "]";
    return value.IsString() ? '"' + shown + '"' : shown;
  }

  double raw_number(napi_value value) const {
    double number = 0;
    napi_get_value_double(env_, value, &number);
    return number;
  }
  Handle to_handle_raw(napi_value value) const { return static_cast<Handle>(raw_number(value)); }
  const at::Tensor& tensor_at(napi_value value) const {
    return environment_.tensors.get(to_handle_raw(value));
  }

 private:
  static bool is_integer(double number) { return std::trunc(number) == number && std::abs(number) <= 9.2e18; }

  napi_value element(napi_value array, uint32_t index) const {
    napi_value value;
    if (napi_get_element(env_, array, index, &value) != napi_ok) throw Napi::Error::New(env_);
    return value;
  }
  uint32_t array_length(napi_value array) const {
    uint32_t length = 0;
    napi_get_array_length(env_, array, &length);
    return length;
  }
  napi_valuetype type_of(napi_value value) const {
    napi_valuetype type;
    napi_typeof(env_, value, &type);
    return type;
  }
  bool is_array(napi_value value) const {
    bool result = false;
    napi_is_array(env_, value, &result);
    return result;
  }

  bool number_matches(const Parameter& parameter, napi_value value, bool lenient) const {
    switch (parameter.kind) {
      case Kind::Int:
        return is_integer(raw_number(value));
      case Kind::Float:
      case Kind::Scalar:
      case Kind::Complex:
        return true;
      case Kind::IntList:
        return parameter.broadcast > 0 && is_integer(raw_number(value));
      case Kind::FloatList:
        return parameter.broadcast > 0;
      case Kind::Tensor:
        return lenient;
      default:
        return false;
    }
  }

  static bool number_list_matches(const Parameter& parameter, const Argument& argument) {
    switch (parameter.kind) {
      case Kind::IntList:
        return std::all_of(argument.list, argument.list + argument.length, is_integer);
      case Kind::FloatList:
      case Kind::ScalarList:
        return true;
      default:
        return false;
    }
  }

  template <typename Show>
  static std::string show_list(const Argument& argument, size_t most, Show show_element) {
    std::ostringstream list;
    list << "[";
    for (size_t i = 0; i < std::min(argument.length, most); i++)
      list << (i ? ", " : "") << show_element(argument.list[i]);
    if (argument.length > most) list << ", … " << argument.length << " in all";
    list << "]";
    return list.str();
  }

  bool string_matches(const Parameter& parameter, napi_value value) const {
    switch (parameter.kind) {
      case Kind::String:
        return true;
      case Kind::Dtype:
        return names_dtype(text(value));
      case Kind::Layout:
      case Kind::MemoryFormat:
        return true;
      case Kind::Device:
        return !names_dtype(text(value));
      default:
        return false;
    }
  }
  static bool names_dtype(const std::string& name) {
    static const std::vector<std::string> names = dtype_names();
    return std::find(names.begin(), names.end(), name) != names.end();
  }

  bool object_matches(const Parameter& parameter, napi_value value) const {
    if (!is_array(value)) return parameter.kind == Kind::Scalar || parameter.kind == Kind::Complex;
    bool is_empty = array_length(value) == 0;
    switch (parameter.kind) {
      case Kind::TensorList:
      case Kind::OptionalTensorList:
        return is_empty;
      case Kind::IntList:
        return all_elements(value, [&](napi_value each) {
          auto type = type_of(each);
          return (type == napi_number && is_integer(raw_number(each))) || type == napi_bigint;
        });
      case Kind::FloatList:
        return all_elements(value, [&](napi_value each) { return type_of(each) == napi_number; });
      case Kind::BoolList:
        return all_elements(value, [&](napi_value each) { return type_of(each) == napi_boolean; });
      case Kind::StringList:
        return all_elements(value, [&](napi_value each) { return type_of(each) == napi_string; });
      case Kind::ScalarList:
        return all_elements(value, [&](napi_value each) {
          auto type = type_of(each);
          return type == napi_number || type == napi_bigint || type == napi_boolean || type == napi_object;
        });
      default:
        return false;
    }
  }
  template <typename Predicate>
  bool all_elements(napi_value array, Predicate predicate) const {
    auto length = array_length(array);
    for (uint32_t i = 0; i < length; i++)
      if (!predicate(element(array, i))) return false;
    return true;
  }

  at::Tensor tensor(const Argument& argument) const {
    if (argument.tag == Tag::Tensor) return tensor_at(argument.value);
    // As in Python, a number next to a tensor does not decide the result's dtype.
    auto wrapped = at::scalar_tensor(scalar(argument.value, argument.type),
                                     at::TensorOptions().dtype(scalar(argument.value, argument.type).type()));
    wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
    return wrapped;
  }

  c10::List<at::Tensor> tensor_list(const Argument& argument) const {
    c10::List<at::Tensor> list;
    list.reserve(argument.length);
    for (size_t i = 0; i < argument.length; i++) {
      auto handle = static_cast<Handle>(argument.list[i]);
      if (handle == 0) fail("ERR_ARGUMENT", "a list of tensors holds null at index ", i);
      list.push_back(environment_.tensors.get(handle));
    }
    return list;
  }

  c10::List<optional<at::Tensor>> optional_tensor_list(const Argument& argument) const {
    c10::List<optional<at::Tensor>> list;
    for (size_t i = 0; i < argument.length; i++) {
      auto handle = static_cast<Handle>(argument.list[i]);
      list.push_back(handle == 0 ? optional<at::Tensor>()
                                 : optional<at::Tensor>(environment_.tensors.get(handle)));
    }
    return list;
  }

  // JavaScript has one kind of number: whole ones are integers, so that integer tensors stay integer. -0 is
  // not whole.
  at::Scalar scalar(napi_value value, napi_valuetype type) const {
    switch (type) {
      case napi_number:
        return scalar(raw_number(value));
      case napi_bigint:
        return integer(value, type);
      case napi_boolean:
        return boolean(value);
      case napi_object: {
        Napi::Object object(env_, value);
        auto re = object.Get("re"), im = object.Get("im");
        if (re.IsNumber() && im.IsNumber())
          return c10::complex<double>(re.As<Napi::Number>().DoubleValue(),
                                      im.As<Napi::Number>().DoubleValue());
        break;
      }
      default:
        break;
    }
    fail("ERR_ARGUMENT", "expected a scalar (number, bigint, boolean or { re, im }), got ",
         Napi::Value(env_, value).ToString().Utf8Value());
  }

  static at::Scalar scalar(double number) {
    if (is_integer(number) && !(number == 0 && std::signbit(number))) return static_cast<int64_t>(number);
    return number;
  }

  c10::List<at::Scalar> scalar_list(const Argument& argument) const {
    c10::List<at::Scalar> list;
    if (argument.tag == Tag::NumberList) {
      for (size_t i = 0; i < argument.length; i++) list.push_back(scalar(argument.list[i]));
      return list;
    }
    for (uint32_t i = 0, length = array_length(argument.value); i < length; i++) {
      auto value = element(argument.value, i);
      list.push_back(scalar(value, type_of(value)));
    }
    return list;
  }

  int64_t integer(napi_value value, napi_valuetype type) const {
    if (type == napi_bigint) {
      int64_t integer = 0;
      bool lossless = false;
      napi_get_value_bigint_int64(env_, value, &integer, &lossless);
      if (!lossless) fail("ERR_ARGUMENT", "the bigint does not fit into 64 bits");
      return integer;
    }
    return static_cast<int64_t>(raw_number(value));
  }
  double number(napi_value value) const { return raw_number(value); }
  bool boolean(napi_value value) const {
    bool result = false;
    napi_get_value_bool(env_, value, &result);
    return result;
  }
  std::string text(napi_value value) const {
    char buffer[256];
    size_t length = 0;
    napi_get_value_string_utf8(env_, value, buffer, sizeof buffer, &length);
    if (length < sizeof buffer - 1) return std::string(buffer, length);
    return Napi::String(env_, value).Utf8Value();
  }

  std::vector<int64_t> integer_list(const Parameter& parameter, const Argument& argument) const {
    if (argument.type == napi_number)
      return std::vector<int64_t>(parameter.broadcast, integer(argument.value, napi_number));
    if (argument.tag == Tag::NumberList)
      return std::vector<int64_t>(argument.list, argument.list + argument.length);
    auto length = array_length(argument.value);
    std::vector<int64_t> list(length);
    for (uint32_t i = 0; i < length; i++) {
      auto value = element(argument.value, i);
      list[i] = integer(value, type_of(value));
    }
    return list;
  }
  std::vector<double> float_list(const Parameter& parameter, const Argument& argument) const {
    if (argument.type == napi_number) return std::vector<double>(parameter.broadcast, number(argument.value));
    if (argument.tag == Tag::NumberList)
      return std::vector<double>(argument.list, argument.list + argument.length);
    auto length = array_length(argument.value);
    std::vector<double> list(length);
    for (uint32_t i = 0; i < length; i++) list[i] = number(element(argument.value, i));
    return list;
  }
  c10::List<bool> bool_list(napi_value array) const {
    c10::List<bool> list;
    for (uint32_t i = 0, length = array_length(array); i < length; i++)
      list.push_back(boolean(element(array, i)));
    return list;
  }
  c10::List<std::string> string_list(napi_value array) const {
    c10::List<std::string> list;
    for (uint32_t i = 0, length = array_length(array); i < length; i++)
      list.push_back(text(element(array, i)));
    return list;
  }

  Environment& environment_;
  napi_env env_;
};

// ---- Choosing the overload
// --------------------------------------------------------------------------------------

bool accepts(const Candidate& candidate, const Argument* arguments, const Reader& reader, bool lenient) {
  const auto& parameters = candidate.overload->parameters;
  for (size_t i = 0; i < parameters.size(); i++)
    if (candidate.source[i] >= 0 && !reader.matches(parameters[i], arguments[candidate.source[i]], lenient))
      return false;
  return true;
}

[[noreturn]] void no_match(const Plan& plan, const Argument* arguments, size_t count, const Reader& reader) {
  std::ostringstream message;
  message << plan.op->js_name << ": ";
  if (plan.candidates.size() == 1) {  // the culprit can be named
    const auto& candidate = plan.candidates.front();
    for (size_t i = 0; i < candidate.source.size(); i++) {
      const auto& parameter = candidate.overload->parameters[i];
      if (candidate.source[i] < 0 || reader.matches(parameter, arguments[candidate.source[i]], true))
        continue;
      message << parameter.js_name << ": expected " << parameter.type << ", got "
              << reader.show(arguments[candidate.source[i]]);
      fail("ERR_ARGUMENT", message.str());
    }
  }
  message << "no overload takes (";
  for (size_t i = 0; i < count; i++) message << (i ? ", " : "") << reader.show(arguments[i]);
  message << "); there are ";
  for (size_t i = 0; i < plan.candidates.size(); i++)
    message << (i ? " and " : "") << signature(*plan.op, *plan.candidates[i].overload);
  fail("ERR_NO_OVERLOAD", message.str());
}

const Candidate& choose(const Plan& plan, const Argument* arguments, size_t count, const Reader& reader) {
  for (bool lenient : {false, true})
    for (const auto& candidate : plan.candidates)
      if (accepts(candidate, arguments, reader, lenient)) return candidate;
  no_match(plan, arguments, count, reader);
}

// ---- Results
// ------------------------------------------------------------------------------------------------------

// A tensor becomes its handle; one that is an argument of the call becomes -(index + 1), so that the caller
// returns the object that it has.
double encode_tensor(Environment& environment, at::Tensor tensor, int returned_value) {
  if (returned_value >= 0) return -(returned_value + 1);
  return tensor.defined() ? static_cast<double>(environment.adopt(std::move(tensor))) : 0;
}

template <typename List, typename Encode>
Napi::Value encode_list(Napi::Env env, const List& list, Encode encode) {
  auto array = Napi::Array::New(env, list.size());
  uint32_t i = 0;
  for (const auto& each : list) array.Set(i++, encode(each));
  return array;
}

Napi::Value encode_value(Napi::Env env, Kind kind, const at::IValue& value) {
  if (value.isNone()) return env.Null();
  switch (kind) {
    case Kind::Dtype:
      return Napi::String::New(env, dtype_name(value.toScalarType()));
    case Kind::Layout:
      return Napi::String::New(env, layout_name(value.toLayout()));
    case Kind::MemoryFormat:
      return Napi::String::New(env, memory_format_name(value.toMemoryFormat()));
    case Kind::Device:
      return Napi::String::New(env, value.toDevice().str());
    case Kind::String:
      return Napi::String::New(env, value.toStringRef());
    case Kind::Bool:
      return Napi::Boolean::New(env, value.toBool());
    case Kind::Scalar:
    case Kind::Int:
    case Kind::Float:
    case Kind::Complex:
      return encode_scalar(env, value.toScalar());
    case Kind::IntList:
      return from_integers(env, value.toIntVector());
    case Kind::FloatList:
      return encode_list(env, value.toDoubleVector(), [](double each) { return each; });
    case Kind::BoolList:
      return encode_list(env, value.toBoolList().vec(), [](bool each) { return each; });
    case Kind::StringList:
      return encode_list(env, value.toListRef(), [](const at::IValue& each) { return each.toStringRef(); });
    case Kind::ScalarList:
      return encode_list(env, value.toListRef(),
                         [&](const at::IValue& each) { return encode_scalar(env, each.toScalar()); });
    default:
      fail("ERR_NATIVE", "a result of type ", value.tagKind(), " has no JavaScript form");
  }
}

// Anything but one tensor: ["tTv" per result, result, result …], t: tensor, T: list of tensors, v: value.
Napi::Value encode_results(Napi::Env env, Environment& environment, const Candidate& candidate,
                           const Stack& stack) {
  std::string tags;
  auto array = Napi::Array::New(env, stack.size() + 1);
  for (uint32_t i = 0; i < stack.size(); i++) {
    auto kind = candidate.overload->returns[i];
    const auto& value = stack[i];
    if (kind == Kind::Tensor) {
      tags += 't';
      array.Set(i + 1, encode_tensor(environment, value.isNone() ? at::Tensor() : value.toTensor(),
                                     candidate.returned_value[i]));
    } else if (kind == Kind::TensorList || kind == Kind::OptionalTensorList) {
      tags += 'T';
      array.Set(i + 1, encode_list(env, value.toListRef(), [&](const at::IValue& each) {
                  return encode_tensor(environment, each.isNone() ? at::Tensor() : each.toTensor(), -1);
                }));
    } else {
      tags += 'v';
      array.Set(i + 1, encode_value(env, kind, value));
    }
  }
  array.Set(uint32_t{0}, tags);
  return array;
}

// What an operator tells about the shape of its tensors; other plain results are made of their values.
bool tells_shape(const std::string& op) {
  static const std::set<std::string> names = {"size",   "dim",        "numel",
                                              "stride", "isSameSize", "isFloatingPoint"};
  return names.count(op) > 0;
}

// A recording holds numbers and booleans as constants.
void note_plain_results(const Plan& plan, const Overload& overload, const Argument* arguments, size_t count,
                        const Reader& reader) {
  bool is_plain = std::none_of(overload.returns.begin(), overload.returns.end(), [](Kind kind) {
    return kind == Kind::Tensor || kind == Kind::TensorList || kind == Kind::OptionalTensorList;
  });
  if (!is_plain || !trace::is_recording()) return;
  auto read = tells_shape(plan.op->js_name) ? trace::Read::Shape : trace::Read::Value;
  for (size_t i = 0; i < count; i++)
    if (arguments[i].tag == Tag::Tensor)
      trace::note_read(read, plan.op->js_name.c_str(), reader.tensor_at(arguments[i].value));
}

// ---- The call
// -----------------------------------------------------------------------------------------------------

// libtorch's message, preceded by the operator and followed by what it was given.
[[noreturn]] void rethrow_with_context(const Plan& plan, const Argument* arguments, size_t count,
                                       const Reader& reader) {
  auto error = describe_exception(std::current_exception());
  std::ostringstream message;
  message << plan.op->js_name << ": " << error.what() << " (";
  for (size_t i = 0; i < count; i++)
    message << (i ? ", " : "") << plan.value_names[i] << ": " << reader.show(arguments[i]);
  message << ")";
  throw CodedError(error.code(), message.str());
}

// Stacks are reused: their capacity is what costs. One per nesting level, for an operator may call back.
class BorrowedStack {
 public:
  BorrowedStack() { std::swap(stack, spare()); }
  ~BorrowedStack() {
    stack.clear();
    std::swap(stack, spare());
  }
  Stack stack;

 private:
  static Stack& spare() {
    static thread_local Stack stack;
    return stack;
  }
};

double call_shortcut(Environment& environment, const Shortcut& shortcut, const at::Tensor& a,
                     const at::Tensor& b) {
  if (!shortcut.is_in_place()) return encode_tensor(environment, shortcut.call(a, b), -1);
  shortcut.call_in_place(a, b);
  return -1;  // the first value
}

// The encoded result, or nothing where there is no shortcut for these arguments.
optional<double> take_shortcut(Environment& environment, const Plan& plan, const Reader& reader,
                               const Argument* arguments, size_t count) {
  if (count == 0 || count > 2 || arguments[0].tag != Tag::Tensor) return nullopt;
  if (count == 1) {
    if (!plan.of_tensors.takes_one()) return nullopt;
    return encode_tensor(environment, plan.of_tensors.call(reader.tensor_at(arguments[0].value)), -1);
  }
  if (arguments[1].tag == Tag::Tensor) {
    if (!plan.of_tensors.takes_two()) return nullopt;
    return call_shortcut(environment, plan.of_tensors, reader.tensor_at(arguments[0].value),
                         reader.tensor_at(arguments[1].value));
  }
  // A recording is to hold a number, not a tensor that stands for it.
  if (arguments[1].type != napi_number || !plan.of_number.takes_two() || trace::is_recording())
    return nullopt;
  const auto& tensor = reader.tensor_at(arguments[0].value);
  const auto* number = environment.numbers.get(reader.raw_number(arguments[1].value), tensor.scalar_type());
  if (number == nullptr) return nullopt;
  return call_shortcut(environment, plan.of_number, tensor, *number);
}

napi_value to_handle_value(Environment& environment, double handle) {
  napi_value value;
  napi_create_double(environment.env, handle, &value);
  return value;
}

napi_value run(Environment& environment, const Plan& plan, const Argument* arguments, size_t count) {
  Reader reader(environment);
  try {
    if (auto result = take_shortcut(environment, plan, reader, arguments, count))
      return to_handle_value(environment, *result);
    const auto& candidate =
        plan.candidates.size() == 1 && accepts(plan.candidates[0], arguments, reader, true)
            ? plan.candidates[0]
            : choose(plan, arguments, count, reader);
    const auto& overload = *candidate.overload;
    BorrowedStack borrowed;
    auto& stack = borrowed.stack;
    for (size_t i = 0; i < overload.parameters.size(); i++) {
      const auto& parameter = overload.parameters[i];
      if (candidate.source[i] < 0)
        stack.push_back(parameter.default_value);
      else
        stack.push_back(reader.convert(parameter, arguments[candidate.source[i]]));
    }
    overload.handle.callBoxed(stack);

    if (overload.returns.size() == 1 && overload.returns[0] == Kind::Tensor && !stack[0].isNone()) {
      return to_handle_value(environment, encode_tensor(environment, std::move(stack[0]).toTensor(),
                                                        candidate.returned_value[0]));
    }
    note_plain_results(plan, overload, arguments, count, reader);
    return encode_results(environment.env, environment, candidate, stack);
  } catch (const Napi::Error&) {
    throw;
  } catch (const CodedError& error) {
    // Ours already say what is wrong; the operator's name is what they may lack.
    auto name = plan.op->js_name + ": ";
    if (std::string_view(error.what()).substr(0, name.size()) == name) throw;
    throw CodedError(error.code(), name + error.what());
  } catch (...) {
    rethrow_with_context(plan, arguments, count, reader);
  }
}

// The tags of a call: packed into a number, or as a string with a digit each where there are many.
class Tags {
 public:
  Tags(napi_env env, napi_value value, size_t count) : is_packed_(count <= most_packed_tags) {
    if (is_packed_) {
      napi_get_value_uint32(env, value, &bits_);
      return;
    }
    digits_ = to_text(Napi::Value(env, value), "tags");
    if (digits_.size() != count) fail("ERR_ARGUMENT", "call: expected ", count, " tags");
  }
  Tag operator[](size_t i) const {
    return static_cast<Tag>((is_packed_ ? bits_ >> (tag_bits_per_value * i) : digits_[i] - '0') & 7);
  }

 private:
  bool is_packed_;
  uint32_t bits_ = 0;
  std::string digits_;
};

// call(plan, tags, ...values)
napi_value call_with(Environment& environment, const napi_value* values, size_t count) {
  auto* env = environment.env;
  if (count < 2 || count > most_arguments + 2) fail("ERR_ARGUMENT", "call: expected (plan, tags, ...values)");
  uint32_t plan_id = 0;
  if (napi_get_value_uint32(env, values[0], &plan_id) != napi_ok || !environment.operators.has(plan_id))
    fail("ERR_ARGUMENT", "call: expected a plan of this thread");
  const auto& plan = environment.operators.at(plan_id);
  count -= 2;
  if (count != plan.value_names.size())
    fail("ERR_ARGUMENT", "call: ", plan.op->js_name, " was planned with ", plan.value_names.size(),
         " values, got ", count);

  Tags tags(env, values[1], count);
  ListReader lists(environment.lists);
  Argument arguments[most_arguments];
  for (size_t i = 0; i < count; i++) {
    auto& argument = arguments[i];
    argument.value = values[i + 2];
    argument.tag = tags[i];
    argument.type = napi_object;
    if (argument.tag == Tag::Plain)
      napi_typeof(env, argument.value, &argument.type);
    else if (argument.tag == Tag::TensorList || argument.tag == Tag::NumberList)
      std::tie(argument.list, argument.length) = lists.next(env, argument.value);
  }
  return run(environment, plan, arguments, count);
}

napi_value call(napi_env env, napi_callback_info info) {
  napi_value few[usual_arguments];
  size_t count = usual_arguments;
  void* data;
  napi_get_cb_info(env, info, &count, few, nullptr, &data);
  auto& environment = *static_cast<Environment*>(data);
  if (count <= usual_arguments) return call_with(environment, few, count);
  napi_value many[most_arguments + 2];
  count = most_arguments + 2;
  napi_get_cb_info(env, info, &count, many, nullptr, nullptr);
  return call_with(environment, many, count);
}

// ---- Plans and the catalogue
// ----------------------------------------------------------------------------------------

// plan(qualifiedName, overload | null, positional count, option names) -> plan
Napi::Value make_plan(const Napi::CallbackInfo& info) {
  auto name = to_text(info[0], "operator name");
  if (name.find("::") == std::string::npos)
    fail("ERR_ARGUMENT", "plan: expected a name such as aten::add, got ", name);
  std::string overload;
  bool any = info[1].IsNull();
  if (!any) overload = to_text(info[1], "overload name");
  std::vector<std::string> options;
  auto array = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) options.push_back(to_text(array.Get(i), "option name"));
  auto positional = static_cast<int>(to_integer(info[2], "positional"));
  auto id = Environment::of(info.Env()).operators.plan(name, any ? nullptr : &overload, positional, options);
  return Napi::Number::New(info.Env(), id);
}

Napi::Value operator_names(const Napi::CallbackInfo& info) {
  auto names = OperatorTable::names(to_text(info[0], "namespace"));
  auto array = Napi::Array::New(info.Env(), names.size() * 3);
  uint32_t i = 0;
  for (const auto& each : names) {
    array.Set(i++, each.js_name);
    array.Set(i++, each.name);
    array.Set(i++, each.is_method);
  }
  return array;
}

Napi::Value operator_namespaces(const Napi::CallbackInfo& info) {
  return encode_list(info.Env(), OperatorTable::namespaces(), [](const std::string& each) { return each; });
}

Napi::Value overload_names(const Napi::CallbackInfo& info) {
  const auto& op = Environment::of(info.Env()).operators.find(to_text(info[0], "operator name"));
  return encode_list(info.Env(), op.overloads, [](const Overload& each) { return each.name; });
}

Napi::Value operator_schemas(const Napi::CallbackInfo& info) {
  return encode_list(info.Env(), OperatorTable::schemas(to_text(info[0], "namespace")),
                     [](const std::string& each) { return each; });
}

Napi::Value operator_counts(const Napi::CallbackInfo& info) {
  auto counts = OperatorTable::count(to_text(info[0], "namespace"));
  auto object = Napi::Object::New(info.Env());
  object.Set("names", static_cast<double>(counts.names));
  object.Set("overloads", static_cast<double>(counts.overloads));
  object.Set("reachable", static_cast<double>(counts.reachable));
  return object;
}

}  // namespace

void export_dispatch(Napi::Env env, Napi::Object exports) {
  napi_value function;
  napi_create_function(env, "call", NAPI_AUTO_LENGTH, guarded_raw<call>, &Environment::of(env), &function);
  exports.Set("call", function);
  exports.Set("plan", Napi::Function::New<guarded<make_plan>>(env, "plan"));
  exports.Set("operatorNames", Napi::Function::New<guarded<operator_names>>(env, "operatorNames"));
  exports.Set("operatorNamespaces",
              Napi::Function::New<guarded<operator_namespaces>>(env, "operatorNamespaces"));
  exports.Set("overloadNames", Napi::Function::New<guarded<overload_names>>(env, "overloadNames"));
  exports.Set("operatorSchemas", Napi::Function::New<guarded<operator_schemas>>(env, "operatorSchemas"));
  exports.Set("operatorCounts", Napi::Function::New<guarded<operator_counts>>(env, "operatorCounts"));
}

}  // namespace alambic
