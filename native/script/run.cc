// Calling a method of a TorchScript module, with or without taps, in this thread or in another.
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/jit_exception.h>

#include <memory>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "script/ivalues.h"
#include "script/job.h"
#include "script/script_module.h"
#include "script/tap_arguments.h"
#include "script/taps.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic::script {

namespace {

using c10::IValue;
using torch::jit::GraphFunction;
using torch::jit::Module;
using torch::jit::Stack;

constexpr napi_type_tag tapped_tag = {0x616c616d62696373, 0x6372697074000002};

// A method with taps; null where a module has them inside, as a frozen one.
using Tapped = std::shared_ptr<GraphFunction>;

// tapScript(module, method, taps) -> opaque
Napi::Value tap(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  const auto& module = to_module(info[0]);
  auto method = to_text(info[1], "method");
  Tapped tapped = with_taps(module, method, to_taps(info[2]));
  auto external = Napi::External<Tapped>::New(env, new Tapped(std::move(tapped)),
                                              [](Napi::Env, Tapped* finished) { delete finished; });
  napi_type_tag_object(env, external, &tapped_tag);
  return external;
}

Tapped to_tapped(const Napi::Value& value) {
  if (value.IsUndefined()) return nullptr;
  bool is_tapped = false;
  if (!value.IsExternal() ||
      napi_check_object_type_tag(value.Env(), value, &tapped_tag, &is_tapped) != napi_ok || !is_tapped)
    fail("ERR_ARGUMENT", "taps: expected what tapScript returned");
  return *value.As<Napi::External<Tapped>>().Data();
}

// What a run needs, free of JavaScript.
struct Run {
  std::string what;  // "forward of ResNet"
  Module module;
  torch::jit::Function* function;
  Tapped tapped;
  Stack stack;
  bool listens;

  torch::jit::Function& target() const { return tapped ? *tapped : *function; }
};

// What it gave: the value, and what the taps saw, in the order in which they saw it.
struct Outcome {
  IValue output;
  std::vector<std::pair<int64_t, IValue>> seen;
};

// (module, method, arguments, taps | undefined, listens): undefined arguments take their defaults
Run read_run(const Napi::CallbackInfo& info) {
  const auto& module = to_module(info[0]);
  auto name = to_text(info[1], "method");
  auto method = module.find_method(name);
  if (!method) fail("ERR_ARGUMENT", class_name(module), " has no method \"", name, "\"");
  const auto& schema = method->function().getSchema();
  auto given = info[2].As<Napi::Array>();
  if (given.Length() + 1 > schema.arguments().size())
    fail("ERR_ARGUMENT", name, ": expected at most ", schema.arguments().size() - 1, " arguments, got ",
         given.Length());
  Stack stack{module._ivalue()};
  for (uint32_t i = 0; i + 1 < schema.arguments().size(); i++) {
    const auto& argument = schema.arguments()[i + 1];
    auto value = given.Get(i);
    if (value.IsUndefined() && argument.default_value())
      stack.push_back(*argument.default_value());
    else if (value.IsUndefined() && argument.type()->kind() != c10::TypeKind::OptionalType)
      fail("ERR_ARGUMENT", name, ": expected ", argument.name(), ": ", type_name(argument.type()),
           " as argument ", i + 1, ", got nothing");
    else
      stack.push_back(to_ivalue(value, argument.type(), name + ": " + argument.name()));
  }
  return {c10::str(name, " of ", class_name(module)),
          module,
          &method->function(),
          to_tapped(info[3]),
          std::move(stack),
          to_bool(info[4], "listens")};
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The interpreter's report without its frame, and the error before the trace that leads to it.
std::string readable(std::string message) {
  constexpr std::string_view frame = "The following operation failed in the TorchScript interpreter.\n";
  if (message.compare(0, frame.size(), frame) == 0) message.erase(0, frame.size());
  while (ends_with(message, "\n")) message.pop_back();
  auto error = message.rfind("RuntimeError: ");
  if (error == std::string::npos || error == 0) return message;
  auto trace = message.substr(0, error);
  while (ends_with(trace, "\n")) trace.pop_back();
  return message.substr(error + std::string_view("RuntimeError: ").size()) + "\n" + trace;
}

[[noreturn]] void rethrow_as_script_error(const std::string& what) {
  try {
    throw;
  } catch (const CodedError&) {
    throw;
  } catch (const torch::jit::JITException& error) {
    auto message = error.getOriginalMsg().value_or("");
    throw CodedError("ERR_SCRIPT",
                     c10::str(what, " raised ", error.getPythonClassName().value_or("an exception"),
                              message.empty() ? "" : ": " + message));
  } catch (...) {
    auto error = describe_exception(std::current_exception());
    auto message = readable(error.what());
    bool is_memory = std::string_view(error.code()) == "ERR_OUT_OF_MEMORY" ||
                     message.find("DefaultCPUAllocator") != std::string::npos ||
                     message.find("CUDA out of memory") != std::string::npos;
    throw CodedError(is_memory ? "ERR_OUT_OF_MEMORY" : "ERR_SCRIPT", c10::str(what, ": ", message));
  }
}

IValue execute(Run& run) {
  try {
    run.target().run(run.stack);
    return std::move(run.stack.back());
  } catch (...) {
    rethrow_as_script_error(run.what);
  }
}

Outcome execute_listening(Run& run) {
  Outcome outcome;
  TapListener listener([&](int64_t tap, IValue value) {
    outcome.seen.emplace_back(tap, value);
    return value;
  });
  outcome.output = execute(run);
  return outcome;
}

// Shows each value to JavaScript, which may answer with another one. The interpreter would make its own error
// of what a callback throws.
Outcome execute_with_callback(Run& run, const Napi::Function& callback) {
  auto env = callback.Env();
  Napi::Error thrown;
  std::exception_ptr wrong;
  TapListener listener([&](int64_t tap, IValue value) -> IValue {
    try {
      Napi::HandleScope scope(env);
      auto answer = callback.Call(
          {Napi::Number::New(env, static_cast<double>(tap)), from_ivalue(env, value, "captureFeatures")});
      return answer.IsUndefined() ? value : to_ivalue(answer, value.type(), "replace");
    } catch (const Napi::Error& error) {
      thrown = error;
      throw std::runtime_error("a callback of captureFeatures failed");
    } catch (...) {
      wrong = std::current_exception();
      throw std::runtime_error("a callback of captureFeatures failed");
    }
  });
  try {
    return {execute(run), {}};
  } catch (...) {
    if (!thrown.IsEmpty()) throw thrown;
    if (wrong) std::rethrow_exception(wrong);
    throw;
  }
}

Outcome execute_here(Run& run) {
  if (run.listens) return execute_listening(run);
  TapListener nobody(
      [](int64_t, IValue value) { return value; });  // those of a run around this one are not meant
  return {execute(run), {}};
}

// ---- In a recording
// ------------------------------------------------------------------------------------------------------------

// The tensors in a value, in order. Returns whether there is anything else in it.
bool collect_tensors(const IValue& value, trace::Tensors& tensors) {
  if (value.isNone()) return false;
  if (value.isTensor()) {
    if (value.toTensor().defined()) tensors.push_back(value.toTensor());
    return false;
  }
  bool has_others = !value.isTuple() && !value.isList() && !value.isGenericDict();
  if (value.isTuple())
    for (const auto& each : value.toTupleRef().elements()) has_others |= collect_tensors(each, tensors);
  if (value.isList())
    for (const IValue& each : value.toListRef()) has_others |= collect_tensors(each, tensors);
  if (value.isGenericDict())
    for (const auto& entry : value.toGenericDict()) has_others |= collect_tensors(entry.value(), tensors);
  return has_others;
}

bool collect_tensors(const Outcome& outcome, trace::Tensors& tensors) {
  bool has_others = collect_tensors(outcome.output, tensors);
  for (const auto& [tap, value] : outcome.seen) has_others |= collect_tensors(value, tensors);
  return has_others;
}

// Where in the arguments the tensors are.
std::vector<size_t> tensor_places(const Run& run) {
  std::vector<size_t> places;
  for (size_t i = 1; i < run.stack.size(); i++) {
    trace::Tensors inside;
    if (run.stack[i].isTensor())
      places.push_back(i);
    else if (collect_tensors(run.stack[i], inside), !inside.empty())
      fail("ERR_NOT_IMPLEMENTED", run.what, ": lists of tensors as arguments cannot be recorded");
  }
  return places;
}

// The whole run is one step of the recording: what it decides by values is decided anew each time.
Outcome execute_recorded(const Run& run) {
  auto places = tensor_places(run);
  trace::Tensors inputs;
  for (auto place : places) inputs.push_back(run.stack[place].toTensor());
  Outcome first;
  auto target = std::make_shared<Outcome*>(&first);
  auto again = [run, places, target](const trace::Tensors& tensors) {
    auto copy = run;
    for (size_t i = 0; i < places.size(); i++) copy.stack[places[i]] = tensors[i];
    auto outcome = execute_here(copy);
    trace::Tensors results;
    collect_tensors(outcome, results);
    if (*target != nullptr) **target = std::move(outcome);
    return results;
  };
  trace::record_closure(run.what.c_str(), inputs, again, /*has_operators=*/false);
  *target = nullptr;
  trace::Tensors results;
  if (collect_tensors(first, results))
    for (const auto& input : inputs) trace::note_read(trace::Read::Value, run.what.c_str(), input);
  return first;
}

// -> [output, [tap, value, tap, value …]]
Napi::Value from_outcome(Napi::Env env, const Run& run, const Outcome& outcome) {
  auto seen = Napi::Array::New(env, 2 * outcome.seen.size());
  uint32_t at = 0;
  for (const auto& [tap, value] : outcome.seen) {
    seen.Set(at++, static_cast<double>(tap));
    seen.Set(at++, from_ivalue(env, value, run.what));
  }
  auto pair = Napi::Array::New(env, 2);
  pair.Set(uint32_t{0}, from_ivalue(env, outcome.output, run.what));
  pair.Set(uint32_t{1}, seen);
  return pair;
}

// runScript(module, method, arguments, taps, listens, callback | undefined)
Napi::Value run(const Napi::CallbackInfo& info) {
  auto run = read_run(info);
  if (info[5].IsFunction()) trace::refuse_while_recording("captureFeatures with replace");
  auto outcome = info[5].IsFunction()    ? execute_with_callback(run, info[5].As<Napi::Function>())
                 : trace::is_recording() ? execute_recorded(run)
                                         : execute_here(run);
  return from_outcome(info.Env(), run, outcome);
}

// runScriptAsync(module, method, arguments, taps, listens) -> promise
Napi::Value run_async(const Napi::CallbackInfo& info) {
  trace::refuse_while_recording("forwardAsync");
  auto run = std::make_shared<Run>(read_run(info));
  return Job<Outcome>::start(
      info.Env(), [run] { return execute_here(*run); },
      [run](Napi::Env env, Outcome& outcome) { return from_outcome(env, *run, outcome); });
}

}  // namespace

std::vector<Tap> to_taps(const Napi::Value& value) {
  std::vector<Tap> taps;
  auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    auto object = array.Get(i).As<Napi::Object>();
    Tap tap;
    tap.path = to_text(object.Get("path"), "path");
    tap.input = to_bool(object.Get("input"), "input");
    tap.argument = to_integer(object.Get("argument"), "argument");
    auto steps = object.Get("steps").As<Napi::Array>();
    for (uint32_t k = 0; k < steps.Length(); k++) tap.steps.push_back(to_text(steps.Get(k), "steps"));
    tap.whole = object.Has("whole") && to_bool(object.Get("whole"), "whole");
    taps.push_back(std::move(tap));
  }
  return taps;
}

void export_running(Napi::Env env, Napi::Object exports) {
  exports.Set("tapScript", Napi::Function::New<guarded<tap>>(env));
  exports.Set("runScript", Napi::Function::New<guarded<run>>(env));
  exports.Set("runScriptAsync", Napi::Function::New<guarded<run_async>>(env));
}

}  // namespace alambic::script
