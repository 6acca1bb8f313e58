#include "autograd/tensor_hooks.h"

#include <ATen/ATen.h>

#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "environment.h"
#include "errors.h"
#include "tensors/values.h"
#include "trace/recorder.h"

namespace alambic {

namespace {

thread_local int backward_depth = 0;

// The function of JavaScript that calls hooks by their number. Hooks outlive it where other threads hold
// their tensors.
struct Runner {
  napi_env env;
  napi_ref function = nullptr;
  std::thread::id thread = std::this_thread::get_id();
  bool is_alive = true;  // read and written by its own thread only
  std::mutex mutex;
  std::vector<double> forgotten;  // numbers of hooks whose tensors are gone; under the mutex
};

thread_local std::shared_ptr<Runner> runner_of_thread;

void end_runner(void* data) {
  std::unique_ptr<std::shared_ptr<Runner>> runner(static_cast<std::shared_ptr<Runner>*>(data));
  (*runner)->is_alive = false;
  napi_delete_reference((*runner)->env, (*runner)->function);
  if (runner_of_thread == *runner) runner_of_thread.reset();
}

std::shared_ptr<Runner> runner_for(napi_env env, napi_value function) {
  if (runner_of_thread && runner_of_thread->env == env) return runner_of_thread;
  auto runner = std::make_shared<Runner>();
  runner->env = env;
  if (napi_create_reference(env, function, 1, &runner->function) != napi_ok)
    fail("ERR_ARGUMENT", "registerHook: expected the function that runs hooks");
  napi_add_env_cleanup_hook(env, end_runner, new std::shared_ptr<Runner>(runner));
  runner_of_thread = runner;
  return runner;
}

// A hook as autograd holds it. When it goes, its number is left for JavaScript to forget.
class Hook {
 public:
  Hook(std::shared_ptr<Runner> runner, double number) : runner_(std::move(runner)), number_(number) {}
  ~Hook() {
    std::lock_guard<std::mutex> lock(runner_->mutex);
    runner_->forgotten.push_back(number_);
  }
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;

  // The gradient to go on with; undefined where it stays.
  at::Tensor run(const at::Tensor& gradient) const {
    if (!gradient.defined()) return {};
    if (std::this_thread::get_id() != runner_->thread || !runner_->is_alive)
      fail("ERR_OTHER_THREAD",
           "a hook of a tensor runs on its own JavaScript thread only: not in a compiled step, nor where "
           "libtorch computes gradients in a thread of its own, as on GPUs");
    if (backward_depth == 0) fail("ERR_AUTOGRAD", "hooks of tensors run in backward() and grad() only");
    return call(gradient);
  }

 private:
  at::Tensor call(const at::Tensor& gradient) const {
    auto env = runner_->env;
    auto& environment = Environment::of(env);
    auto handle = static_cast<double>(environment.adopt(gradient));
    napi_handle_scope scope = nullptr;
    napi_value function = nullptr, global = nullptr, result = nullptr, arguments[2] = {};
    double replacement = -1;
    bool is_called = napi_open_handle_scope(env, &scope) == napi_ok &&
                     napi_get_reference_value(env, runner_->function, &function) == napi_ok &&
                     napi_get_global(env, &global) == napi_ok &&
                     napi_create_double(env, number_, &arguments[0]) == napi_ok &&
                     napi_create_double(env, handle, &arguments[1]) == napi_ok &&
                     napi_call_function(env, global, function, 2, arguments, &result) == napi_ok &&
                     napi_get_value_double(env, result, &replacement) == napi_ok;
    if (scope != nullptr) napi_close_handle_scope(env, scope);
    if (!is_called || replacement < 0) fail("ERR_AUTOGRAD", "a hook of a tensor failed");
    if (replacement == 0) return {};
    const auto& given = environment.tensors.get(static_cast<Handle>(replacement));
    if (given.sizes() != gradient.sizes() || given.scalar_type() != gradient.scalar_type() ||
        given.device() != gradient.device())
      fail("ERR_AUTOGRAD", "a hook of a tensor has to return a gradient like the one it got: expected ",
           describe(gradient), ", got ", describe(given));
    return given;
  }

  std::shared_ptr<Runner> runner_;
  double number_;
};

// registerHook(tensor, number of the hook, runner) -> its position among the tensor's hooks
Napi::Value register_hook(const Napi::CallbackInfo& info) {
  trace::refuse_while_recording("registerHook");
  auto tensor = to_tensor(info[0]);
  if (!tensor.requires_grad())
    fail("ERR_AUTOGRAD", "registerHook: expected a tensor that requires a gradient, got ", describe(tensor));
  auto hook =
      std::make_shared<Hook>(runner_for(info.Env(), info[2]), to_double(info[1], "number of the hook"));
  auto position =
      tensor.register_hook([hook](const at::Tensor& gradient) -> at::Tensor { return hook->run(gradient); });
  return Napi::Number::New(info.Env(), position);
}

Napi::Value remove_hook(const Napi::CallbackInfo& info) {
  to_tensor(info[0]).remove_hook(static_cast<unsigned>(to_integer(info[1], "position")));
  return info.Env().Undefined();
}

// forgottenHooks() -> numbers of hooks whose tensors are gone, each told once
Napi::Value forgotten_hooks(const Napi::CallbackInfo& info) {
  std::vector<double> numbers;
  if (runner_of_thread) {
    std::lock_guard<std::mutex> lock(runner_of_thread->mutex);
    numbers.swap(runner_of_thread->forgotten);
  }
  auto array = Napi::Array::New(info.Env(), numbers.size());
  for (uint32_t i = 0; i < numbers.size(); i++) array.Set(i, numbers[i]);
  return array;
}

}  // namespace

HooksMayRun::HooksMayRun() { backward_depth++; }
HooksMayRun::~HooksMayRun() { backward_depth--; }

void export_tensor_hooks(Napi::Env env, Napi::Object exports) {
  exports.Set("registerHook", Napi::Function::New<guarded<register_hook>>(env));
  exports.Set("removeHook", Napi::Function::New<guarded<remove_hook>>(env));
  exports.Set("forgottenHooks", Napi::Function::New<guarded<forgotten_hooks>>(env));
}

}  // namespace alambic
