#include "trace/recording.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/shape_analysis.h>

#include <atomic>

#include "environment.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace trace {

namespace {

namespace jit = torch::jit;

jit::Stack to_stack(const Tensors& tensors) { return {tensors.begin(), tensors.end()}; }

// The interpreter puts its own traceback around an operator's message.
std::string without_traceback(const std::string& message) {
  constexpr std::string_view mark = "RuntimeError: ";
  auto at = message.rfind(mark);
  if (message.rfind("The following operation failed", 0) != 0 || at == std::string::npos) return message;
  return message.substr(at + mark.size());
}

}  // namespace

Recording::Recording(const Tensors& inputs, size_t shared, const std::function<Tensors()>& body,
                     Recorder recorder) {
  {
    Listening listening(recorder);
    auto traced = jit::tracer::trace(
        to_stack(inputs), [&](jit::Stack) { return to_stack(body()); },
        [](const at::Tensor&) { return std::string(); }, /*strict=*/false, /*force_outplace=*/false);
    graph_ = traced.first->graph;
  }
  closures_ = std::move(recorder.closures);
  side_part_ = settle_side_part(*graph_, inputs, shared);
  jit::EraseShapeInformation(graph_);
  code_ = jit::Code(graph_, "recording");
}

Tensors Recording::run(const Tensors& inputs) const {
  Closures closures(closures_);
  auto stack = to_stack(inputs);
  try {
    jit::InterpreterState(code_).run(stack);
  } catch (...) {
    if (closures.error) std::rethrow_exception(closures.error);
    auto error = describe_exception(std::current_exception());
    auto message = without_traceback(error.what());
    // The interpreter makes a plain exception of whatever an operator threw.
    if (std::string_view(error.code()) != "ERR_NATIVE") throw CodedError(error.code(), message);
    bool is_memory = message.find("DefaultCPUAllocator") != std::string::npos ||
                     message.find("out of memory") != std::string::npos;
    throw CodedError(is_memory ? "ERR_OUT_OF_MEMORY" : "ERR_OPERATOR", message);
  }
  Tensors outputs;
  for (auto& value : stack) outputs.push_back(std::move(value).toTensor());
  return outputs;
}

void Recording::defer_side_part() {
  trace::defer_side_part(*graph_);
  code_ = jit::Code(graph_, "recording");
}

std::string Recording::text() const { return graph_->toString(/*print_source_locations=*/false); }

}  // namespace trace

Napi::Function RecordingObject::define(Napi::Env env) {
  return DefineClass(env, "Recording",
                     {InstanceMethod("text", &RecordingObject::text),
                      InstanceMethod("sidePart", &RecordingObject::side_part),
                      InstanceMethod("deferSidePart", &RecordingObject::defer_side_part)});
}

static std::atomic<int64_t> next_id{1};

// new Recording(captured, batch, body, onRead)
RecordingObject::RecordingObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<RecordingObject>(info), id_(next_id++) {
  guard(info.Env(), [&] {
    captured_ = to_tensors(info[0], "captured");
    auto inputs = captured_;
    for (auto& tensor : to_tensors(info[1], "batch")) inputs.push_back(tensor);
    auto body = info[2].As<Napi::Function>();
    auto on_read = info[3].As<Napi::Function>();
    trace::Recorder recorder{
        trace::Purpose::Replay,
        [&](trace::Read read, const char* what, const at::Tensor& tensor) {
          if (read == trace::Read::Shape) return;  // there is one recording per shape
          on_read.Call({Napi::String::New(info.Env(), "value"), Napi::String::New(info.Env(), what),
                        Napi::String::New(info.Env(), describe(tensor))});
        },
        {}};
    recording_ = std::make_unique<trace::Recording>(
        inputs, /*shared: the data of the batch*/ captured_.size(),
        [&] { return to_tensors(body.Call({}), "outputs"); }, std::move(recorder));
  });
}

trace::Tensors RecordingObject::run(const trace::Tensors& batch) const {
  auto inputs = captured_;
  inputs.insert(inputs.end(), batch.begin(), batch.end());
  return recording_->run(inputs);
}

// text() -> what two recordings of the same have in common
Napi::Value RecordingObject::text(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return Napi::String::New(info.Env(), recording_->text()); });
}

// sidePart() -> undefined where nothing is marked; else why it runs in line, or null
Napi::Value RecordingObject::side_part(const Napi::CallbackInfo& info) {
  const auto& part = recording_->side_part();
  if (!part.found) return info.Env().Undefined();
  if (part.obstacle.empty()) return info.Env().Null();
  return Napi::String::New(info.Env(), part.obstacle);
}

// deferSidePart()
Napi::Value RecordingObject::defer_side_part(const Napi::CallbackInfo& info) {
  recording_->defer_side_part();
  return info.Env().Undefined();
}

// recordSidePart(begins): only where a recording is being made
Napi::Value record_side_part(const Napi::CallbackInfo& info) {
  trace::record_side_part(to_bool(info[0], "begins"));
  return info.Env().Undefined();
}

void export_recording(Napi::Env env, Napi::Object exports) {
  exports.Set("recordSidePart", Napi::Function::New<guarded<record_side_part>>(env));
  exports.Set("Recording", RecordingObject::define(env));
}

}  // namespace alambic
