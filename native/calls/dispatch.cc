#include "calls/dispatch.h"

#include <ATen/quantized/QTensorImpl.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "autograd/autograd.h"
#include "calls/arguments.h"
#include "calls/given.h"
#include "calls/hints.h"
#include "environment.h"
#include "errors.h"
#include "tensors/scalars.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

using torch::jit::Stack;

constexpr size_t most_arguments = 64;
// Node fills the rest of the list with `undefined`: a short one is asked for first.
constexpr size_t usual_others = 2;

// ---- Choosing the overload
// --------------------------------------------------------------------------------------

bool accepts(const Candidate& candidate, const Argument* arguments, const Reader& reader, bool lenient) {
  const auto& parameters = candidate.overload->parameters;
  for (size_t i = 0; i < parameters.size(); i++)
    if (candidate.source[i] >= 0 && !reader.matches(parameters[i], arguments[candidate.source[i]], lenient))
      return false;
  return true;
}

bool is_text(const Argument& argument) {
  return argument.tag == Tag::Word ||
         (argument.tag == Tag::Other && argument.plain->type == Plain::Type::String);
}

// A number where a list is wanted: the list with it, for the first candidate that takes that.
std::string suggest_list(const Plan& plan, const Argument* arguments, const Reader& reader) {
  for (const auto& candidate : plan.candidates) {
    std::string list;
    bool fits = true;
    for (size_t i = 0; i < candidate.source.size() && fits; i++) {
      if (candidate.source[i] < 0) continue;
      const auto& parameter = candidate.overload->parameters[i];
      const auto& argument = arguments[candidate.source[i]];
      bool is_element = parameter.kind == Kind::IntList && argument.tag == Tag::Number &&
                        parameter.broadcast == 0 && is_integer(argument.number);
      fits = is_element || reader.matches(parameter, argument, true);
      if (is_element) list = c10::str("[", reader.show(argument), "]");
    }
    if (fits && !list.empty()) return c10::str("; did you mean ", list, "?");
  }
  return "";
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
      const auto& argument = arguments[candidate.source[i]];
      // Names those that there are.
      if (parameter.kind == Kind::Dtype && is_text(argument)) parse_dtype(reader.text(argument));
      message << parameter.js_name << ": expected " << parameter.type << ", got " << reader.show(argument)
              << suggest_list(plan, arguments, reader);
      fail("ERR_ARGUMENT", message.str());
    }
  }
  message << "no overload takes (";
  for (size_t i = 0; i < count; i++) message << (i ? ", " : "") << reader.show(arguments[i]);
  message << "); there are ";
  for (size_t i = 0; i < plan.candidates.size(); i++)
    message << (i ? " and " : "") << signature(*plan.op, *plan.candidates[i].overload);
  message << suggest_list(plan, arguments, reader);
  fail("ERR_NO_OVERLOAD", message.str());
}

const Candidate& choose(const Plan& plan, const Argument* arguments, size_t count, const Reader& reader) {
  if (plan.candidates.size() == 1 && accepts(plan.candidates[0], arguments, reader, true))
    return plan.candidates[0];
  for (bool lenient : {false, true})
    for (const auto& candidate : plan.candidates)
      if (accepts(candidate, arguments, reader, lenient)) return candidate;
  no_match(plan, arguments, count, reader);
}

// ---- Results
// ------------------------------------------------------------------------------------------------------

// Some views and copies of a quantized tensor have its dtype and not its scales: whoever looks at one reads
// memory that is not there.
void check_result(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_quantized()) return;
  if (dynamic_cast<const at::QTensorImpl*>(tensor.unsafeGetTensorImpl()) == nullptr)
    fail("ERR_NOT_IMPLEMENTED", "libtorch makes a tensor without scales of a quantized one here");
}

// A tensor becomes its handle; one that is an argument of the call becomes -(index + 1), so that the caller
// returns the object that it has.
double encode_tensor(Environment& environment, at::Tensor tensor, int returned_value) {
  if (returned_value >= 0) return -(returned_value + 1);
  check_result(tensor);
  return tensor.defined() ? static_cast<double>(environment.adopt(with_memory(std::move(tensor)))) : 0;
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
void note_plain_results(const Plan& plan, const Overload& overload, const Argument* arguments, size_t count) {
  bool is_plain = std::none_of(overload.returns.begin(), overload.returns.end(), [](Kind kind) {
    return kind == Kind::Tensor || kind == Kind::TensorList || kind == Kind::OptionalTensorList;
  });
  if (!is_plain || !trace::is_recording()) return;
  auto read = tells_shape(plan.op->js_name) ? trace::Read::Shape : trace::Read::Value;
  // Who is told may release tensors: all are held before the first is shown.
  std::vector<at::Tensor> tensors;
  for (size_t i = 0; i < count; i++)
    if (arguments[i].tag == Tag::Tensor) tensors.push_back(*arguments[i].tensor);
  for (const auto& tensor : tensors) trace::note_read(read, plan.op->js_name.c_str(), tensor);
}

// ---- The call
// -----------------------------------------------------------------------------------------------------

// libtorch's message, preceded by the operator and followed by what it was given.
[[noreturn]] void rethrow_with_context(const Plan& plan, const Argument* arguments, size_t count,
                                       const Reader& reader) {
  auto error = describe_exception(std::current_exception());
  // What a kernel lets escape (std::length_error …) is its refusal as well.
  const auto* code = std::string_view(error.code()) == "ERR_NATIVE" ? "ERR_OPERATOR" : error.code();
  std::ostringstream message;
  message << plan.op->js_name << ": " << error.what() << " (";
  for (size_t i = 0; i < count; i++)
    message << (i ? ", " : "") << plan.value_names[i] << ": " << reader.show(arguments[i]);
  message << ")";
  throw CodedError(code, message.str());
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

// The number beside a tensor as the tensor that it stands for, for operators that make no difference; or
// null.
const at::Tensor* number_tensor(Environment& environment, const Plan& plan, const Argument* arguments) {
  if (!plan.of_number || arguments[0].tag != Tag::Tensor || arguments[1].tag != Tag::Number) return nullptr;
  auto dtype = arguments[0].tensor->scalar_type();
  // A recording is to hold the number, unless that changes the result.
  if (trace::is_recording() && !rounds_numbers(plan.op->qualified_name, dtype)) return nullptr;
  return environment.numbers.get(arguments[1].number, dtype);
}

// One tensor, the commonest result, returns in the place of the plan.
napi_value return_tensor(Environment& environment, at::Tensor tensor, int returned_value) {
  environment.buffer.data()[0] = encode_tensor(environment, std::move(tensor), returned_value);
  return nullptr;
}

// A call whose arguments were read, and what was chosen for them.
struct Chosen {
  const Plan& plan;
  const Candidate& candidate;
  const UnboxedCall* unboxed;  // null where it has to be called boxed
  const Argument* arguments;
  size_t count;
};

napi_value call_boxed(Environment& environment, const Chosen& chosen, const Reader& reader) {
  const auto& [plan, candidate, _, arguments, count] = chosen;
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
  if (overload.returns.size() == 1 && overload.returns[0] == Kind::Tensor && !stack[0].isNone())
    return return_tensor(environment, std::move(stack[0]).toTensor(), candidate.returned_value[0]);
  note_plain_results(plan, overload, arguments, count);
  return encode_results(environment.env, environment, candidate, stack);
}

napi_value run(Environment& environment, const Chosen& chosen, const Reader& reader) {
  if (chosen.unboxed == nullptr) return call_boxed(environment, chosen, reader);
  return return_tensor(environment, chosen.unboxed->call(reader, chosen.arguments),
                       chosen.candidate.returned_value[0]);
}

napi_value time(Environment& environment, const Chosen& chosen, const Reader& reader) {
  constexpr size_t calls = 1000;
  if (chosen.unboxed == nullptr) return Napi::Env(environment.env).Null();
  return Napi::Number::New(environment.env, chosen.unboxed->time(reader, chosen.arguments, calls));
}

const Plan& planned(Environment& environment) {
  const auto& buffer = environment.buffer;
  double plan = buffer.size() > 0 ? buffer.data()[0] : -1;
  if (!environment.operators.has(plan)) fail("ERR_ARGUMENT", "call: expected a plan of this thread");
  return environment.operators.at(static_cast<uint32_t>(plan));
}

// A call as it lies in the buffer: its plan, then tag and number of each value, behind a list its elements.
// JavaScript passes what is no number besides.
template <napi_value (*act)(Environment&, const Chosen&, const Reader&)>
napi_value with_call(napi_env env, napi_callback_info info) {
  napi_value few[usual_others], many[most_arguments];
  Others others{few, usual_others};
  void* data;
  napi_get_cb_info(env, info, &others.count, few, nullptr, &data);
  if (others.count > usual_others) {
    others = {many, most_arguments};
    napi_get_cb_info(env, info, &others.count, many, nullptr, nullptr);
  }
  auto& environment = *static_cast<Environment*>(data);
  const auto& plan = planned(environment);
  const size_t count = plan.value_names.size();
  if (count > most_arguments) fail("ERR_ARGUMENT", "call: more than ", most_arguments, " values");
  Argument arguments[most_arguments];
  Copies copies;
  size_t read = 0;  // as many can be shown in an error
  Reader reader(environment);
  try {
    read_arguments(environment, others, arguments, count, copies);
    read = count;
    const auto* number = number_tensor(environment, plan, arguments);
    if (number == nullptr) {
      const auto& candidate = choose(plan, arguments, count, reader);
      for (const auto* refusal : plan.op->refusals) refusal->check(Given(plan, candidate, arguments, reader));
      return act(environment, {plan, candidate, candidate.unboxed.get(), arguments, count}, reader);
    }
    Argument tensors[] = {arguments[0], arguments[1]};
    tensors[1].tag = Tag::Tensor;
    tensors[1].tensor = number;
    return act(environment, {plan, plan.candidates.front(), plan.of_number.get(), tensors, count}, reader);
  } catch (const Napi::Error&) {
    throw;
  } catch (const CodedError& error) {
    // Ours already say what is wrong; the operator's name is what they may lack.
    auto name = plan.op->js_name + ": ";
    if (std::string_view(error.what()).substr(0, name.size()) == name) throw;
    throw CodedError(error.code(), name + error.what());
  } catch (...) {
    rethrow_with_context(plan, arguments, read, reader);
  }
}

// ---- Plans and the catalogue
// ----------------------------------------------------------------------------------------

GivenCall to_given_call(const Napi::CallbackInfo& info) {
  GivenCall given;
  auto options = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < options.Length(); i++)
    given.options.push_back(to_text(options.Get(i), "option name"));
  auto positional = to_integer(info[2], "positional");
  if (positional < 0 || positional > 1000000)
    fail("ERR_ARGUMENT", "plan: expected a number of positional arguments, got ", positional);
  given.positional.resize(static_cast<size_t>(positional));
  if (info[4].IsUndefined()) return given;
  auto values = info[4].As<Napi::Array>();
  for (uint32_t i = 0; i < values.Length() && i < given.positional.size(); i++)
    given.positional[i] = to_plain(values.Get(i));
  given.is_method = positional > 0 && to_bool(info[5], "isMethod");
  return given;
}

// plan(qualifiedName, overload | null, positional count, option names, values?, isMethod?) -> plan
Napi::Value make_plan(const Napi::CallbackInfo& info) {
  auto name = to_text(info[0], "operator name");
  if (name.find("::") == std::string::npos)
    fail("ERR_ARGUMENT", "plan: expected a name such as aten::add, got ", name);
  std::string overload;
  bool any = info[1].IsNull();
  if (!any) overload = to_text(info[1], "overload name");
  auto given = to_given_call(info);
  auto& operators = Environment::of(info.Env()).operators;
  return Napi::Number::New(info.Env(), operators.plan(name, any ? nullptr : &overload, given));
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
  napi_value call, time_call;
  auto* environment = &Environment::of(env);
  napi_create_function(env, "call", NAPI_AUTO_LENGTH, guarded_raw<with_call<run>>, environment, &call);
  napi_create_function(env, "timeCall", NAPI_AUTO_LENGTH, guarded_raw<with_call<time>>, environment,
                       &time_call);
  exports.Set("call", call);
  exports.Set("timeCall", time_call);
  exports.Set("plan", Napi::Function::New<guarded<make_plan>>(env, "plan"));
  exports.Set("operatorNames", Napi::Function::New<guarded<operator_names>>(env, "operatorNames"));
  exports.Set("operatorNamespaces",
              Napi::Function::New<guarded<operator_namespaces>>(env, "operatorNamespaces"));
  exports.Set("overloadNames", Napi::Function::New<guarded<overload_names>>(env, "overloadNames"));
  exports.Set("operatorSchemas", Napi::Function::New<guarded<operator_schemas>>(env, "operatorSchemas"));
  exports.Set("operatorCounts", Napi::Function::New<guarded<operator_counts>>(env, "operatorCounts"));
}

}  // namespace alambic
