// What one JavaScript environment (the main thread, or one worker) owns. No global state: everything hangs
// here.
#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "calls/call_buffer.h"
#include "calls/number_tensors.h"
#include "calls/operators.h"
#include "memory/scope_flag.h"
#include "random/random.h"
#include "tensors/handle_table.h"
#include "threads/jobs.h"

namespace alambic {

struct Environment {
  explicit Environment(napi_env env) : env(env) {}

  static Environment& of(napi_env env) { return *find(env); }
  // Null until the addon is initialized.
  static Environment* find(napi_env env) {
    void* data = nullptr;
    napi_get_instance_data(env, &data);
    return static_cast<Environment*>(data);
  }

  // A handle for a new result. Tells the engine about memory it can't see, so that it collects in time.
  Handle adopt(at::Tensor tensor) {
    auto handle = tensors.insert(std::move(tensor));
    report_memory();
    return handle;
  }
  bool release(Handle handle) {
    bool was_alive = tensors.release(handle);
    report_memory();
    return was_alive;
  }

  napi_env env;
  HandleTable tensors;
  OperatorTable operators;
  NumberTensors numbers;
  CallBuffer buffer;
  std::vector<Word> words;
  Napi::FunctionReference error_class;
  ScopeFlag scope;
  std::shared_ptr<Random> random = Random::of_this_thread();
  Jobs jobs{env, random};

 private:
  // Told in steps: the call costs more than a small tensor is worth. Not told while a scope is open: its
  // tensors are released when it ends and not by a collection, of which a training step would cause several.
  static constexpr int64_t memory_step = 1 << 20;
  void report_memory() {
    if (scope.is_open()) return;
    if (std::abs(tensors.change()) < memory_step) return;
    int64_t total;
    napi_adjust_external_memory(env, tensors.take_change(), &total);
  }
};

}  // namespace alambic
