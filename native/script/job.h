// Work off the JavaScript thread, as a promise.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <napi.h>

#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "compat.h"
#include "environment.h"
#include "errors.h"
#include "threads/jobs.h"
#include "threads/thread_team.h"

namespace alambic {

// `work()` runs on a thread of the environment's pool, with the grad mode and the number of threads of the
// thread that asked; `finish(env, result)` runs back in JavaScript and makes the promise's value.
template <typename Result>
class Job final : public Task {
 public:
  using Work = std::function<Result()>;
  using Finish = std::function<Napi::Value(Napi::Env, Result&)>;

  static Napi::Promise start(Napi::Env env, Work work, Finish finish) {
    std::unique_ptr<Job> job(new Job(env, std::move(work), std::move(finish)));
    auto promise = job->deferred_.Promise();
    release_thread_team();
    Environment::of(env).jobs.pool.start(std::move(job));
    return promise;
  }

  void run() noexcept override {
    TeamRelease at_end;
    try {
      if (at::get_num_threads() != threads_) at::set_num_threads(threads_);
      at::ThreadLocalStateGuard guard(state_);
      result_ = work_();
    } catch (...) {
      exception_ = std::current_exception();
    }
  }

  void settle(Napi::Env env) noexcept override {
    alambic::settle(env, deferred_, [&] {
      if (exception_) std::rethrow_exception(exception_);
      return finish_(env, *result_);
    });
  }

 private:
  Job(Napi::Env env, Work work, Finish finish)
      : deferred_(Napi::Promise::Deferred::New(env)),
        threads_(at::get_num_threads()),
        work_(std::move(work)),
        finish_(std::move(finish)) {}

  Napi::Promise::Deferred deferred_;
  at::ThreadLocalState state_;
  int threads_;
  Work work_;
  Finish finish_;
  optional<Result> result_;
  std::exception_ptr exception_;
};

}  // namespace alambic
