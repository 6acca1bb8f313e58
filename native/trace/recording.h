// What a function of JavaScript did, as a graph that runs without it.
#pragma once
#include <napi.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include "trace/recorder.h"
#include "trace/side_part.h"

namespace alambic {

namespace trace {

// Runs the recorded operators one by one, as they were called: nothing is fused, reordered or specialised, so
// that the results are those of the function, bit for bit. May run in any thread, one at a time.
class Recording {
 public:
  // `inputs` are what may change from one run to the next: their values, or which tensors they are. What else
  // the body uses is a constant. The body runs once. A side part may read input number `shared` together with
  // the rest.
  Recording(const Tensors& inputs, size_t shared, const std::function<Tensors()>& body, Recorder recorder);

  Tensors run(const Tensors& inputs) const;
  // Two recordings of a function that does the same at every call have equal texts. Shapes are no part of it.
  std::string text() const;
  const SidePart& side_part() const { return side_part_; }
  // From now on the side part runs as late as it may, which a GPU is free to do: for tests.
  void defer_side_part();

 private:
  std::vector<Closure> closures_;
  std::shared_ptr<torch::jit::Graph> graph_;
  SidePart side_part_;
  torch::jit::Code code_;
};

}  // namespace trace

// The JavaScript object.
class RecordingObject : public Napi::ObjectWrap<RecordingObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit RecordingObject(const Napi::CallbackInfo& info);

  // With the tensors it was recorded with, and another batch.
  trace::Tensors run(const trace::Tensors& batch) const;
  const trace::Tensors& captured() const { return captured_; }
  bool has_side_part() const {
    return recording_->side_part().found && recording_->side_part().obstacle.empty();
  }
  // Of this recording alone, in this process.
  int64_t id() const { return id_; }

 private:
  Napi::Value text(const Napi::CallbackInfo& info);
  Napi::Value side_part(const Napi::CallbackInfo& info);
  Napi::Value defer_side_part(const Napi::CallbackInfo& info);

  int64_t id_;
  trace::Tensors captured_;
  std::unique_ptr<trace::Recording> recording_;
};

void export_recording(Napi::Env env, Napi::Object exports);

}  // namespace alambic
