#include "step/compiled_step.h"

#include <ATen/Parallel.h>

#include <memory>
#include <optional>

#include "cuda/find_library.h"
#include "environment.h"
#include "errors.h"
#include "step/training_step.h"
#include "tensors/values.h"
#include "threads/jobs.h"
#include "threads/thread_team.h"
#include "trace/recording.h"

namespace alambic {

namespace {

using step::Tensors;

std::vector<Handle> to_handles(const Napi::Value& value) {
  auto array = value.As<Napi::Array>();
  std::vector<Handle> handles;
  for (uint32_t i = 0; i < array.Length(); i++) handles.push_back(to_handle(array.Get(i)));
  return handles;
}

// Tensors that JavaScript must leave alone while this lives.
class Locked {
 public:
  // Where one cannot be locked, none stays so.
  Locked(HandleTable& table, const std::vector<Handle>& handles) : Locked(table) {
    locked_.reserve(handles.size());
    for (auto handle : handles) {
      table_.lock(handle);
      locked_.push_back(handle);
    }
  }
  ~Locked() {
    for (auto handle : locked_) table_.unlock(handle);
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  explicit Locked(HandleTable& table) : table_(table) {}

  HandleTable& table_;
  std::vector<Handle> locked_;
};

// Sets a flag while it lives.
class Raised {
 public:
  explicit Raised(bool& flag) : flag_(flag) { flag_ = true; }
  ~Raised() { flag_ = false; }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;

 private:
  bool& flag_;
};

std::unique_ptr<step::StepRunner> make_runner(const std::string& name, const Tensors& trained) {
  if (name == "device") return std::make_unique<step::DeviceRunner>();
  auto device = trained.empty() ? at::Device(at::kCPU) : trained.front().device();
  if (name == "operators" || !device.is_cuda()) return std::make_unique<step::PlainRunner>();
  if (const auto* library = cuda::library())
    return std::unique_ptr<step::StepRunner>(library->make_graph_runner(device.index()));
  return std::make_unique<step::PlainRunner>(cuda::why_no_library());
}

// new CompiledStep(optimizer, trained, locked, clipGradNorm | undefined, runner)
class CompiledStep : public Napi::ObjectWrap<CompiledStep> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "CompiledStep",
        {InstanceMethod("run", &CompiledStep::run), InstanceMethod("report", &CompiledStep::report),
         InstanceMethod("release", &CompiledStep::release)});
  }

  explicit CompiledStep(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<CompiledStep>(info), lane_(Environment::of(info.Env()).jobs, /*most_threads=*/1) {
    guard(info.Env(), [&] {
      auto optimizer = info[0].As<Napi::Object>();
      update_ = optimizer.Get("update")
                    .As<Napi::Function>()
                    .Call(optimizer, {})
                    .As<Napi::External<optim::Update>>()
                    .Data();
      optimizer_ = Napi::Persistent(optimizer);
      trained_ = to_tensors(info[1], "trained");
      locked_ = to_handles(info[2]);
      if (!info[3].IsUndefined()) clip_norm_ = to_double(info[3], "clipGradNorm");
      runner_ = make_runner(to_text(info[4], "runner"), trained_);
    });
  }

 private:
  class Job;

  // run(recording, batch) -> Promise<losses>
  Napi::Value run(const Napi::CallbackInfo& info);
  // report() -> { captures, replays, reason | undefined, sideStream | undefined }
  Napi::Value report(const Napi::CallbackInfo& info);
  // release(): graphs, and the memory that they hold
  Napi::Value release(const Napi::CallbackInfo& info);

  optim::Update* update_ = nullptr;
  Napi::ObjectReference optimizer_;  // owns update_
  Tensors trained_;
  std::vector<Handle> locked_;
  optional<double> clip_norm_;
  std::unique_ptr<step::StepRunner> runner_;
  // libtorch's OpenMP keeps a team of threads for each thread that computes: training has one of its own, not
  // whichever thread of a pool is free.
  Lane lane_;
  bool is_running_ = false;
};

class CompiledStep::Job final : public Task {
 public:
  Job(Napi::Env env, CompiledStep& owner, Napi::Object recording, Tensors batch)
      : result(Napi::Promise::Deferred::New(env)),
        owner_(owner),
        recording_(*RecordingObject::Unwrap(recording)),
        batch_(std::move(batch)),
        threads_(at::get_num_threads()) {
    keep_.Reset(owner.Value(), 1);
    keep_recording_.Reset(recording, 1);
    in_use_.emplace(Environment::of(env).tensors, owner);
  }

  Napi::Promise::Deferred result;

  void run() noexcept override {
    try {
      train();
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  void settle(Napi::Env env) noexcept override {
    in_use_.reset();
    alambic::settle(env, result, [&] {
      if (error_) std::rethrow_exception(error_);
      auto values = Napi::Array::New(env, losses_.size());
      for (uint32_t i = 0; i < losses_.size(); i++) values.Set(i, losses_[i]);
      return values;
    });
  }

 private:
  // What JavaScript must not touch meanwhile.
  struct InUse {
    InUse(HandleTable& table, CompiledStep& owner)
        : tensors(table, owner.locked_), step(owner.is_running_), optimizer(owner.update_->is_busy) {}
    Locked tensors;
    Raised step, optimizer;
  };

  void train() {
    TeamRelease at_end;
    // How many threads an operator takes is a matter of the thread that calls it.
    if (at::get_num_threads() != threads_) at::set_num_threads(threads_);
    step::TrainingStep step({recording_.id(), [this](const Tensors& batch) { return recording_.run(batch); },
                             recording_.captured(), recording_.has_side_part()},
                            *owner_.update_, owner_.trained_, owner_.clip_norm_);
    losses_ = owner_.runner_->run(step, batch_);
    batch_.clear();
  }

  CompiledStep& owner_;
  RecordingObject& recording_;
  Napi::ObjectReference keep_, keep_recording_;
  Tensors batch_;
  int threads_;
  std::optional<InUse> in_use_;  // after what it refers to
  std::vector<double> losses_;
  std::exception_ptr error_;
};

Napi::Value CompiledStep::run(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    if (is_running_) fail("ERR_BUSY", "the step before is still running: wait for it");
    if (update_->is_busy) fail("ERR_BUSY", "the optimizer is used by another compiled step: wait for it");
    auto job =
        std::make_unique<Job>(info.Env(), *this, info[0].As<Napi::Object>(), to_tensors(info[1], "batch"));
    auto promise = job->result.Promise();
    release_thread_team();
    lane_.start(std::move(job));
    return promise;
  });
}

Napi::Value CompiledStep::report(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    if (is_running_) fail("ERR_BUSY", "a step is running: wait for it");
    auto report = runner_ ? runner_->report() : step::RunnerReport{};
    auto object = Napi::Object::New(info.Env());
    object.Set("captures", report.captures);
    object.Set("replays", report.replays);
    if (!report.obstacle.empty()) object.Set("reason", report.obstacle);
    if (report.seconds_in_line > 0) {
      auto side = Napi::Object::New(info.Env());
      side.Set("used", report.is_beside);
      side.Set("beside", report.seconds_beside * 1000);
      side.Set("inLine", report.seconds_in_line * 1000);
      object.Set("sideStream", side);
    }
    return object;
  });
}

Napi::Value CompiledStep::release(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    if (is_running_) fail("ERR_BUSY", "a step is running: wait for it");
    runner_ = std::make_unique<step::PlainRunner>();
    return info.Env().Undefined();
  });
}

}  // namespace

void export_compiled_step(Napi::Env env, Napi::Object exports) {
  exports.Set("CompiledStep", CompiledStep::define(env));
}

}  // namespace alambic
