#include "system/warnings.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "compat.h"
#include "errors.h"
#include "tensors/values.h"

namespace alambic {

namespace {

// What one environment has not shown yet, and how it is woken. All members but `wakes` are guarded by
// `Listeners::mutex`; `is_referenced` belongs to the environment's thread.
struct Listener {
  napi_env env;
  napi_threadsafe_function wake;
  std::vector<std::string> waiting;
  bool is_referenced = false;
};

// Set while the thread has an environment.
thread_local Listener* own_listener = nullptr;

class Listeners {
 public:
  void add(Listener* listener) {
    std::lock_guard<std::mutex> lock(mutex_);
    all_.push_back(listener);
  }

  void remove(Listener* listener) {
    std::lock_guard<std::mutex> lock(mutex_);
    all_.erase(std::remove(all_.begin(), all_.end(), listener), all_.end());
  }

  // From any thread. A text is told once in the life of the process, unless `warn_always`; without a listener
  // it is not taken.
  bool tell(const std::string& text) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (all_.empty()) return false;
    if (told_.size() >= most_texts) told_.clear();
    if (!told_.insert(text).second && !compat::warns_always()) return true;
    auto* listener = own_listener != nullptr ? own_listener : all_.front();
    listener->waiting.push_back(text);
    // A program without anything else to do would end before the warning is seen. Only the environment's own
    // thread may hold the event loop; work in other threads holds it by itself.
    if (listener == own_listener && !listener->is_referenced)
      listener->is_referenced = napi_ref_threadsafe_function(listener->env, listener->wake) == napi_ok;
    napi_call_threadsafe_function(listener->wake, nullptr, napi_tsfn_nonblocking);
    return true;
  }

  std::vector<std::string> take(Listener& listener) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(listener.is_referenced, false))
      napi_unref_threadsafe_function(listener.env, listener.wake);
    return std::exchange(listener.waiting, {});
  }

 private:
  // Texts may hold sizes and numbers: what was told is not remembered for ever.
  static constexpr size_t most_texts = 1000;
  std::mutex mutex_;
  std::vector<Listener*> all_;
  std::unordered_set<std::string> told_;
};

// Never destroyed: threads of libtorch may warn to the very end.
Listeners& listeners() {
  static auto* all = new Listeners();
  return *all;
}

class Handler final : public c10::WarningHandler {
 public:
#if ALAMBIC_TORCH_AT_LEAST(2, 0)
  void process(const c10::Warning& warning) override {
    if (!listeners().tell(warning.msg())) c10::WarningHandler::process(warning);
  }
#else
  void process(const c10::SourceLocation& location, const std::string& text, const bool verbatim) override {
    if (!listeners().tell(text)) c10::WarningHandler::process(location, text, verbatim);
  }
#endif
};

void stop_listening(void* data) {
  auto* listener = static_cast<Listener*>(data);
  listeners().remove(listener);
  own_listener = nullptr;
  napi_release_threadsafe_function(listener->wake, napi_tsfn_abort);
  delete listener;
}

// onWarning(wake): `wake` is called in a turn of the event loop after libtorch warned; takeWarnings() has
// what it said.
Napi::Value on_warning(const Napi::CallbackInfo& info) {
  napi_env env = info.Env();
  if (own_listener != nullptr) return info.Env().Undefined();
  napi_threadsafe_function wake;
  auto status =
      napi_create_threadsafe_function(env, info[0], nullptr, Napi::String::New(env, "alambic:warning"), 0, 1,
                                      nullptr, nullptr, nullptr, nullptr, &wake);
  if (status != napi_ok) fail("ERR_NATIVE", "onWarning: the listener could not be made");
  napi_unref_threadsafe_function(env, wake);
  own_listener = new Listener{env, wake, {}};
  listeners().add(own_listener);
  napi_add_env_cleanup_hook(env, stop_listening, own_listener);
  listen_to_warnings_here();
  return info.Env().Undefined();
}

// takeWarnings() -> texts
Napi::Value take_warnings(const Napi::CallbackInfo& info) {
  auto texts = own_listener != nullptr ? listeners().take(*own_listener) : std::vector<std::string>{};
  auto array = Napi::Array::New(info.Env(), texts.size());
  for (uint32_t i = 0; i < texts.size(); i++) array.Set(i, Napi::String::New(info.Env(), texts[i]));
  return array;
}

// setWarnAlways(always): what libtorch says once by default, it says each time.
Napi::Value set_warn_always(const Napi::CallbackInfo& info) {
  compat::set_warns_always(to_bool(info[0], "warnAlways"));
  return info.Env().Undefined();
}

Napi::Value warns_always(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), compat::warns_always());
}

}  // namespace

void listen_to_warnings_here() {
  static auto* handler = new Handler();  // never destroyed: threads point to it
  compat::set_warning_handler(handler);
}

void export_warnings(Napi::Env env, Napi::Object exports) {
  exports.Set("onWarning", Napi::Function::New<guarded<on_warning>>(env));
  exports.Set("takeWarnings", Napi::Function::New<guarded<take_warnings>>(env));
  exports.Set("setWarnAlways", Napi::Function::New<guarded<set_warn_always>>(env));
  exports.Set("warnsAlways", Napi::Function::New<guarded<warns_always>>(env));
}

}  // namespace alambic
